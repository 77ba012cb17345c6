package trust

import (
	"errors"
	"fmt"
	"testing"

	"yumen/policy"
)

// Every fault of an entry is told at once, each with its key.
func TestFaultsOfAnEntryAreToldAtOnceByKey(t *testing.T) {
	root := newCA(t, "CN=root", nil)
	for want, change := range map[string]func(*policy.Peer) (anchor, crl []byte){
		"[clock_skew sign_subject enc_subject ca]": func(p *policy.Peer) ([]byte, []byte) {
			p.ClockSkew, p.Identity = -1, policy.Identity{SignSubject: "XX=foo", EncSubject: "no name"}
			return nil, []byte("no CRL") // which nobody can judge without an authority
		},
		"[sign_fingerprint enc_fingerprint crl]": func(p *policy.Peer) ([]byte, []byte) {
			p.Identity = policy.Identity{SignFingerprint: "1", EncFingerprint: "2"}
			return root.pem(), []byte("no CRL")
		},
	} {
		p := peerNamed("")
		anchor, crl := change(&p)
		_, err := NewVerifier(p, anchor, crl)
		var faults Faults
		var keys []string
		if errors.As(err, &faults) {
			for _, f := range faults {
				keys = append(keys, f.Key)
			}
		}
		if fmt.Sprint(keys) != want {
			t.Errorf("told %v, want %s: %v", keys, want, err)
		}
	}
}
