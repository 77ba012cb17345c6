package site_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"yumen/test/site"
)

// TestRefusalsAreToldWhereTheyAreKnown: whatever does not fit, nothing is set up,
// nothing inner leaves, and the end that knows the reason tells it.
func TestRefusalsAreToldWhereTheyAreKnown(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		prepare func(s *stage, a, b *end)
		atA     string // reason in the status of a, the initiator; empty: not asked
		atB     string
	}{
		{name: "the responder is of another CA", prepare: func(s *stage, a, _ *end) {
			s.need(s.foreign().Trust(s.A))
		}, atA: "certificate-unknown-ca"},
		{name: "the initiator is of another CA", prepare: func(s *stage, _, b *end) {
			s.need(s.foreign().Trust(s.B))
		}, atB: "certificate-unknown-ca"},
		{name: "the responder is revoked", prepare: func(s *stage, a, _ *end) {
			s.need(s.ca().Revoke(filepath.Join(s.A.Dir, "list.crl"), filepath.Join(s.B.Dir, "enc.crt")))
			a.peerKeys = ", crl: list.crl"
		}, atA: "certificate-revoked"},
		{name: "the initiator is revoked", prepare: func(s *stage, _, b *end) {
			s.need(s.ca().Revoke(filepath.Join(s.B.Dir, "list.crl"), filepath.Join(s.A.Dir, "sign.crt")))
			b.peerKeys = ", crl: list.crl"
		}, atB: "certificate-revoked"},
		{name: "the responder is somebody else", prepare: func(s *stage, a, _ *end) {
			a.peerKeys = ""
			a.them = "c"
		}, atA: "certificate-identity"},
		{name: "the initiator is somebody else", prepare: func(s *stage, _, b *end) {
			b.them = "c"
		}, atB: "certificate-identity"},
		{name: "other selectors", prepare: func(_ *stage, _, b *end) {
			b.edit = strings.NewReplacer("10.2.0.0/24", "10.2.0.0/23", "fd02::/64", "fd02::/63")
		}, atA: "peer-refused", atB: "no-selector"},
		{name: "other suites", prepare: func(_ *stage, a, b *end) {
			a.tunnelKeys = ", suites: [sm4gcm128]"
		}, atA: "peer-refused", atB: "no-suite"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newTwoSites(t)
			a, b := endA(), endB()
			c.prepare(s, &a, &b)
			stop := s.capture(s.Router, "to-b")
			s.run(a, b)
			s.tells(s.A, c.atA)
			s.tells(s.B, c.atB)
			s.nothingSetUp(stop)
		})
	}
}

// foreign is a CA that nobody here has certificates of.
func (s *stage) foreign() *site.CA {
	s.Helper()
	ca, err := site.NewCA(yumen, filepath.Join(s.dir, "foreign"), "Foreign Root")
	s.need(err)
	return ca
}

// ca is the one of both gateways.
func (s *stage) ca() *site.CA { return site.OpenCA(yumen, filepath.Join(s.dir, "ca")) }

// tells waits until status shows the reason of the last refusal of the peer, or of
// a tunnel, and wants the text for people and a warning in the log to do so too.
func (s *stage) tells(g *site.Gateway, reason string) {
	s.Helper()
	if reason == "" {
		return
	}
	s.eventually(fmt.Sprintf("%s tells %s", filepath.Base(g.Dir), reason), 8*time.Second, func() error {
		st := s.status(g)
		for _, r := range st.Refusals {
			if r.Reason == reason && r.Peer != "" && r.Detail != "" {
				return nil
			}
		}
		return fmt.Errorf("%+v", st.Refusals)
	})
	if text, err := g.Command("status"); err != nil || !strings.Contains(text, "last refusal: "+reason) {
		s.Errorf("yumen status: %v: %s", err, text)
	}
	log, err := os.ReadFile(filepath.Join(g.Dir, "yumen.log"))
	s.need(err)
	for _, line := range strings.Split(string(log), "\n") {
		if strings.Contains(line, "level=WARN") && strings.Contains(line, "reason="+reason+" ") {
			return
		}
	}
	s.Errorf("%s: no warning in the log gives %s", g.Dir, reason)
}

// nothingSetUp wants no child at either end, no traffic, and nothing but main and
// quick modes that led nowhere on the wire.
func (s *stage) nothingSetUp(stop func() string) {
	s.Helper()
	flows := s.Flows()
	s.refuse("after a refusal", flows...)
	for _, g := range []*site.Gateway{s.A, s.B} {
		for _, tunnel := range s.status(g).Tunnels {
			if tunnel.State == "up" || len(tunnel.Children) > 0 {
				s.Errorf("%s: %+v", g.Dir, tunnel)
			}
		}
	}
	s.stop(s.A, s.B)
	file := stop()
	s.hidden(file, flows...)
	if rows := s.tshark(file, "esp", "frame.number"); len(rows) > 0 {
		s.Errorf("%d packets of ESP", len(rows))
	}
}

// TestCertificateThatExpiresIsRefusedFromThenOn: the initiator's lasts for a few
// seconds more, and its own clock does not see it.
func TestCertificateThatExpiresIsRefusedFromThenOn(t *testing.T) {
	t.Parallel()
	s := newTwoSites(t)
	a, b := endA(), endB()
	a.tunnelKeys, b.peerKeys = ", start: respond", ", clock_skew: 0s"
	expiry := time.Now().Add(3 * time.Second)
	s.need(s.ca().Issue(s.A, "--not-after", expiry.UTC().Format(time.RFC3339)))
	stop := s.capture(s.Router, "to-b")
	s.run(a, b)
	s.answers(s.A)
	s.eventually("the certificate has expired", 10*time.Second, func() error {
		if left := time.Until(expiry); left > -time.Second {
			return fmt.Errorf("%v left", left)
		}
		return nil
	})
	_, err := s.A.Command("up", "office4")
	s.need(err)
	s.tells(s.B, "certificate-expired")
	s.nothingSetUp(stop)
	for _, order := range []string{"check", "run"} { // and its owner does not start anew with it
		if out, err := s.A.Command(order); err == nil || !strings.Contains(out, "expired") {
			s.Errorf("%s with an expired certificate: %v: %s", order, err, out)
		}
	}
}

// TestSwappedOwnCertificatesAreRefusedAtStart before anything of the machine is touched.
func TestSwappedOwnCertificatesAreRefusedAtStart(t *testing.T) {
	t.Parallel()
	s := newTwoSites(t)
	s.need(s.A.Configure(endA().policy(), "tun: yumen7"), s.swap(s.A, "crt"), s.swap(s.A, "key"))
	for _, order := range []string{"check", "run"} {
		out, err := s.A.Command(order)
		if err == nil || !strings.Contains(out, "usage") {
			s.Errorf("%s: %v: %s", order, err, out)
		}
	}
	links, err := s.A.Run("ip", "link")
	s.need(err)
	if strings.Contains(links, "yumen7") {
		s.Errorf("a device was made: %s", links)
	}
}

// swap exchanges a file of the signing pair with that of the encryption pair.
func (s *stage) swap(g *site.Gateway, ext string) error {
	sign, enc, aside := filepath.Join(g.Dir, "sign."+ext), filepath.Join(g.Dir, "enc."+ext), filepath.Join(g.Dir, "aside")
	return errors.Join(os.Rename(sign, aside), os.Rename(enc, sign), os.Rename(aside, enc))
}
