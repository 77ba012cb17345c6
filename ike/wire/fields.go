package wire

import (
	"fmt"
	"strings"
)

// Field is one line of the text form: nested under the last line of lower depth.
type Field struct {
	Name, Value string
	Depth       int
}

// Fields is the text form of a message for people: the header, then each payload
// with its parts. The payloads are those of m, so a caller that decrypted a
// message passes the plain ones. In main mode without the E flag the bodies of
// nonce and ID are ciphertext under Sk and shown as such. Attributes have the
// names of phase 1 under the protocol ISAKMP, of phase 2 under any other. A
// payload that does not parse is shown with the reason.
func (m Message) Fields() []Field {
	p := printer{envelope: m.MessageID == 0 && m.Exchange == MainMode && m.Flags&FlagEncrypted == 0}
	p.header(m.Header)
	for _, pl := range m.Payloads {
		p.payload(pl)
	}
	return p.out
}

type printer struct {
	out      []Field
	depth    int
	envelope bool // nonce and ID are ciphertext
}

func (p *printer) add(name, format string, args ...any) {
	p.out = append(p.out, Field{Name: name, Value: fmt.Sprintf(format, args...), Depth: p.depth})
}

// under prints what body prints one level deeper.
func (p *printer) under(body func()) {
	p.depth++
	body()
	p.depth--
}

func (p *printer) header(h Header) {
	p.add("header", "%s, version %d.%d", h.Exchange, h.Version>>4, h.Version&15)
	p.under(func() {
		p.add("initiator cookie", "%s", h.Initiator)
		p.add("responder cookie", "%s", h.Responder)
		p.add("next payload", "%s (%d)", h.Next, uint8(h.Next))
		p.add("exchange type", "%s (%d)", h.Exchange, uint8(h.Exchange))
		p.add("flags", "%s", h.Flags)
		p.add("message id", "%08x", h.MessageID)
		p.add("length", "%d", h.Length)
	})
}

func (p *printer) payload(pl Payload) {
	p.add("payload", "%s (%d), %d bytes", pl.Type, uint8(pl.Type), genericLen+len(pl.Body))
	p.under(func() {
		if err := p.body(pl); err != nil {
			p.add("malformed", "%v", err)
			p.add("data", "%s", hexText(pl.Body))
		}
	})
}

func (p *printer) body(pl Payload) error {
	switch pl.Type {
	case TypeSA:
		s, err := ParseSA(pl.Body)
		if err == nil {
			p.sa(s)
		}
		return err
	case TypeID:
		if !p.envelope {
			return p.id(pl.Body)
		}
		p.add("ciphertext", "under Sk: %s", hexText(pl.Body))
	case TypeNonce:
		if p.envelope {
			p.add("ciphertext", "under Sk: %s", hexText(pl.Body))
		} else {
			p.add("nonce", "%s", hexText(pl.Body))
		}
	case TypeHash, TypeNATD, TypeNATD130:
		p.add("hash", "%s", hexText(pl.Body))
	case TypeSig:
		p.add("signature", "%s", hexText(pl.Body))
	case TypeSK:
		p.add("envelope", "%s", hexText(pl.Body))
	case TypeCert:
		c, err := ParseCert(pl.Body)
		if err == nil {
			p.add("encoding", "%s (%d)", c.Encoding, uint8(c.Encoding))
			p.add("certificate", "%s", hexText(c.Data))
		}
		return err
	case TypeNotify:
		return p.notification(pl.Body)
	case TypeDelete:
		return p.delete(pl.Body)
	case TypeVendorID:
		p.vendor(pl.Body)
	case TypeNATOA, TypeNATOA131:
		return p.original(pl.Body)
	default:
		p.add("data", "%s", hexText(pl.Body))
	}
	return nil
}

func (p *printer) vendor(body []byte) {
	if name := vendorName(string(body)); name != "" {
		p.add("vendor", "%s", name)
		return
	}
	p.add("vendor", "%s", hexText(body))
}

// original is a NAT-OA payload (RFC 3947 5.2): an ID of an address type whose
// protocol and port bytes are reserved.
func (p *printer) original(body []byte) error {
	i, err := ParseID(body)
	if err == nil {
		p.add("original address", "%s", i)
	}
	return err
}

func (p *printer) id(body []byte) error {
	i, err := ParseID(body)
	if err == nil {
		p.add("type", "%s (%d)", i.Type, uint8(i.Type))
		p.add("protocol", "%d", i.Protocol)
		p.add("port", "%d", i.Port)
		p.add("identity", "%s", i)
	}
	return err
}

func (p *printer) sa(s SA) {
	p.add("doi", "%d", s.DOI)
	p.add("situation", "%d", s.Situation)
	for _, pr := range s.Proposals {
		p.add("proposal", "%d", pr.Number)
		p.under(func() { p.proposal(pr) })
	}
}

func (p *printer) proposal(pr Proposal) {
	p.add("protocol", "%s (%d)", pr.Protocol, uint8(pr.Protocol))
	if len(pr.SPI) > 0 {
		p.add("spi", "%s", hexText(pr.SPI))
	}
	for _, t := range pr.Transforms {
		p.add("transform", "%d", t.Number)
		p.under(func() {
			p.add("id", "%s", named(transformName(pr.Protocol, t.ID), uint64(t.ID)))
			p.attributes(pr.Protocol == ProtoISAKMP, t.Attributes)
		})
	}
}

// attributes prints a list; a duration has the unit of the life type before it.
func (p *printer) attributes(phase1 bool, as []Attribute) {
	unit := ""
	for _, a := range as {
		name := attributeName(phase1, a.Type)
		v, ok := a.Uint()
		switch {
		case !ok:
			p.add(name, "%s", hexText(a.Value))
		case name == "life duration":
			p.add(name, "%s", strings.TrimSpace(fmt.Sprintf("%d %s", v, unit)))
		default:
			p.add(name, "%s", named(valueName(phase1, a.Type, v), v))
		}
		if name == "life type" {
			unit = lifeUnit(v)
		}
	}
}

// named is a number behind its name, or alone when it has none.
func named(name string, v uint64) string {
	if name == "" {
		return fmt.Sprintf("%d", v)
	}
	return fmt.Sprintf("%s (%d)", name, v)
}

func (p *printer) notification(body []byte) error {
	n, err := ParseNotification(body)
	if err != nil {
		return err
	}
	p.add("doi", "%d", n.DOI)
	p.add("protocol", "%s (%d)", n.Protocol, uint8(n.Protocol))
	p.add("type", "%s (%d)", n.Type, uint16(n.Type))
	if len(n.SPI) > 0 {
		p.add("spi", "%s", hexText(n.SPI))
	}
	switch n.Type {
	case ResponderLifetime:
		if as, err := ParseAttributes(n.Data); err == nil {
			p.attributes(n.Protocol == ProtoISAKMP, as)
			return nil
		}
	case ReplayStatus, RUThere, RUThereAck:
		if v, ok := (Attribute{Value: n.Data}).Uint(); ok {
			p.add("value", "%d", v)
			return nil
		}
	}
	if len(n.Data) > 0 {
		p.add("data", "%s", hexText(n.Data))
	}
	return nil
}

func (p *printer) delete(body []byte) error {
	d, err := ParseDelete(body)
	if err != nil {
		return err
	}
	p.add("doi", "%d", d.DOI)
	p.add("protocol", "%s (%d)", d.Protocol, uint8(d.Protocol))
	for _, spi := range d.SPIs {
		p.add("spi", "%s", hexText(spi))
	}
	return nil
}
