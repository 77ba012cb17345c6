package probe

import (
	"strings"
	"testing"

	"yumen/policy"
)

// The block takes the place of the entry that was probed: what is read from it is
// that entry in the dialect that was found.
func TestBlockKeepsEveryKeyOfTheEntryThatItReplaces(t *testing.T) {
	for _, keys := range []string{
		"",
		"encap: force\n    local: 192.0.2.9\n    crl: x.crl\n    send_chain: chain.crt\n    peer_certs: {sign: s.crt, enc: e.crt}",
		"encap: off\n    ike_lifetime: 90m\n    clock_skew: 0s\n    dpd: {interval: 25s, tries: 7}\n    path_probe: off\n" +
			"    children_on_ike_delete: drop\n    ike_fragmentation: true",
		"ike_lifetime: 48h\n    allow_long_lifetime: true\n    dpd: {interval: 0s}",
	} {
		text := "site: here\npeers:\n  - name: far\n    remote: 198.51.100.1\n    ca: ca.crt\n    subject: CN=far\n"
		if keys != "" {
			text += "    " + keys + "\n"
		}
		const tunnels = "tunnels: [{name: office, peer: far, local: 10.1.0.0/16, remote: 10.2.0.0/16}]\n"
		p, err := policy.Parse("before", []byte(text+tunnels))
		if err != nil {
			t.Fatal(err)
		}
		want, rep := p.Peers[0], newReport("nobody asked")
		rep.seen("sk_encoding", "c1c3c2")
		got, err := policy.Parse("block", []byte("site: here\n"+block(want, rep)+tunnels))
		if err != nil {
			t.Fatalf("%v\n%s", err, block(want, rep))
		}
		want.Dialect.SKEncoding = policy.SKC1C3C2
		want.Profile = got.Peers[0].Profile // the one that leaves the least to say
		if got.Peers[0] != want {
			t.Errorf("of %s came\n%s\n%+v\nnot %+v", strings.TrimSpace(keys), block(want, rep), got.Peers[0], want)
		}
	}
}
