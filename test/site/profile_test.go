package site_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A gateway with profile: auto answers a peer as it speaks, writes down what the
// proven session showed, and after a restart calls it in that form at once,
// although the peer now takes no other.
func TestLearnedDialectOutlivesTheDaemon(t *testing.T) {
	t.Parallel()
	const spoken = "ike_sm4_id: 127, sk_encoding: c1c2c3, qm_hash: std-full"
	s := newTwoSites(t)
	a, b := endA(), endB()
	a.peerKeys = ", profile: auto, dialect: {initiate: them}"
	a.tunnelKeys, b.tunnelKeys = b.tunnelKeys, a.tunnelKeys
	b.peerKeys = ", dialect: {" + spoken + "}"
	s.run(a, b)
	s.waitUp(s.A, s.B)
	s.pass(s.Flows()...)
	file := filepath.Join(s.A.Dir, "state", "dialects.json")
	s.eventually("the dialect is written down", 10*time.Second, func() error {
		if text, err := os.ReadFile(file); err != nil || !strings.Contains(string(text), "{"+spoken+"}") {
			return fmt.Errorf("%v: %s", err, text)
		}
		return nil
	})
	text, err := s.A.Command("status")
	for _, want := range []string{"deviation form of the envelope: sk_encoding: c1c2c3",
		"to make that explicit in the peer entry: profile: ", "dialect: {" + spoken + "}"} {
		if err != nil || !strings.Contains(text, want) {
			s.Errorf("status lacks %q: %v\n%s", want, err, text)
		}
	}
	s.stop(s.A, s.B)

	a, b = endA(), endB()
	a.peerKeys = ", profile: auto"
	b.peerKeys = ", dialect: {" + spoken + ", accept: exact, initiate: them}"
	s.run(a, b)
	s.waitUp(s.A, s.B)
	s.pass(s.Flows()...)
	s.stop(s.A, s.B)

	// A file that cannot be read is told, and stops nothing.
	s.need(os.WriteFile(file, []byte("{"), 0o600))
	b.peerKeys = ""
	s.run(a, b)
	s.waitUp(s.A, s.B)
	s.stop(s.A, s.B)
	if log, err := os.ReadFile(filepath.Join(s.A.Dir, "yumen.log")); err != nil || !strings.Contains(string(log), "learned afresh") {
		s.Errorf("the log says nothing of the bad file: %v", err)
	}
}
