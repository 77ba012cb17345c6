package esp

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"slices"
	"sync/atomic"

	"yumen/esp/internal/lanes"
	"yumen/policy"
	"yumen/policy/secret"
)

const (
	nextIPv4  = 4
	nextIPv6  = 41
	nextDummy = 59

	// softSequence is where an SA with 32-bit numbers asks for its successor even
	// if no soft limit says so: one sixteenth of the numbers is left.
	softSequence = 0xf0000000
)

// Outbound seals the packets of one direction of a child. Seal, Export and Close
// are for one goroutine at a time; the counters and notices are for any.
type Outbound struct {
	child  Child
	keys   *keys
	seq    atomic.Uint64 // last sent
	last   uint64        // the number after which nothing may be sent
	room   int           // bytes of ESP before the inner packet
	meter  meter
	closed atomic.Bool
	follow atomic.Int32 // bytes of ICV from the next packet on; 0: as made
}

// NewOutbound makes the sending half of c, going on after st. It reads
// c.Out.Keymat and does not keep it. CBC reads 16 bytes from random, now and
// never again; SM4-GCM reads nothing. Errors: a suite, ICV length, SPI or keymat
// that does not exist, or random failed.
func NewOutbound(c Child, st State, random io.Reader) (*Outbound, error) {
	return newOutbound(c, st, random, lanes.Best())
}

func newOutbound(c Child, st State, random io.Reader, path lanes.Path) (*Outbound, error) {
	if c.Lane >= policy.MaxSideBySide {
		return nil, fmt.Errorf("outbound SA %08x: lane %d, there are %d", uint32(c.Out.SPI), c.Lane, policy.MaxSideBySide)
	}
	k, err := newKeys(c, c.Out, path)
	if err != nil {
		return nil, fmt.Errorf("outbound SA %08x: %w", uint32(c.Out.SPI), err)
	}
	if c.Suite != policy.SM4GCM128 {
		if k.iv, err = newIVStream(random, path); err != nil {
			return nil, fmt.Errorf("outbound SA %08x: %w", uint32(c.Out.SPI), err)
		}
	}
	o := &Outbound{child: c.withoutKeys(), keys: k, last: math.MaxUint32, room: headerLen + k.shape.iv}
	if c.ESN {
		o.last = math.MaxUint64
	}
	o.seq.Store(st.OutSeq)
	o.meter.start(st.Out, c.Limits)
	return o, nil
}

// Seal appends the ESP packet (SPI to ICV) that carries inner, a whole IPv4 or
// IPv6 packet, to dst. It allocates nothing when dst has the room; inner may lie
// in that room, ideally where the plaintext goes (HeaderRoom bytes behind
// len(dst)), and is overwritten then.
//
// Errors: ErrMalformed, ErrLimit, ErrExhausted, ErrClosed; dst is then returned as
// it was and nothing was counted.
func (o *Outbound) Seal(dst, inner []byte) ([]byte, error) {
	out, packet, seq, err := o.begin(dst, inner)
	if err != nil {
		return dst, err
	}
	o.keys.seal(packet, seq)
	return out, nil
}

// begin does all of Seal but the cryptography: it returns what Seal returns, the
// packet in it, which lacks IV, encryption and ICV, and the packet's number.
func (o *Outbound) begin(dst, inner []byte) (out, packet []byte, seq uint64, err error) {
	next, err := o.admit(inner)
	if err != nil {
		return dst, nil, 0, err
	}
	out, packet, seq = o.frame(dst, inner, next)
	o.meter.add(len(inner))
	return out, packet, seq, nil
}

// frame spends a number on what was admitted and puts it between header and trailer.
func (o *Outbound) frame(dst, inner []byte, next byte) (out, packet []byte, seq uint64) {
	k, n := o.keys, len(inner)
	if icv := int(o.follow.Load()); icv != 0 {
		k.icv = icv
	}
	seq = o.seq.Load() + 1
	pad := k.pad(n)
	body := o.room
	end := body + n + pad + trailerLen
	out = slices.Grow(dst, end+k.icv)[:len(dst)+end+k.icv]
	packet = out[len(dst):]
	copy(packet[body:], inner) // first: inner may lie under what is written next
	trailer := packet[body+n : end]
	for i := range pad {
		trailer[i] = byte(i + 1)
	}
	trailer[pad], trailer[pad+1] = byte(pad), next
	binary.BigEndian.PutUint32(packet, uint32(o.child.Out.SPI))
	binary.BigEndian.PutUint32(packet[4:], uint32(seq))
	// The number is spent before it is used: whatever happens, no second packet
	// goes out under it (for GCM that would be the end of the key).
	o.seq.Store(seq)
	if seq >= softSequence && !o.child.ESN {
		o.meter.soft.raise()
	}
	return out, packet, seq
}

// admit decides about a packet before anything is written, and returns its next
// header.
func (o *Outbound) admit(inner []byte) (next byte, err error) {
	switch {
	case len(inner) >= ipv4HeaderLen && inner[0]>>4 == 4:
		next = nextIPv4
	case len(inner) >= ipv6HeaderLen && inner[0]>>4 == 6:
		next = nextIPv6
	default:
		return 0, ErrMalformed
	}
	if err := o.able(); err != nil {
		return 0, err
	}
	if !o.meter.room(len(inner)) {
		return 0, ErrLimit
	}
	return next, nil
}

// able says whether any packet can still be sent.
func (o *Outbound) able() error {
	if o.closed.Load() {
		return ErrClosed
	}
	if o.seq.Load() >= o.last {
		o.meter.hard.raise()
		return ErrExhausted
	}
	return nil
}

// HeaderRoom returns how many bytes of ESP go before the inner packet: the place,
// counted from the end of dst, where Seal need not move it.
func (o *Outbound) HeaderRoom() int { return o.room }

// Child returns the child without its keys.
func (o *Outbound) Child() Child { return o.child }

// Count returns what was sealed, in inner bytes and packets.
func (o *Outbound) Count() Count { return o.meter.count() }

// Seq returns the last sequence number sent; 0: none.
func (o *Outbound) Seq() uint64 { return o.seq.Load() }

// TookSoftLimit answers true once after a soft limit was reached, or when few
// sequence numbers are left. An SA that goes on from a State above its soft limit
// says so again at its first packet.
func (o *Outbound) TookSoftLimit() bool { return o.meter.soft.take() }

// TookHardLimit answers true once after a packet met a hard limit or the end of
// the sequence numbers.
func (o *Outbound) TookHardLimit() bool { return o.meter.hard.take() }

// Close overwrites the keys; Seal refuses from then on. It must not run beside
// Seal. The keymat of the child stays its owner's (Child.Wipe).
func (o *Outbound) Close() {
	if !o.closed.Swap(true) {
		o.keys.wipe()
	}
}

// Wipe overwrites the keymat of both halves. The last holder of a child calls it:
// closing an SA does not, because a pair may be moving to another data plane.
func (c Child) Wipe() {
	c.In.Keymat.Wipe()
	c.Out.Keymat.Wipe()
}

func (c Child) withoutKeys() Child {
	c.In.Keymat, c.Out.Keymat = secret.Secret{}, secret.Secret{}
	return c
}
