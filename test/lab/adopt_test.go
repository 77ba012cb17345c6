package lab

import (
	"testing"
	"time"

	"yumen/ike"
	"yumen/policy"
)

// A gateway that begins anew with what it left in the kernel renews it soon, and
// there is no moment at which either end sends to an SA that the other has not.
func TestAdoptedChildrenCarryOnAndAreRenewed(t *testing.T) {
	for name, change := range map[string]func(i, r *Site){
		"the initiator": nil, "both start": both,
		"on demand": func(i, _ *Site) { i.Tunnel().Start = policy.StartTrap },
	} {
		for _, who := range []string{"i", "r"} {
			t.Run(name+", of them "+who, func(t *testing.T) {
				i, r := members().Pair()
				if change != nil {
					change(&i, &r)
				}
				l := New(1, i, r)
				l.Run(time.Second)
				l.Gateway("i").Start("office")
				l.Run(30 * time.Second)
				old, up := l.Gateway(who).Plane.InUse("office")
				if !up {
					t.Fatal("nothing came up")
				}
				l.Gateway(who).Resume()
				for range 9000 {
					l.Run(10 * time.Millisecond)
					l.paired(t)
				}
				now, _ := l.Gateway(who).Plane.InUse("office")
				if now.ID == old.ID {
					t.Error("the adopted child was not renewed")
				}
				for _, g := range l.gateways {
					if s := g.Engine.Status(); len(g.Plane.Installed()) != 1 || len(s.Sessions) != 1 {
						t.Errorf("%s has %d children, %d sessions", g.Name, len(g.Plane.Installed()), len(s.Sessions))
					}
				}
				for _, f := range l.Faults {
					t.Error(f)
				}
				if t.Failed() {
					t.Log(l.Story.String())
				}
			})
		}
	}
}

// paired wants each end to have what the other sends on.
func (l *Lab) paired(t *testing.T) {
	t.Helper()
	for n, g := range l.gateways {
		c, up := g.Plane.InUse("office")
		o := l.gateways[1-n]
		if _, there := o.Plane.spis[c.Out.SPI]; !up || !there {
			t.Fatalf("%v: %s sends on %08x (up %v), which %s has not\n%v", l.now, g.Name, uint32(c.Out.SPI), up, o.Name, l.Story.String())
		}
	}
}

// What the policy no longer has, or no longer allows, is removed and not adopted.
func TestAdoptionGoesByThePolicyOfNow(t *testing.T) {
	for name, change := range map[string]func(s *Site){
		"tunnel gone":     func(s *Site) { s.Tunnel().Name = "other" },
		"suite forbidden": func(s *Site) { s.Tunnel().Suites = []policy.Suite{policy.SM4GCM128} },
		"ICV changed":     func(s *Site) { s.Tunnel().ICVBits = 256 },
		"narrower":        func(s *Site) { s.Tunnel().Selector.Protocol = 17 },
		"entry changed":   func(s *Site) { s.Peer().DPD.Tries++ },
		"another CA":      func(s *Site) { s.Anchor = NewAuthority("another").PEM() },
		"revoked":         func(s *Site) { s.CRL = members().Root.CRL(members().R.Pair.Enc) },
	} {
		l := plain(1)
		l.Run(10 * time.Second)
		g := l.Gateway("i")
		old, _ := g.Plane.InUse("office")
		g.Site = g.Site.Clone()
		change(&g.Site)
		g.Resume()
		if got := g.Plane.Installed(); len(got) != 0 || old.ID == 0 {
			t.Errorf("%s: %d children stay", name, len(got))
		}
	}
	// One of a file that does not say with whom.
	l := plain(1)
	l.Run(10 * time.Second)
	g := l.Gateway("i")
	c, _ := g.Plane.InUse("office")
	plane := g.Plane
	g.Restart()
	g.Plane = plane
	g.Feed(ike.Adopt{Children: []ike.Adopted{{Child: c, Installed: l.now}}})
	if got := g.Plane.Installed(); len(got) != 0 {
		t.Errorf("a child of nobody was adopted: %d", len(got))
	}
	// One whose time is up.
	l = plain(1)
	l.Run(10 * time.Second)
	g = l.Gateway("i")
	g.Resume()
	if got := g.Plane.Installed(); len(got) != 1 {
		t.Fatalf("%d children", len(got))
	}
	l.now = l.now.Add(2 * time.Hour)
	g.Resume()
	if got := g.Plane.Installed(); len(got) != 0 {
		t.Errorf("an expired child was adopted: %d", len(got))
	}
}

// Another pre-shared key is another peer.
func TestAdoptionGoesByTheKeyOfNow(t *testing.T) {
	i, r := members().Pair()
	Plain(policy.SM4SM3, "correct horse", &i, &r)
	l := New(1, i, r)
	l.Run(10 * time.Second)
	g := l.Gateway("i")
	g.Resume()
	if got := g.Plane.Installed(); len(got) != 1 {
		t.Fatalf("%d children under the same key", len(got))
	}
	g.Site.Key = []byte("battery staple")
	g.Resume()
	if got := g.Plane.Installed(); len(got) != 0 {
		t.Errorf("%d children under another", len(got))
	}
}

// What was adopted has no session that a new revocation list could end.
func TestARevocationEndsWhatWasAdopted(t *testing.T) {
	l := plain(1)
	l.Run(10 * time.Second)
	g := l.Gateway("i")
	g.Resume()
	if s := g.Engine.Status(); len(g.Plane.Installed()) != 1 || len(s.Sessions) != 0 {
		t.Fatalf("%d children, %d sessions", len(g.Plane.Installed()), len(s.Sessions))
	}
	reasons := l.listen("i")
	g.Site = g.Site.Clone()
	g.CRL = members().Root.CRL(members().R.Pair.Sign)
	g.Feed(ike.Reload{Config: g.Config()})
	if got := g.Plane.Installed(); len(got) != 0 || len(*reasons) == 0 || (*reasons)[0] != ike.CertRevoked {
		t.Errorf("%d children stay, reasons %v", len(got), *reasons)
	}
}
