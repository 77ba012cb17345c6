package site_test

import (
	"strings"
	"testing"
	"time"

	"yumen/test/site"
)

// A gateway that does not know the length of the peer's ICV learns it by the first
// packet, answers that very packet with it, and says which line makes it explicit.
func TestAnUnknownICVLengthIsLearnedFromThePeer(t *testing.T) {
	t.Parallel()
	s := newTwoSites(t)
	a, b := endA(), endB()
	a.tunnelKeys += ", icv_bits: auto"
	b.tunnelKeys += ", icv_bits: 256"
	s.run(a, b)
	s.waitUp(s.A, s.B)
	flows := s.Flows()
	for _, f := range flows { // until the peer was heard, 96 bits are sent
		back := site.Flow{From: f.To, To: f.From, FromAddr: f.ToAddr, ToAddr: f.FromAddr}
		s.eventually("the far end speaks first", 10*time.Second, back.Ping)
	}
	s.pass(flows...)
	text, err := s.A.Command("status")
	if err != nil || strings.Count(text, "to make that explicit in the tunnel entry: icv_bits: 256") != 2 || !strings.Contains(text, "HMAC_SM3_256") {
		s.Errorf("status does not tell: %v\n%s", err, text)
	}
	s.stop(s.A, s.B)
}
