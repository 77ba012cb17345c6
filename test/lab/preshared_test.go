package lab

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"yumen/ike"
	"yumen/ike/wire"
	"yumen/policy"
)

// keyed is a lab of two ends with a pre-shared key.
func keyed(suite policy.IKESuite, change func(i, r *Site)) *Lab {
	i, r := members().Pair()
	Plain(suite, "a key of both ends", &i, &r)
	if change != nil {
		change(&i, &r)
	}
	return New(1, i, r)
}

func eachSuite(t *testing.T, f func(t *testing.T, s policy.IKESuite)) {
	for _, s := range []policy.IKESuite{policy.AESSHA256, policy.SM4SM3} {
		t.Run(s.String(), func(t *testing.T) { f(t, s) })
	}
}

func TestPreSharedKeyConnectsUnderHeaderOneDotZero(t *testing.T) {
	eachSuite(t, func(t *testing.T, suite policy.IKESuite) {
		l := keyed(suite, nil)
		var sequence []string
		l.Hook = func(p Packet) []Packet {
			h, _ := wire.ParseHeader(p.Data)
			if p.Label != "esp" {
				sequence = append(sequence, fmt.Sprintf("%s %02x %v", p.Label, h.Version, h.Next))
			}
			return []Packet{p}
		}
		l.Run(time.Minute)
		want := "main 1 10 SA, main 2 10 SA, main 3 10 KE, main 4 10 KE, main 5 10 ID, main 6 10 ID"
		if got := strings.Join(sequence[:min(6, len(sequence))], ", "); got != want {
			t.Errorf("messages %s, want %s", got, want)
		}
		for _, g := range l.gateways {
			st := g.Engine.Status()
			if len(st.Sessions) != 1 || st.Tunnels[0].State != "up" || len(l.Faults) > 0 {
				t.Fatalf("%s: %+v %v\n%s", g.Name, st, l.Faults, l.Story.String())
			}
			s := st.Sessions[0]
			if s.NonGM != policy.ProfileRFC2409 || s.Version != wire.Version10 || !s.CertExpires.IsZero() ||
				s.RemoteName != g.Peer().Remote.Addr.String() || s.LocalName != g.Addr.String() {
				t.Errorf("%s: status %+v", g.Name, s)
			}
			if c := st.Tunnels[0].Children[0]; c.Suite != g.Tunnel().Suites[0] || c.Suite == policy.AESCBCHMACSHA256 && c.ICVBits != 128 {
				t.Errorf("%s: %v with an ICV of %d bits", g.Name, c.Suite, c.ICVBits)
			}
		}
	})
}

// Nothing of what both ends must share may differ.
func TestPreSharedPeersThatDifferAreRefused(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(i, r *Site)
		by     string
		want   ike.Reason
	}{
		{"another key", func(i, _ *Site) { i.Key = []byte("another key") }, "r", ike.BadHash},
		{"another suite", func(i, _ *Site) { i.Peer().PreShared.Suite = policy.SM4SM3 }, "r", ike.NoProposal},
		{"another name of the initiator", func(i, _ *Site) { i.Peer().PreShared.LocalID = "gw.example" }, "r", ike.BadID},
		{"another name of the responder", func(i, _ *Site) { i.Peer().PreShared.RemoteID = "gw.example" }, "i", ike.BadID},
		{"a responder of the standard", func(_, r *Site) { *r = standard(r.Name) }, "r", ike.BadVersion},
		{"an initiator of the standard", func(i, _ *Site) { *i = standard(i.Name) }, "r", ike.BadVersion},
		{"another suite of ESP", func(i, _ *Site) { i.Tunnel().Suites = []policy.Suite{policy.SM4CBCHMACSM3} }, "r", ike.NoSuite},
	} {
		l := keyed(policy.AESSHA256, c.change)
		reasons := l.listen(c.by)
		l.Run(time.Minute)
		if _, up := l.Gateway("r").Plane.InUse("office"); up {
			t.Errorf("%s: connected", c.name)
		}
		found := false
		for _, r := range *reasons {
			found = found || r == c.want
		}
		if !found {
			t.Errorf("%s: %s says %v, want %s", c.name, c.by, *reasons, c.want)
		}
	}
}

