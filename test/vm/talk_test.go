package vm

import (
	"bytes"
	"testing"
	"time"

	"yumen/esp"
	"yumen/policy"
	"yumen/xfrm"
)

func TestThisKernelCarriesTheSuite(t *testing.T) {
	inside(t)
	if err := xfrm.Probe(policy.SM4CBCHMACSM3); err != nil {
		t.Fatal(err)
	}
}

// Every form between two kernels, and between the kernel and our own ESP: each
// judges the other. One generation follows the other without a stop.
func TestEveryFormPasses(t *testing.T) {
	for _, kind := range []string{kernel, user} {
		t.Run(kernel+"-"+kind, func(t *testing.T) {
			w := inside(t)
			a, b := w.open(t, false, kernel), w.open(t, true, kind)
			for n, f := range forms() {
				esp0, udp0 := w.esp.Load(), w.udp.Load()
				install(t, n, f, a, b)
				w.everyWay(t, 2)
				if t.Failed() {
					stats(t, a, b)
					t.Fatalf("%s failed", f)
				}
				wanted, unwanted := &w.esp, &w.udp
				if f.udp {
					wanted, unwanted, esp0, udp0 = unwanted, wanted, udp0, esp0
				}
				used, other := grows(wanted, esp0+16)-esp0, unwanted.Load()-udp0
				if used != 16 || other != 0 {
					t.Errorf("%s: %d packets, %d of the other encapsulation", f, used, other)
				}
				counted(t, f, n, a, b)
				remove(t, n, a, b)
			}
		})
	}
}

// counted compares the counters with the 4 packets each way of everyWay(2).
func counted(t *testing.T, f form, n int, sides ...*side) {
	t.Helper()
	for _, s := range sides {
		for i := range nets {
			u, ok := s.Usage(child(s.b, i, n, f).ID)
			if !ok || u.In.Packets != 4 || u.Out.Packets != 4 || u.In.Bytes == 0 || u.LastIn.IsZero() || time.Since(u.LastOut) > time.Minute {
				t.Errorf("%s: side b %t: usage %+v", f, s.b, u)
			}
			if want := esp.MaxInner(child(s.b, i, n, f), 1500); u.EffectiveMTU != want {
				t.Errorf("%s: effective MTU %d, want %d", f, u.EffectiveMTU, want)
			}
		}
	}
}

func stats(t *testing.T, sides ...*side) {
	t.Helper()
	for _, s := range sides {
		if p, ok := s.dataplane.(*xfrm.Plane); ok {
			all, _ := p.Stats()
			for name, n := range all {
				if n != 0 {
					t.Logf("side b %t: %s %d", s.b, name, n)
				}
			}
			t.Logf("side b %t: trouble %v", s.b, p.Trouble())
		}
	}
}

// A rekey installs on both sides, uses on both and removes the old: under traffic
// both ways not one packet is lost or repeated.
func TestRekeyUnderTrafficLosesNothing(t *testing.T) {
	for _, kind := range []string{kernel, user} {
		t.Run(kernel+"-"+kind, func(t *testing.T) {
			w := inside(t)
			a, b := w.open(t, false, kernel), w.open(t, true, kind)
			install(t, 0, form{icv: 96}, a, b)
			w.everyWay(t, 1)
			toB, toA := w.stream(t, w.ha, hostB4, 4*time.Millisecond), w.stream(t, w.hb, hostA6, 4*time.Millisecond)
			for n := 1; n <= 6; n++ {
				f := form{icv: 96, udp: n%2 == 1, esn: n%3 == 0}
				install(t, n, f, a, b)
				e := a.await(t, esp.FirstPacket, 5*time.Second)
				for e.Child < child(false, 0, n, f).ID { // of the generation before
					e = a.await(t, esp.FirstPacket, 5*time.Second)
				}
				if e.SPI != child(false, int(e.Child-1)%2, n, f).In.SPI {
					t.Errorf("generation %d: first packet on %08x", n, uint32(e.SPI))
				}
				// What our own plane sends may be under way for a while on a busy machine.
				time.Sleep(time.Second)
				remove(t, n-1, a, b)
				time.Sleep(100 * time.Millisecond)
			}
			for _, s := range []*stream{toB, toA} {
				sent, lost, repeated := w.end(s)
				if sent < 100 || lost != 0 || repeated != 0 {
					t.Errorf("to %s: sent %d, lost %d, repeated %d", s.to, sent, lost, repeated)
					stats(t, a, b)
				}
			}
		})
	}
}

func TestInstallIsUndoneHalfWay(t *testing.T) {
	w := inside(t)
	a := w.open(t, false, kernel)
	check(t, a.Install(child(false, 0, 0, form{icv: 96}), esp.State{}))
	clash := child(false, 0, 1, form{icv: 96})
	clash.Out.SPI = child(false, 0, 0, form{icv: 96}).Out.SPI
	if err := a.Install(clash, esp.State{}); err == nil {
		t.Fatal("two SAs with one SPI")
	}
	if _, ok := a.Usage(clash.ID); ok {
		t.Error("the child that failed is installed")
	}
	// Its inbound SA is gone, or this would fail.
	check(t, a.Install(child(false, 0, 1, form{icv: 96}), esp.State{}))
	if err := a.Install(child(false, 0, 1, form{icv: 96}), esp.State{}); err == nil {
		t.Error("a child was installed twice")
	}
	if err := a.Use(99); err == nil {
		t.Error("a child that is not there was used")
	}
	if s, err := a.Remove(99); err != nil || s.OutSeq != 0 {
		t.Errorf("removing what is not there: %v", err)
	}
}

// The port of NAT traversal carries IKE beside ESP.
func TestIKESharesThePort(t *testing.T) {
	w := inside(t)
	a, b := w.open(t, false, kernel).dataplane.(*xfrm.Plane), w.open(t, true, kernel).dataplane.(*xfrm.Plane)
	for _, x := range []struct{ from, to string }{{gateA4, gateB4}, {gateA6, gateB6}} {
		c := child(false, 0, 0, form{udp: true, v6: x.from == gateA6})
		check(t, a.WriteKeepalive(c.Path.Local, c.Path.Remote))
		message := bytes.Repeat([]byte("ike"), 1000) // longer than a packet
		check(t, a.WriteIKE(message, c.Path.Local, c.Path.Remote))
		data, local, remote, err := b.ReadIKE()
		check(t, err)
		if !bytes.Equal(data, message) || local != c.Path.Remote || remote != c.Path.Local {
			t.Errorf("%d bytes from %s to %s", len(data), remote, local)
		}
	}
	check(t, b.Close())
	if _, _, _, err := b.ReadIKE(); err == nil {
		t.Error("a closed plane still reads")
	}
}
