package lab

import (
	"testing"
	"time"

	"yumen/esp"
	"yumen/ike"
)

// other are two gateways that do not know each other for Yumens, up for a while.
func other(t *testing.T) *Lab {
	t.Helper()
	i, r := members().Pair()
	i.Peer().Dialect.NoOwnVID, r.Peer().Dialect.NoOwnVID = true, true
	l := New(1, i, r)
	l.Story.Off = true
	l.Run(5 * time.Second)
	if !l.bothUp() {
		t.Fatal("not up")
	}
	return l
}

func (l *Lab) sends(g string) esp.ChildID {
	c, _ := l.Gateway(g).Plane.InUse("office")
	return c.ID
}

// Peers of other makers may receive on a child only once they have read QM3. While
// there is an old one to send on, the new one is used when they send on it, or after
// a moment; a lost QM3 is waited for.
func TestWhoRenewsGivesAPeerOfAnotherMakeAMomentToReadQM3(t *testing.T) {
	for _, x := range []struct {
		name  string
		hook  func(lost *int) func(Packet) []Packet
		after time.Duration // when the new one is not in use yet; 0: it is at once
		then  time.Duration // when it is
	}{
		{"silent", func(*int) func(Packet) []Packet {
			return func(p Packet) []Packet { return drop(p.Label == "esp" && p.From == "r", p) }
		}, 900 * time.Millisecond, 200 * time.Millisecond},
		{"sends on it", func(*int) func(Packet) []Packet {
			return func(p Packet) []Packet { return []Packet{p} }
		}, 0, 500 * time.Millisecond},
		{"QM3 lost", func(lost *int) func(Packet) []Packet {
			return func(p Packet) []Packet {
				if p.Label == "quick 3" && *lost == 0 {
					*lost++
					return nil
				}
				return drop(p.Label == "esp" && p.From == "r", p)
			}
		}, 900 * time.Millisecond, 6 * time.Second},
	} {
		t.Run(x.name, func(t *testing.T) {
			l, lost := other(t), 0
			old := l.sends("i")
			l.Hook = x.hook(&lost)
			l.Gateway("i").Feed(ike.Rekey{Tunnel: "office"})
			l.Run(x.after)
			if x.after > 0 && l.sends("i") != old {
				t.Error("used before the peer can be ready")
			}
			l.Run(x.then)
			if l.sends("i") == old || !l.bothUp() {
				t.Error("not used")
			}
		})
	}
}

func drop(yes bool, p Packet) []Packet {
	if yes {
		return nil
	}
	return []Packet{p}
}
