package esp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"

	"yumen/policy"
)

// sealRaw makes an authentic packet of any plaintext with trailer, as a peer with
// other habits, or with a fault, would.
func sealRaw(out *Outbound, plain []byte) []byte {
	k := out.keys
	packet := make([]byte, headerLen+k.shape.iv+len(plain)+k.icv)
	copy(packet[headerLen+k.shape.iv:], plain)
	seq := out.seq.Add(1)
	binary.BigEndian.PutUint32(packet, uint32(out.child.Out.SPI))
	binary.BigEndian.PutUint32(packet[4:], uint32(seq))
	k.seal(packet, seq)
	return packet
}

// trailer pads inner to align with pad length and next header.
func trailer(inner []byte, align int, next byte) []byte {
	b := bytes.Clone(inner)
	pad := (align - (len(b)+2)%align) % align
	for i := range pad {
		b = append(b, byte(i+1))
	}
	return append(b, byte(pad), next)
}

func TestAuthenticButWrongInside(t *testing.T) {
	for _, v := range variants() {
		inner := v.packet(30)
		next, other := byte(4), byte(41)
		if v.v6 {
			next, other = other, next
		}
		good := trailer(inner, 16, next)
		with := func(at int, to byte) []byte {
			b := bytes.Clone(good)
			b[len(b)+at] = to
			return b
		}
		longer := func(b []byte) []byte { // claims one byte more than is there
			b = bytes.Clone(b)
			at := 3
			if v.v6 {
				at = 5
			}
			b[at]++
			return b
		}
		for name, c := range map[string]struct {
			plain []byte
			want  error
		}{
			"as it should be":         {good, nil},
			"traffic flow padding":    {trailer(append(bytes.Clone(inner), make([]byte, 77)...), 16, next), nil},
			"more padding than need":  {trailer(append(append(bytes.Clone(inner), 1, 2, 3), 1, 2), 16, next), nil},
			"dummy":                   {trailer(numbered(100), 16, nextDummy), ErrDummy},
			"pad length beyond":       {with(-2, 255), ErrMalformed},
			"padding 0":               {with(-3, 0), ErrMalformed},
			"padding starts wrong":    {with(-int(good[len(good)-2])-2, 9), ErrMalformed},
			"the other family":        {trailer(inner, 16, other), ErrMalformed},
			"transport mode":          {trailer(inner, 16, protoUDP), ErrMalformed},
			"inner longer than there": {trailer(longer(inner), 16, next), ErrMalformed},
			"nothing inside":          {trailer(nil, 16, next), ErrMalformed},
		} {
			out, in := v.pair(t, State{})
			if v.suite == policy.SM4CBCHMACSM3 && len(c.plain)%16 != 0 {
				t.Fatal(name)
			}
			packet := sealRaw(out, c.plain)
			got, err := in.Open(nil, bytes.Clone(packet))
			if !errors.Is(err, c.want) || c.want == nil && !bytes.Equal(got, inner) || c.want != nil && got != nil {
				t.Errorf("%v, %s: %x, %v", v, name, got, err)
			}
			// It was the peer's own packet all the same.
			if _, err := in.Open(nil, packet); err != ErrReplayed || !in.TookFirst() {
				t.Errorf("%v, %s: again: %v", v, name, err)
			}
			if d := in.Drops(); c.want == ErrDummy && d.Dummy != 1 || c.want == ErrMalformed && d.Malformed != 1 {
				t.Errorf("%v, %s: %+v", v, name, d)
			}
		}
	}
}

// receiver makes an SA whose receiving end has sel.
func receiver(t *testing.T, v variant, sel policy.Selector) (*Outbound, *Inbound) {
	t.Helper()
	a, b := v.ends()
	b.Selector = sel
	out, err := NewOutbound(a, State{}, counterReader(0))
	if err != nil {
		t.Fatal(err)
	}
	in, err := NewInbound(b, State{})
	if err != nil {
		t.Fatal(err)
	}
	return out, in
}

