package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// maxPayloads bounds one message: M3 with a chain of certificates, NAT-D and
// Vendor IDs stays far below it.
const maxPayloads = 64

// The most bytes that may follow the last payload of a decrypted body. No hash
// covers them: whoever could add a block would change the IV that follows.
const (
	Padding      = 15 // fills the last block
	PaddingBlock = 16 // of peers that add a whole block to what is aligned already
)

var errNoPayload = errors.New("next payload: 0, a message carries at least one payload")

// ParseHeader reads the fixed header of b, which is one whole datagram (RFC 2408
// 3.1). It refuses a length other than len(b) and a zero initiator cookie, and
// leaves version, exchange type, flags and responder cookie to the caller, who
// may have to answer them.
func ParseHeader(b []byte) (Header, error) {
	r := reader{b: b}
	h := r.header()
	switch {
	case r.err != nil:
	case h.Initiator == Cookie{}:
		r.fail("initiator cookie: zero")
	case uint64(h.Length) != uint64(len(b)):
		r.fail("length: %d in a datagram of %d bytes", h.Length, len(b))
	}
	if r.err != nil {
		return Header{}, fmt.Errorf("header: %w", r.err)
	}
	return h, nil
}

func (r *reader) header() (h Header) {
	copy(h.Initiator[:], r.bytes(8, "initiator cookie"))
	copy(h.Responder[:], r.bytes(8, "responder cookie"))
	h.Next = PayloadType(r.u8("next payload"))
	h.Version = r.u8("version")
	h.Exchange = ExchangeType(r.u8("exchange type"))
	h.Flags = Flags(r.u8("flags"))
	h.MessageID = r.u32("message id")
	h.Length = r.u32("length")
	return h
}

// Parse reads a message in the clear: header and payloads, nothing behind them.
// A message whose E flag is set is an error: decrypt it and use ParseBody. The
// payloads alias b.
func Parse(b []byte) (Message, error) {
	h, err := ParseHeader(b)
	if err != nil {
		return Message{}, err
	}
	if h.Flags&FlagEncrypted != 0 {
		return Message{}, errors.New("header: flags: the message is encrypted")
	}
	r := reader{b: b[HeaderLen:]}
	ps, err := r.payloads(h.Next)
	if err == nil {
		err = r.done()
	}
	if err != nil {
		return Message{}, err
	}
	return Message{Header: h, Payloads: ps}, nil
}

// ParseBody reads the decrypted body of a message whose header names first. Used
// counts the bytes up to the end of the last payload: hashes cover those. What
// follows is padding of any value, since RFC 2409 appendix B leaves that open, and
// at most padding bytes. The payloads alias plain.
func ParseBody(first PayloadType, plain []byte, padding int) (ps []Payload, used int, err error) {
	r := reader{b: plain}
	ps, err = r.payloads(first)
	if err != nil {
		return nil, 0, err
	}
	if len(r.b) > padding {
		return nil, 0, fmt.Errorf("padding: %d bytes after the last payload, at most %d", len(r.b), padding)
	}
	return ps, len(plain) - len(r.b), nil
}

// payloads follows the chain that starts with first. Types that it does not know
// are payloads like any other: whether one may stand there is the exchange's
// question.
func (r *reader) payloads(first PayloadType) ([]Payload, error) {
	if first == None {
		return nil, errNoPayload
	}
	var ps []Payload
	for t := first; t != None; {
		if len(ps) == maxPayloads {
			return nil, fmt.Errorf("more than %d payloads", maxPayloads)
		}
		next, body := r.item()
		if r.err != nil {
			return nil, fmt.Errorf("payload %d (%s): %w", len(ps)+1, t, r.err)
		}
		ps = append(ps, Payload{t, body})
		t = next
	}
	return ps, nil
}

// Append writes the message in the clear. Next and Length of the header are
// computed, the fields of m are not looked at.
func (m Message) Append(dst []byte) []byte {
	start := len(dst)
	dst = m.Header.Append(dst, First(m.Payloads), nil)
	dst = AppendPayloads(dst, m.Payloads)
	binary.BigEndian.PutUint32(dst[start+24:], uint32(len(dst)-start))
	return dst
}

// Append writes the header for an already encrypted body, and the body. Length
// covers both, padding included, and is computed, as Next is taken from next.
func (h Header) Append(dst []byte, next PayloadType, body []byte) []byte {
	dst = append(dst, h.Initiator[:]...)
	dst = append(dst, h.Responder[:]...)
	dst = append(dst, byte(next), h.Version, byte(h.Exchange), byte(h.Flags))
	dst = binary.BigEndian.AppendUint32(dst, h.MessageID)
	dst = binary.BigEndian.AppendUint32(dst, uint32(HeaderLen+len(body)))
	return append(dst, body...)
}

// AppendPayloads writes each payload behind its generic header and closes the
// chain with None. A body has at most 65531 bytes, which no UDP datagram exceeds.
func AppendPayloads(dst []byte, ps []Payload) []byte {
	n := 0
	for _, p := range ps {
		n += 4 + len(p.Body)
	}
	dst = slices.Grow(dst, n)
	for i, p := range ps {
		dst = appendItem(dst, First(ps[i+1:]), func(b []byte) []byte { return append(b, p.Body...) })
	}
	return dst
}

// First is the type that the header in front of ps names; None for none.
func First(ps []Payload) PayloadType {
	if len(ps) == 0 {
		return None
	}
	return ps[0].Type
}
