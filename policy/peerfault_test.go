package policy_test

import (
	"errors"
	"strings"
	"testing"

	"yumen/policy"
)

// A fault that is found after reading stands where its key does; of a key that is not
// written, where the entry does.
func TestFaultsOfFilesStandAtTheirKey(t *testing.T) {
	p := parse(t, base)
	lines := strings.Split(base, "\n")
	for key, written := range map[string]string{"ca": "ca:", "subject": "subject:", "crl": "crl:", "send_chain": "name:"} {
		got := p.PeerFault(p.Peers[0].Name, key, errors.New("gone"))
		if got.Path != "peers[0]."+key || got.Line == 0 || !strings.Contains(lines[got.Line-1], written) || !strings.Contains(got.Problem, "gone") {
			t.Errorf("%s: %v", key, got)
		}
	}
	if got := p.PeerFault("nobody", "ca", errors.New("gone")); got.Line != 0 || got.Path != "" {
		t.Errorf("a peer that is not there: %v", got)
	}
	built := &policy.Policy{Peers: p.Peers}
	if got := built.PeerFault(p.Peers[0].Name, "ca", errors.New("gone")); got.Line != 0 || got.Path != "peers[0].ca" {
		t.Errorf("a policy built in code: %v", got)
	}
}
