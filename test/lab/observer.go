package lab

import (
	"fmt"
	"strings"

	"yumen/ike/gm"
	"yumen/ike/wire"
)

// observer reads along. It stands outside of every engine and has every private
// key of the lab, so it can name the payloads of what is encrypted; that it can
// is a test of its own.
type observer struct {
	sent     map[[32]byte]string // label of what was sent before
	starters map[wire.Cookie]string
	sessions map[[16]byte]*watched
}

// watched is one ISAKMP SA as the observer knows it.
type watched struct {
	nonces [2][]byte // initiator's, responder's
	sks    [2][]byte
	last   [16]byte // last block of phase 1
	quick  map[uint32]*watchedQuick
}

type watchedQuick struct {
	starter string
	iv      [16]byte
	n       int
}

func newObserver() observer {
	return observer{sent: map[[32]byte]string{}, starters: map[wire.Cookie]string{}, sessions: map[[16]byte]*watched{}}
}

// label names p and its payloads. Without gateways to take keys from it names
// only the message, which is cheap.
func (o *observer) label(p *Packet, all []*Gateway) {
	sum := gm.SM3(p.Data)
	if text, again := o.sent[sum]; again {
		p.Label, p.clear, _ = strings.Cut(text, "|")
		p.Again = true
		return
	}
	h, err := wire.ParseHeader(p.Data)
	if err != nil {
		p.Label = "not ISAKMP"
		return
	}
	if _, known := o.starters[h.Initiator]; !known {
		o.starters[h.Initiator] = ""
		if h.Responder == (wire.Cookie{}) {
			o.starters[h.Initiator] = p.From
		}
	}
	var ps []wire.Payload
	if h.Flags&wire.FlagEncrypted == 0 {
		if m, err := wire.Parse(p.Data); err == nil {
			ps = m.Payloads
		}
	}
	p.Label, ps = o.name(p, h, ps, all)
	p.clear = types(ps)
	o.sent[sum] = p.Label + "|" + p.clear
}

func (o *observer) name(p *Packet, h wire.Header, ps []wire.Payload, all []*Gateway) (string, []wire.Payload) {
	role := 1
	if o.starters[h.Initiator] == p.From {
		role = 0
	}
	w := o.watch(h)
	body := p.Data[wire.HeaderLen:]
	switch {
	case h.Exchange == wire.MainMode && h.Flags&wire.FlagEncrypted == 0:
		first := wire.First(ps)
		if first == wire.TypeSA {
			return fmt.Sprintf("main %d", role+1), ps
		}
		w.fields(role, ps, p, all)
		return fmt.Sprintf("main %d", role+3), ps
	case h.Exchange == wire.MainMode:
		iv := w.last
		if role == 0 {
			iv = gm.PhaseOneIV(w.sks[0], w.sks[1])
		}
		w.last = gm.LastBlock(body)
		return fmt.Sprintf("main %d", role+5), w.open(h, iv, body)
	case h.Exchange == wire.QuickMode:
		q := w.quick[h.MessageID]
		if q == nil {
			q = &watchedQuick{starter: p.From, iv: gm.PhaseTwoIV(w.last, h.MessageID)}
			w.quick[h.MessageID] = q
		}
		q.n++
		ps := w.open(h, q.iv, body)
		q.iv = gm.LastBlock(body)
		return fmt.Sprintf("quick %d", q.n), ps
	case h.Flags&wire.FlagEncrypted == 0:
		return "info", ps
	}
	return "info", w.open(h, gm.PhaseTwoIV(w.last, h.MessageID), body)
}

func (o *observer) watch(h wire.Header) *watched {
	var k [16]byte
	copy(k[:], h.Initiator[:])
	copy(k[8:], h.Responder[:])
	if o.sessions[k] == nil {
		o.sessions[k] = &watched{quick: map[uint32]*watchedQuick{}}
	}
	return o.sessions[k]
}

// fields opens the envelope of M3 or M4 with the key of its receiver.
func (w *watched) fields(role int, ps []wire.Payload, p *Packet, all []*Gateway) {
	var sk, nonce, id []byte
	for _, x := range ps {
		switch x.Type {
		case wire.TypeSK:
			sk = x.Body
		case wire.TypeNonce:
			nonce = x.Body
		case wire.TypeID:
			id = x.Body
		}
	}
	for _, g := range all {
		key, err := g.Own.Open(sk)
		if g.Name == p.From || err != nil {
			continue
		}
		for _, f := range gm.OpenFields(key, nonce, id, false) {
			w.sks[role], w.nonces[role] = key, f.Nonce
			break
		}
	}
}

// open decrypts a protected body; nil when it cannot.
func (w *watched) open(h wire.Header, iv [16]byte, body []byte) []wire.Payload {
	if w.nonces[0] == nil || w.nonces[1] == nil {
		return nil
	}
	keys := gm.DeriveKeys(w.nonces[0], w.nonces[1], h.Initiator, h.Responder)
	plain, err := gm.DecryptCBC(keys.CipherKey(), iv[:], body)
	if err != nil {
		return nil
	}
	ps, _, err := wire.ParseBody(h.Next, plain, wire.PaddingBlock)
	if err != nil {
		return nil
	}
	return ps
}

// short are the names of payloads as a transcript has them.
var short = map[wire.PayloadType]string{wire.TypeSA: "SA", wire.TypeID: "ID", wire.TypeCert: "CERT",
	wire.TypeHash: "HASH", wire.TypeSig: "SIG", wire.TypeNonce: "NONCE", wire.TypeNotify: "N",
	wire.TypeDelete: "D", wire.TypeVendorID: "VID", wire.TypeNATD: "NAT-D", wire.TypeSK: "SK"}

func types(ps []wire.Payload) string {
	if len(ps) == 0 {
		return "?"
	}
	var words []string
	for _, p := range ps {
		word := short[p.Type]
		if word == "" {
			word = p.Type.String()
		}
		if n, err := wire.ParseNotification(p.Body); err == nil && p.Type == wire.TypeNotify {
			word += "(" + n.Type.String() + ")"
		}
		if d, err := wire.ParseDelete(p.Body); err == nil && p.Type == wire.TypeDelete {
			word += "(" + d.Protocol.String() + ")"
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}
