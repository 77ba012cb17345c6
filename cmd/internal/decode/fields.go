package decode

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"

	"yumen/ike/wire"
	"yumen/policy/trust"
)

// fields appends header and payloads of a message in the clear.
func (m *Message) fields(msg wire.Message) {
	for _, f := range msg.Fields() {
		m.Fields = append(m.Fields, Field{f.Name, f.Value, f.Depth})
	}
}

func (m *Message) headerFields(h wire.Header) { m.fields(wire.Message{Header: h}) }

// replaceFields shows the decrypted message instead of its header alone.
func (m *Message) replaceFields(msg wire.Message) {
	m.Fields = nil
	m.fields(msg)
}

// envelopeFields shows M3 or M4. Nonce and ID are ciphertext unless given.
func (m *Message) envelopeFields(msg wire.Message, nonce, id []byte) {
	m.headerFields(msg.Header)
	head := len(wire.Message{Header: msg.Header}.Fields())
	for _, p := range msg.Payloads {
		one := wire.Message{Header: msg.Header, Payloads: []wire.Payload{p}}
		for _, f := range one.Fields()[head:] {
			m.Fields = append(m.Fields, Field{f.Name, f.Value, f.Depth})
		}
		switch {
		case p.Type == wire.TypeNonce && nonce != nil:
			m.add(1, "decrypted", "%d bytes (not shown: SKEYID hangs on the two nonces alone)", len(nonce))
		case p.Type == wire.TypeID && id != nil:
			m.plainID(id)
		}
	}
}

// plainID shows a decrypted ID below its payload.
func (m *Message) plainID(body []byte) {
	id, err := wire.ParseID(body)
	if err != nil {
		m.add(1, "decrypted", "%x", body)
		return
	}
	m.add(1, "type", "%s (%d)", id.Type, uint8(id.Type))
	m.add(1, "protocol", "%d", id.Protocol)
	m.add(1, "port", "%d", id.Port)
	m.add(1, "identity", "%s", idText(id))
}

// order checks the run of payloads against the exchange's list. Vendor IDs,
// notifications, NAT payloads and unknown types may stand anywhere; further
// signing certificates are intermediates.
func (m *Message) order(ps []wire.Payload, want string) {
	var names []string
	for _, p := range ps {
		switch p.Type {
		case wire.TypeCert:
			if n := len(names); n >= 2 && names[n-1] == "CERT" && names[n-2] == "CERT" {
				continue
			}
			names = append(names, "CERT")
		case wire.TypeSA, wire.TypeSK, wire.TypeNonce, wire.TypeID, wire.TypeHash, wire.TypeSig, wire.TypeKE:
			names = append(names, p.Type.String())
		}
	}
	if got := strings.Join(names, " "); got != want {
		m.fail("payload order", "%s, expected %s", got, want)
		return
	}
	m.ok("payload order", "%s", want)
}

func payloadList(ps []wire.Payload) string {
	names := make([]string, len(ps))
	for i, p := range ps {
		names[i] = p.Type.String()
	}
	return strings.Join(names, " ")
}

// find returns the body of the first payload of a type, nil when there is none.
func find(ps []wire.Payload, t wire.PayloadType) []byte {
	for _, p := range ps {
		if p.Type == t {
			return p.Body
		}
	}
	return nil
}

// compare is a check of a hash in a message.
func (m *Message) compare(name string, got, want []byte, formula string) bool {
	if bytes.Equal(got, want) {
		m.ok(name, "%s", formula)
		return true
	}
	m.fail(name, "expected %s = %x, the message carries %x", formula, want, got)
	return false
}

// idText shows an ID; a distinguished name in the order of RFC 4514, as the
// names of certificates are shown.
func idText(id wire.ID) string {
	text := id.String()
	if id.Type == wire.IDDN {
		if name, err := trust.FormatName(id.Data); err == nil {
			text = name
		}
	}
	if id.Protocol != 0 || id.Port != 0 {
		text += fmt.Sprintf(" protocol %d port %d", id.Protocol, id.Port)
	}
	return text
}

func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// idRange reads the address types. A mask that is no prefix has no range.
func idRange(id wire.ID) (lo, hi netip.Addr, ok bool) {
	d := id.Data
	half := len(d) / 2
	switch id.Type {
	case wire.IDIPv4, wire.IDIPv6:
		lo, ok = netip.AddrFromSlice(d)
		return lo, lo, ok
	case wire.IDIPv4Range, wire.IDIPv6Range:
		lo, _ = netip.AddrFromSlice(d[:half])
		hi, ok = netip.AddrFromSlice(d[half:])
		return lo, hi, ok && lo.BitLen() == hi.BitLen()
	case wire.IDIPv4Subnet, wire.IDIPv6Subnet:
		bits, valid := maskBits(d[half:])
		if lo, ok = netip.AddrFromSlice(d[:half]); !ok || !valid {
			return lo, hi, false
		}
		p := netip.PrefixFrom(lo, bits).Masked()
		return p.Addr(), lastOf(p), true
	}
	return lo, hi, false
}

func maskBits(mask []byte) (int, bool) {
	n, ended := 0, false
	for _, b := range mask {
		for i := range 8 {
			switch set := b&(0x80>>i) != 0; {
			case set && ended:
				return 0, false
			case set:
				n++
			default:
				ended = true
			}
		}
	}
	return n, true
}

// selector is one quick mode ID as a filter; any when the IDs were absent.
type selector struct {
	any    bool
	lo, hi netip.Addr
	proto  uint8
	port   uint16
	text   string
}

func newSelector(body []byte, peer netip.Addr) (selector, error) {
	if body == nil { // RFC 2409 5.5: the addresses of the two ends
		return selector{lo: peer, hi: peer, any: !peer.IsValid(), text: peer.String()}, nil
	}
	id, err := wire.ParseID(body)
	if err != nil {
		return selector{any: true}, err
	}
	s := selector{proto: id.Protocol, port: id.Port, text: idText(id)}
	var ok bool
	if s.lo, s.hi, ok = idRange(id); !ok {
		s.any = true
	}
	return s, nil
}

func (s selector) holds(a netip.Addr) bool {
	return s.any || (a.BitLen() == s.lo.BitLen() && s.lo.Compare(a) <= 0 && a.Compare(s.hi) <= 0)
}
