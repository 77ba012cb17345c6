package decode

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"yumen/policy"
)

type flowKey struct {
	src, dst netip.Addr
	spi      uint32
}

func (d *decoder) addSA(a *sa) {
	if d.count >= maxSAs {
		a.keymat.Wipe()
		return
	}
	d.count++
	d.sas[a.spi] = append(d.sas[a.spi], a)
}

// esp takes one ESP packet, raw or from UDP port 4500.
func (d *decoder) esp(g datagram, name string, short bool) {
	m := d.newMessage(g, name)
	if len(g.data) < 8 || binary.BigEndian.Uint32(g.data) < 256 {
		m.fail("format", "%d bytes: expected an SPI of 256 or more and a sequence number (RFC 4303 2.1)", len(g.data))
		d.list(m)
		d.tally(m)
		return
	}
	spi, low := binary.BigEndian.Uint32(g.data), binary.BigEndian.Uint32(g.data[4:])
	f := d.flow(flowKey{g.src.Addr(), g.dst.Addr(), spi}, m)
	if f == nil {
		return
	}
	m.add(0, "SPI", "%08x", spi)
	m.add(0, "sequence number", "%d", low)
	f.Packets++
	f.Bytes += len(g.data)
	seq := uint64(low)
	if short {
		m.unknown("ICV", "the capture holds only a part of this packet: capture with a larger snapshot length")
	} else if n, ok := d.openESP(m, f, g); ok {
		seq = n
	}
	d.sequence(m, f, seq)
	d.tally(m)
	show := false
	if m.failed() {
		f.Failed++
		show = f.Failed <= maxBroken
	} else {
		f.good++
		show = d.opts.ESPShown < 0 || f.good <= d.opts.ESPShown
	}
	if show {
		f.listed++
		d.list(m)
	}
}

func (d *decoder) flow(key flowKey, m *Message) *Flow {
	f := d.flows[key]
	if f != nil {
		return f
	}
	if len(d.flows) >= maxFlows {
		if len(d.flows) == maxFlows {
			d.flows[flowKey{}] = nil // said once
			d.problemf("more than %d ESP flows: further ones are not followed", maxFlows)
		}
		return nil
	}
	f = &Flow{SPI: fmt.Sprintf("%08x", key.spi), From: key.src.String(), To: key.dst.String(), seen: make(map[uint64]bool)}
	d.flows[key] = f
	d.report.Flows = append(d.report.Flows, f)
	return f
}

// sequence keeps the sequence numbers. A repeated one is flagged, not dropped:
// the receiver's window would have dropped it.
func (d *decoder) sequence(m *Message, f *Flow, seq uint64) {
	if f.Packets == 1 {
		f.First = seq
	}
	f.Last = max(f.Last, seq)
	if f.seen[seq] {
		f.Repeated++
		m.note("sequence number %d was seen before: a replay, or captured twice", seq)
		return
	}
	if d.numbers < maxSequences {
		d.numbers++
		f.seen[seq] = true
	}
}

// openESP tries the SAs that own the SPI; SPIs are the receiver's, so two
// gateways may have chosen the same one.
func (d *decoder) openESP(m *Message, f *Flow, g datagram) (seq uint64, ok bool) {
	spi := binary.BigEndian.Uint32(g.data)
	sas := d.sas[spi]
	if len(sas) == 0 {
		m.unknown("ICV", "no SA with SPI %08x is known: its quick mode is missing or was not opened", spi)
		return 0, false
	}
	var err error
	for i := len(sas) - 1; i >= 0; i-- { // the newest first
		a := sas[i]
		var o opened
		if o, err = a.open(g.data); err != nil {
			continue
		}
		m.Session = a.session.view.Number
		f.Opened++
		d.describe(m, a, o)
		d.icvLength(m, f, a, o)
		return o.seq, true
	}
	m.Session = sas[len(sas)-1].session.view.Number
	m.fail("ICV", "does not verify with the KEYMAT of SPI %08x: %v", spi, err)
	return 0, false
}

