package interop_test

import (
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"yumen/test/site"
)

// standardPolicy lets gateway b call us by the standard.
const standardPolicy = `site: a
peers:
  - name: b
    remote: ` + site.GateB4 + `
    ca: ca.crt
    subject: "CN=b,O=Yumen Lab,C=CN"
tunnels:
  - name: office
    peer: b
    local: 10.1.0.0/24
    remote: 10.2.0.0/24
    start: respond
`

// The transform of GB/T 36968: SM4 (129), SM3 (20), digital envelope (10), SM2 (2).
const gmTransform = "(1=129,2=20,3=10,20=2,11=1,12=28800)"

// scan runs ike-scan in gateway b's place against ours.
func (s *stage) scan(args ...string) string {
	s.Helper()
	out, err := s.B.Run(append(append([]string{"ike-scan", "--multiline", "--retry=1", "--timeout=3000"}, args...), site.GateA4)...)
	s.need(err)
	return out
}

// says wants lines in what ike-scan printed.
func (s *stage) says(out string, want ...string) {
	s.Helper()
	for _, line := range want {
		if !strings.Contains(out, line) {
			s.Errorf("ike-scan does not print %q:\n%s", line, out)
		}
	}
}

// derLen is the length of a certificate of gateway a as it goes over the wire.
func (s *stage) derLen(name string) int {
	s.Helper()
	b, err := os.ReadFile(filepath.Join(s.A.Dir, name))
	s.need(err)
	block, _ := pem.Decode(b)
	if block == nil {
		s.Fatalf("%s is no PEM", name)
	}
	return len(block.Bytes)
}

func TestIKEScanReadsTheAnswersOfTheStandardsResponder(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	if _, err := exec.LookPath("ike-scan"); err != nil {
		s.Skip("SKIP ike-scan: it is not installed")
	}
	s.need(s.A.Configure(standardPolicy), s.A.Start(), s.A.WaitReady(10*time.Second))
	// ike-scan knows no GB/T 36968 and prints what it has no name for as numbers; it
	// takes method 10 for one that was given that number later.
	s.says(s.scan("--headerver=17", "--trans="+gmTransform),
		"Main Mode Handshake returned", "version=0x11", "SA=(Enc=129 Hash=20 Auth=ECDSA_SHA384 20=2 LifeType=Seconds LifeDuration=28800)",
		fmt.Sprintf("Certificate(Type=X.509 Certificate - Signature, Length=%d bytes)", s.derLen("sign.crt")),
		fmt.Sprintf("Certificate(Type=X.509 Certificate - Key Exchange, Length=%d bytes)", s.derLen("enc.crt")),
		"RFC 3947 NAT-T", "Dead Peer Detection v1.0")
	// The one that suits is picked from among others, and comes back as it was.
	s.says(s.scan("--headerver=17", "--trans=(1=7,14=128,2=2,3=1,4=2)", "--trans=(1=127,14=128,2=20,3=10)", "--trans="+gmTransform),
		"SA=(Enc=127 KeyLength=128 Hash=20 Auth=ECDSA_SHA384)")
	s.says(s.scan("--headerver=17", "--lifetime=none"), "NO-PROPOSAL-CHOSEN")
	s.says(s.scan("--trans="+gmTransform), "INVALID-MINOR-VERSION")
	s.says(s.scan("--headerver=32", "--trans="+gmTransform), "INVALID-MAJOR-VERSION")
	if st := s.status(); st.HalfOpen > 2 || len(st.Sessions) > 0 {
		s.Errorf("%d half open, %d sessions after scans", st.HalfOpen, len(st.Sessions))
	}
}
