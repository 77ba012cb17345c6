package policy_test

import (
	"fmt"
	"strings"
	"testing"
)

func TestEveryPlaceholderOfADraftIsNamed(t *testing.T) {
	if left := parse(t, base).Unfilled(); len(left) != 0 {
		t.Fatalf("a finished policy has %v", left)
	}
	p := parse(t, base)
	p.Peers[0].CA, p.Peers[0].Remote.FQDN, p.Peers[0].Dialect.PeerID = "FILL-IN.crt", "fill-in.invalid", "FILL-IN"
	p.Peers[0].Identity.Subject, p.Tunnels[0].Name = "CN=FILL-IN", "FILL-IN-1"
	said := fmt.Sprint(p.Unfilled())
	for _, want := range []string{": ca:", ": remote:", "dialect.peer_id:", ": subject:", `tunnel "FILL-IN-1"`} {
		if !strings.Contains(said, want) {
			t.Errorf("%q is not told: %s", want, said)
		}
	}
}
