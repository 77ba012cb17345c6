package esp

import (
	"bytes"
	"testing"

	"yumen/esp/internal/lanes"
	"yumen/policy"
)

func TestLimitsAreToldOnceAndHold(t *testing.T) {
	for name, l := range map[string]Limits{
		"packets": {SoftPackets: 3, HardPackets: 5},
		"bytes":   {SoftBytes: 3 * 30, HardBytes: 5*30 + 29},
	} {
		v := variants()[0]
		a, b := v.ends()
		free, err := NewOutbound(a, State{}, counterReader(0))
		if err != nil {
			t.Fatal(err)
		}
		a.Limits, b.Limits = l, l
		out, err := NewOutbound(a, State{}, counterReader(0))
		if err != nil {
			t.Fatal(err)
		}
		in, err := NewInbound(b, State{})
		if err != nil {
			t.Fatal(err)
		}
		for i := 1; i <= 8; i++ {
			_, errOut := out.Seal(nil, v.packet(10))
			_, errIn := in.Open(nil, must(t, free, v.packet(10)))
			if (errOut == ErrLimit) != (i > 5) || (errIn == ErrLimit) != (i > 5) {
				t.Fatalf("%s: packet %d: %v, %v", name, i, errOut, errIn)
			}
			if out.TookSoftLimit() != (i == 3) || in.TookSoftLimit() != (i == 3) {
				t.Fatalf("%s: soft limit at %d", name, i)
			}
			if out.TookHardLimit() != (i == 6) || in.TookHardLimit() != (i == 6) {
				t.Fatalf("%s: hard limit at %d", name, i)
			}
		}
		if out.Seq() != 5 || out.Count().Packets != 5 || in.Count().Packets != 5 || in.Drops().Limited != 3 {
			t.Fatalf("%s: %v %v %+v", name, out.Count(), in.Count(), in.Drops())
		}
		if _, err := out.Seal(nil, ipv4(here4, there4, 17, nil)); err != ErrLimit {
			t.Fatal("a smaller packet slipped through")
		}
	}
}

func TestWhatIsNoPacketIsNotSealed(t *testing.T) {
	out, _ := variants()[0].pair(t, State{})
	for _, b := range [][]byte{nil, {0x45}, make([]byte, 60), ipv4(here4, there4, 1, nil)[:19], ipv6(here6, there6, 1, nil)[:39]} {
		if _, err := out.Seal(nil, b); err != ErrMalformed {
			t.Errorf("%x: %v", b, err)
		}
	}
	if out.Seq() != 0 || out.Count() != (Count{}) {
		t.Error("counted")
	}
}

func TestIVsNeverRepeatAndDependOnTheKeyAlone(t *testing.T) {
	v := variants()[0]
	a, _ := v.ends()
	seen := map[string]bool{}
	for start := range byte(3) {
		out, err := NewOutbound(a, State{}, counterReader(start))
		if err != nil {
			t.Fatal(err)
		}
		for range 1000 {
			iv := string(must(t, out, v.packet(1))[8:24])
			if seen[iv] {
				t.Fatal("IV repeated")
			}
			seen[iv] = true
		}
	}
	g := variant{suite: policy.SM4GCM128}
	out, _ := g.pair(t, State{OutSeq: 0x01020303})
	if p := must(t, out, g.packet(1)); !bytes.Equal(p[8:16], []byte{0, 0, 0, 0, 1, 2, 3, 4}) {
		t.Fatalf("GCM IV %x is not the sequence number", p[8:16])
	}
}

func TestClosedSAHoldsNoKey(t *testing.T) {
	for _, v := range variants() {
		out, in := v.pair(t, State{})
		packet := must(t, out, v.packet(1))
		ok, ik := *out.keys, *in.keys
		out.Close()
		in.Close()
		out.Close() // twice is harmless
		if _, err := out.Seal(nil, v.packet(1)); err != ErrClosed {
			t.Fatal(err)
		}
		if _, err := in.Open(nil, packet); err != ErrClosed {
			t.Fatal(err)
		}
		for _, k := range []*keys{out.keys, in.keys} {
			if k.cipher != nil || k.aead != nil || k.mac != nil || k.iv != nil || k.nonce != [12]byte{} {
				t.Fatalf("%v: keys left", v)
			}
		}
		for _, k := range []keys{ok, ik} {
			if v.suite == policy.SM4GCM128 && *k.aead != (lanes.GCM{}) ||
				v.suite != policy.SM4GCM128 && (*k.cipher != (lanes.Key{}) || *k.mac != (lanes.MAC{})) {
				t.Fatalf("%v: schedules left", v)
			}
		}
		if iv, isStream := ok.iv.(*ivStream); isStream && *iv != (ivStream{}) {
			t.Fatalf("%v: IVs left", v)
		}
		if _, err := in.Open(nil, nil); err != ErrClosed {
			t.Fatal(err)
		}
	}
	a, _ := variants()[0].ends()
	out, err := NewOutbound(a, State{}, counterReader(0))
	if err != nil {
		t.Fatal(err)
	}
	if out.Child().Out.Keymat.Len() != 0 || a.Out.Keymat.Len() != 48 {
		t.Fatal("an SA keeps no keymat and takes none away")
	}
	bytesOf := a.Out.Keymat.Bytes()
	a.Wipe()
	if a.Out.Keymat.Len() != 0 || !bytes.Equal(bytesOf, make([]byte, 48)) {
		t.Fatal("keymat not wiped")
	}
}