// standard is one end of a pair of the standard.
func standard(name string) Site {
	i, r := members().Pair()
	if name == "i" {
		return i
	}
	return r
}

func TestPreSharedPeerBehindNATMovesToPort4500(t *testing.T) {
	eachSuite(t, func(t *testing.T, suite policy.IKESuite) {
		l := keyed(suite, behindNAT)
		l.Run(time.Minute)
		r := l.Gateway("r").Engine.Status()
		if len(r.Sessions) != 1 || r.Sessions[0].NAT != "remote" || r.Sessions[0].Local.Port() != 4500 || !r.Tunnels[0].Children[0].Path.Encap {
			t.Errorf("%+v\n%s", r, l.Story.String())
		}
		if i := l.Gateway("i").Engine.Status(); i.Sessions[0].NAT != "local" {
			t.Errorf("i: nat %s", i.Sessions[0].NAT)
		}
	})
}

// A key that is replaced ends what stands on the old one.
func TestReloadWithAnotherKeyEndsTheSession(t *testing.T) {
	l := keyed(policy.AESSHA256, nil)
	l.Run(10 * time.Second)
	for _, name := range []string{"i", "r"} {
		g := l.Gateway(name)
		before := g.Engine.Status().Sessions[0].CookieI
		g.Feed(ike.Reload{Config: g.Config()})
		if st := g.Engine.Status(); len(st.Sessions) != 1 || st.Sessions[0].CookieI != before {
			t.Fatalf("%s: a reload with the same key ended the session", name)
		}
	}
	for _, name := range []string{"i", "r"} {
		g := l.Gateway(name)
		g.Key = []byte("the next key")
		g.Feed(ike.Reload{Config: g.Config()})
		if st := g.Engine.Status(); len(st.Sessions) != 0 || len(st.Tunnels[0].Children) != 0 {
			t.Fatalf("%s: %+v", name, st)
		}
	}
	l.Run(time.Minute)
	if st := l.Gateway("r").Engine.Status(); len(st.Sessions) != 1 || st.Tunnels[0].State != "up" {
		t.Errorf("not up under the next key: %+v\n%s", st, l.Story.String())
	}
}

// A public value that proves nothing is never raised to our exponent.
func TestForgedPublicValueHasNoEffect(t *testing.T) {
	for _, label := range []string{"main 3", "main 4"} {
		l := keyed(policy.AESSHA256, nil)
		forged := 0
		l.Hook = func(p Packet) []Packet {
			if p.Label != label || forged > 0 {
				return []Packet{p}
			}
			forged++
			bad := p
			bad.Data = append([]byte(nil), p.Data...)
			clear(bad.Data[wire.HeaderLen+4 : wire.HeaderLen+4+256])
			return []Packet{bad, p}
		}
		l.Run(time.Minute)
		if _, up := l.Gateway("i").Plane.InUse("office"); !up || forged != 1 {
			t.Errorf("%s: up %v after %d forged ones\n%s", label, up, forged, l.Story.String())
		}
	}
}

// The state machine survives storms with this method, too.
func TestStormsWithPreSharedKeysEndWithOneOfEach(t *testing.T) {
	for seed := range uint64(60) {
		s := NewStorm(members(), 770000+seed, func(i, r *Site) {
			Plain(policy.IKESuite(seed%2), "storm", i, r)
			if r.Peer().Remote.Any {
				r.Peer().PreShared.RemoteID = netip.MustParseAddr("172.16.0.5").String()
			}
		})
		if wrong := s.Rage(); len(wrong) > 0 {
			t.Errorf("%v: %q", s, wrong)
		}
	}
}
