package lab

import (
	"fmt"
	"testing"
	"time"

	"yumen/ike"
	"yumen/policy"
)

// An end that does not know the length finds it out in both roles, tells it once, and
// makes the next child with it.
func TestAnUnknownICVLengthIsFoundAndKept(t *testing.T) {
	for _, bits := range []int{96, 128, 256} {
		for _, who := range []string{"i", "r"} {
			t.Run(fmt.Sprintf("%d bits, %s does not know", bits, who), func(t *testing.T) {
				i, r := members().Pair()
				i.Tunnel().ICVBits, r.Tunnel().ICVBits = bits, bits
				other, own := "i", &r
				if who == "i" {
					other, own = "r", &i
				}
				own.Tunnel().ICVBits = policy.ICVAuto
				l := New(1, i, r)
				var found []ike.Event
				l.Gateway(who).Told = func(v ike.Event) {
					if v.Kind == ike.ICVFound {
						found = append(found, v)
					}
				}
				l.Run(20 * time.Second)
				l.Gateway(other).Plane.Send("office")
				l.Run(10 * time.Second)
				line := fmt.Sprintf("icv_bits: %d", bits)
				if len(found) != 1 || found[0].ICVBits != bits || found[0].Detail != line || found[0].Tunnel != "office" {
					t.Fatalf("told %+v", found)
				}
				g := l.Gateway(who)
				if st := g.Engine.Status().Tunnels[0]; st.Explicit != line || st.Children[0].ICVBits != bits {
					t.Errorf("status %q, child of %d bits", st.Explicit, st.Children[0].ICVBits)
				}
				old, _ := g.Plane.InUse("office")
				g.Feed(ike.Rekey{Tunnel: "office"})
				l.Run(30 * time.Second)
				now, up := g.Plane.InUse("office")
				if !up || now.ID == old.ID || now.ICVBits != bits {
					t.Errorf("the next child: up %t, new %t, %d bits", up, now.ID != old.ID, now.ICVBits)
				}
				// An engine that takes the child over knows the length by it.
				g.Resume()
				l.Run(30 * time.Second)
				if now, up := g.Plane.InUse("office"); !up || now.ICVBits != bits {
					t.Errorf("after a restart: up %t, %d bits", up, now.ICVBits)
				}
				// Without a child left it is found out again: the peer may be set otherwise.
				g.Feed(ike.Stop{Tunnel: "office"})
				l.Run(time.Second)
				if st := g.Engine.Status().Tunnels[0]; st.Explicit != "" {
					t.Errorf("down, %q is kept", st.Explicit)
				}
				for _, f := range l.Faults {
					t.Error(f)
				}
			})
		}
	}
}

// What a policy pins is not found out, whatever the peer sends.
func TestAPinnedICVLengthIsNotFoundOut(t *testing.T) {
	i, r := members().Pair()
	i.Tunnel().ICVBits, r.Tunnel().ICVBits = 256, 96
	l := New(1, i, r)
	l.Run(20 * time.Second)
	l.Gateway("r").Plane.Send("office")
	l.Run(time.Second)
	g := l.Gateway("i")
	c, _ := g.Plane.InUse("office")
	if st := g.Engine.Status().Tunnels[0]; c.ICVBits != 256 || st.Explicit != "" || g.Plane.BadAuth == 0 {
		t.Errorf("child of %d bits, %q, %d refused", c.ICVBits, st.Explicit, g.Plane.BadAuth)
	}
}