func (d *decoder) icvLength(m *Message, f *Flow, a *sa, o opened) {
	if a.suite == policy.SM4GCM128 {
		m.ok("ICV", "GCM tag, %d bits", o.icv)
		f.ICVBits = o.icv
		return
	}
	m.ok("ICV", "HMAC-SM3, %d bits", o.icv)
	switch {
	case d.opts.ICVBits != 0 && o.icv != d.opts.ICVBits:
		m.fail("ICV length", "expected %d bits, the packet has %d", d.opts.ICVBits, o.icv)
	case f.ICVBits != 0 && f.ICVBits != o.icv:
		m.fail("ICV length", "expected %d bits as in the first packet of this SA, the packet has %d", f.ICVBits, o.icv)
	}
	if f.ICVBits == 0 {
		f.ICVBits = o.icv
	}
}

// describe shows the inner packet and checks it against the selectors.
func (d *decoder) describe(m *Message, a *sa, o opened) {
	if a.esn {
		m.add(0, "extended sequence number", "%d", o.seq)
	}
	m.add(0, "padding", "%d bytes", o.pad)
	m.add(0, "next header", "%d", o.next)
	switch o.next {
	case 4, 41:
	case 59:
		m.note("dummy packet (RFC 4303 2.6)")
		return
	default:
		m.note("no IP packet inside: transport mode, %d bytes of protocol %d", len(o.inner), o.next)
		return
	}
	p, err := parseIP(o.inner)
	if err != nil || p.cut || (o.next == 4) != p.src.Is4() {
		m.fail("inner packet", "next header %d, but %d bytes that are no whole IP packet of that version", o.next, len(o.inner))
		return
	}
	sport, dport := ports(p)
	m.add(0, "inner packet", "%s -> %s, %d bytes", p.src, p.dst, len(o.inner))
	switch {
	case p.fragment():
		m.add(1, "protocol", "%s, fragment at %d", protoName(p.proto), p.offset)
	case hasPorts(p):
		m.add(1, "protocol", "%s, port %d -> %d", protoName(p.proto), sport, dport)
	default:
		m.add(1, "protocol", "%s", protoName(p.proto))
	}
	checkSelectors(m, a, p)
}

func checkSelectors(m *Message, a *sa, p ipPacket) {
	sport, dport := ports(p)
	icmp := p.proto == 1 || p.proto == 58
	for _, end := range []struct {
		name string
		sel  selector
		addr netip.Addr
		port uint16
	}{{"source", a.src, p.src, sport}, {"destination", a.dst, p.dst, dport}} {
		sel := end.sel
		switch {
		case !sel.holds(end.addr) && icmp: // an error message may come from any router (RFC 4301 6)
			m.note("%s %s is outside the negotiated selector %s", end.name, end.addr, sel.text)
		case !sel.holds(end.addr):
			m.fail("selector", "%s %s, expected inside %s", end.name, end.addr, sel.text)
		case sel.proto != 0 && sel.proto != p.proto && !icmp:
			m.fail("selector", "protocol %d, expected %d", p.proto, sel.proto)
		case sel.port != 0 && hasPorts(p) && sel.port != end.port:
			m.fail("selector", "%s port %d, expected %d", end.name, end.port, sel.port)
		}
	}
}

func hasPorts(p ipPacket) bool {
	return (p.proto == protoTCP || p.proto == protoUDP) && p.offset == 0 && len(p.payload) >= 4
}

func ports(p ipPacket) (src, dst uint16) {
	if !hasPorts(p) {
		return 0, 0
	}
	return be16(p.payload), be16(p.payload[2:])
}

func protoName(n uint8) string {
	switch n {
	case 1:
		return "ICMP"
	case protoTCP:
		return "TCP"
	case protoUDP:
		return "UDP"
	case 58:
		return "ICMPv6"
	case protoESP:
		return "ESP"
	case protoAH:
		return "AH"
	}
	return fmt.Sprintf("protocol %d", n)
}