func TestInnerPacketMustBelongToTheSelector(t *testing.T) {
	v := variant{suite: policy.SM4GCM128}
	any4 := policy.Selector{Local: net("0.0.0.0/0"), Remote: net("0.0.0.0/0")}
	sites := policy.Selector{Local: net("10.2.0.0/16"), Remote: net("10.1.0.0/16")}
	dns := sites
	dns.Protocol, dns.LocalPort = 17, 53
	from := sites
	from.Protocol, from.RemotePort = 17, 4000
	tcp := sites
	tcp.Protocol = 6
	query := ipv4(here4, there4, 17, udp(4000, 53, nil))
	stranger := netip.MustParseAddr("192.0.2.7")
	pmtu := icmpError(stranger, there4, 3, ipv4(there4, here4, 17, udp(53, 4000, nil)))
	story := icmpError(here4, there4, 3, ipv4(there4, stranger, 17, udp(53, 4000, nil)))
	for name, c := range map[string]struct {
		sel  policy.Selector
		b    []byte
		want error
	}{
		"any":                                {any4, query, nil},
		"IPv6 in an IPv4 selector":           {any4, ipv6(here6, there6, 17, nil), ErrSelector},
		"no selector":                        {policy.Selector{}, query, ErrSelector},
		"sites":                              {sites, query, nil},
		"reversed":                           {sites, ipv4(there4, here4, 17, udp(1, 2, nil)), ErrSelector},
		"source from elsewhere":              {sites, ipv4(stranger, there4, 17, udp(1, 2, nil)), ErrSelector},
		"destination elsewhere":              {sites, ipv4(here4, stranger, 17, udp(1, 2, nil)), ErrSelector},
		"port":                               {dns, query, nil},
		"other port":                         {dns, ipv4(here4, there4, 17, udp(4000, 54, nil)), ErrSelector},
		"remote port":                        {from, query, nil},
		"other remote port":                  {from, ipv4(here4, there4, 17, udp(4001, 53, nil)), ErrSelector},
		"other protocol":                     {dns, ipv4(here4, there4, 6, udp(4000, 53, nil)), ErrSelector},
		"ports cut off":                      {dns, ipv4(here4, there4, 17, nil), ErrSelector},
		"protocol":                           {tcp, ipv4(here4, there4, 6, nil), nil},
		"wrong protocol":                     {tcp, query, ErrSelector},
		"error by its quote":                 {dns, pmtu, nil},
		"error quoting what is not the SA's": {sites, story, ErrSelector},
		"error quoting another port":         {from, icmpError(stranger, there4, 3, ipv4(there4, here4, 17, udp(53, 4001, nil))), ErrSelector},
	} {
		out, in := receiver(t, v, c.sel)
		got, err := in.Open(nil, must(t, out, c.b))
		if err != c.want || (err == nil) != bytes.Equal(got, c.b) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if (in.Drops().BadSelector == 1) != (c.want != nil) || (in.Count().Packets == 0) != (c.want != nil) {
			t.Errorf("%s: %+v %+v", name, in.Drops(), in.Count())
		}
	}
}

func TestFragmentsMeetPortSelectorsOnlyWhole(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		v := variant{suite: policy.SM4CBCHMACSM3, icvBits: 96, v6: v6}
		_, b := v.ends()
		for port, want := range map[uint16]error{53: nil, 54: ErrSelector} {
			whole := ipv4(here4, there4, 17, udp(4000, port, numbered(500)))
			frags := split4(whole, 200)
			if v6 {
				whole = ipv6(here6, there6, 17, udp(4000, port, numbered(500)))
				frags = split6(whole, 200)
			}
			sel := b.Selector
			sel.Protocol, sel.LocalPort = 17, 53
			out, in := receiver(t, v, sel)
			re := NewReassembler(ReassemblyLimits{})
			var got []byte
			for _, f := range frags {
				inner, err := in.Open(nil, must(t, out, f))
				if err != ErrFragment || !bytes.Equal(inner, f) {
					t.Fatalf("v6 %v: %v", v6, err)
				}
				if got, err = re.Add(epoch, 3, inner); err != nil {
					t.Fatal(err)
				}
			}
			if !bytes.Equal(got, whole) || in.Accept(got) != want {
				t.Errorf("v6 %v port %d: %x", v6, port, got)
			}
			if in.Accept(frags[1]) != ErrMalformed {
				t.Error("a fragment passed for a whole packet")
			}
			// Without ports in the selector a fragment stands for itself.
			sel.Protocol, sel.LocalPort = 0, 0
			out, in = receiver(t, v, sel)
			if _, err := in.Open(nil, must(t, out, frags[1])); err != nil {
				t.Error(err)
			}
			// Wrong addresses need no reassembly to be refused.
			sel.Protocol, sel.LocalPort, sel.Remote = 17, 53, sel.Local
			out, in = receiver(t, v, sel)
			if _, err := in.Open(nil, must(t, out, frags[1])); err != ErrSelector {
				t.Error(err)
			}
		}
	}
}

// FuzzOpen: what is not authentic changes nothing; what is authentic is opened
// without a panic, whatever is inside.
func FuzzOpen(f *testing.F) {
	for i, v := range variants() {
		out, _ := v.pair(f, State{})
		f.Add(byte(i), must(f, out, v.packet(20)), false)
		f.Add(byte(i), trailer(v.packet(9), 16, 4), true)
		f.Add(byte(i), trailer(numbered(30), 16, nextDummy), true)
	}
	f.Fuzz(func(t *testing.T, which byte, b []byte, authentic bool) {
		all := variants()
		v := all[int(which)%len(all)]
		out, in := v.pair(t, State{})
		packet := b
		if authentic {
			b = b[:len(b)/16*16]
			if len(b) == 0 {
				return
			}
			packet = sealRaw(out, b)
		}
		original := bytes.Clone(packet)
		before := Export(in, nil)
		inner, err := in.Open(make([]byte, 0, len(packet)), packet)
		if !bytes.Equal(packet, original) {
			t.Fatal("the packet was changed")
		}
		if err == ErrAuth || err == ErrReplayed {
			if st := Export(in, nil); st.InSeq != before.InSeq || st.In != before.In || in.TookFirst() {
				t.Fatal("state changed")
			}
		}
		if err == nil {
			if p, perr := ParsePacket(inner); perr != nil || p.Length != len(inner) || !in.child.Selector.Contains(p.FlowIn()) {
				t.Fatalf("%x came through: %v", inner, perr)
			}
		}
		if authentic && (err == ErrAuth || err == ErrReplayed) {
			t.Fatal(err)
		}
	})
}
