package lab

import (
	"testing"

	"yumen/ike/gm"
	"yumen/ike/wire"
	"yumen/policy"
)

// meddler changes quick mode messages on their way as only a peer could: the HASH is
// made anew, and the IVs of what follows are as if both ends had agreed on it.
type meddler struct {
	t      *testing.T
	l      *Lab
	form   policy.HashForm
	one    func([]wire.Payload) []wire.Payload           // what stands behind the HASH of QM1
	two    func([]wire.Payload) []wire.Payload           // and of QM2
	spoil  func(n int, ps []wire.Payload) []wire.Payload // all of message n, HASH too, which is not made anew
	seen   map[uint32]*meddled
	copies map[[32]byte][]byte // what went before, for repetitions
}

// meddled is one quick mode: the nonce of its initiator, and the IV of its next
// message as the sender of that has it, and as the receiver does.
type meddled struct {
	ni            []byte
	sender, taker [16]byte
	keys          gm.Keys
	messages      int
}

func (m *meddler) hook(p Packet) []Packet {
	h, err := wire.ParseHeader(p.Data)
	if p.Data == nil || err != nil || h.Exchange != wire.QuickMode {
		return []Packet{p}
	}
	sum := gm.SM3(p.Data)
	if m.copies == nil {
		m.seen, m.copies = map[uint32]*meddled{}, map[[32]byte][]byte{}
	}
	if m.copies[sum] == nil {
		m.copies[sum] = m.message(h, p.Data)
	}
	p.Data = m.copies[sum]
	return []Packet{p}
}

// message is data as it is after its change.
func (m *meddler) message(h wire.Header, data []byte) []byte {
	x := m.seen[h.MessageID]
	if x == nil {
		w := m.l.seen.watch(h)
		iv := gm.PhaseTwoIV(w.last, h.MessageID)
		x = &meddled{sender: iv, taker: iv, keys: gm.DeriveKeys(w.nonces[0], w.nonces[1], h.Initiator, h.Responder)}
		m.seen[h.MessageID] = x
	}
	plain, err := gm.DecryptCBC(x.keys.CipherKey(), x.sender[:], data[wire.HeaderLen:])
	if err != nil {
		m.t.Fatal(err)
	}
	ps, _, err := wire.ParseBody(h.Next, plain, wire.Padding)
	if err != nil {
		m.t.Fatal(err)
	}
	x.messages++
	change, hash := m.one, gm.Hash1
	if x.messages == 2 {
		change, hash = m.two, gm.Hash2
	}
	if x.messages < 3 && change != nil {
		ps = x.rehash(h, change(ps[1:]), func(q gm.QuickHash) [32]byte { return hash(x.keys, m.form, q) })
	}
	if m.spoil != nil {
		ps = m.spoil(x.messages, ps)
	}
	if x.messages == 1 {
		x.ni = bodyOf(ps, wire.TypeNonce)
	}
	body := wire.AppendPayloads(nil, ps)
	body = gm.EncryptCBC(x.keys.CipherKey(), x.taker[:], append(body, make([]byte, -len(body)&15)...))
	// Who read this message writes the next one, and who wrote it reads that.
	x.sender, x.taker = gm.LastBlock(body), gm.LastBlock(data[wire.HeaderLen:])
	return h.Append(nil, wire.TypeHash, body)
}

// rehash puts the HASH before rest.
func (x *meddled) rehash(h wire.Header, rest []wire.Payload, make func(gm.QuickHash) [32]byte) []wire.Payload {
	q := gm.QuickHash{MsgID: h.MessageID, Ni: x.ni, Rest: wire.AppendPayloads(nil, rest),
		SA: bodyOf(rest, wire.TypeSA), NonceOwn: bodyOf(rest, wire.TypeNonce)}
	if x.messages == 1 {
		q.Ni = q.NonceOwn
	}
	var ids [][]byte
	for _, p := range rest {
		if p.Type == wire.TypeID {
			ids = append(ids, p.Body)
		}
	}
	if len(ids) == 2 {
		q.IDci, q.IDcr = ids[0], ids[1]
	}
	hash := make(q)
	return append([]wire.Payload{{Type: wire.TypeHash, Body: hash[:]}}, rest...)
}

func bodyOf(ps []wire.Payload, t wire.PayloadType) []byte {
	for _, p := range ps {
		if p.Type == t {
			return p.Body
		}
	}
	return nil
}

// without leaves out every payload of one type.
func without(t wire.PayloadType) func([]wire.Payload) []wire.Payload {
	return func(ps []wire.Payload) (rest []wire.Payload) {
		for _, p := range ps {
			if p.Type != t {
				rest = append(rest, p)
			}
		}
		return rest
	}
}
