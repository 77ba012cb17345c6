package esp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"

	"yumen/esp/internal/lanes"
	"yumen/policy"
)

// Drops counts inbound packets that went no further, by reason.
type Drops struct {
	Malformed, Replayed, BadAuth, BadSelector, Dummy, Limited uint64
}

// Inbound opens the packets of one direction of a child. Open, Accept, Export and
// Close are for one goroutine at a time; the counters and notices are for any.
type Inbound struct {
	child  Child
	keys   *keys
	window Window
	meter  meter
	first  notice
	closed atomic.Bool
	// learning: the length of the ICV is not known yet. found is what it then was,
	// in bits; 0 where it always was known.
	learning bool
	found    atomic.Int32
	drops    struct{ malformed, replayed, auth, selector, dummy, limited atomic.Uint64 }
}

// NewInbound makes the receiving half of c, going on after st. It reads
// c.In.Keymat and does not keep it. Errors: a suite, ICV length, SPI, keymat or
// window that does not exist.
func NewInbound(c Child, st State) (*Inbound, error) {
	return newInbound(c, st, lanes.Best())
}

func newInbound(c Child, st State, path lanes.Path) (*Inbound, error) {
	k, err := newKeys(c, c.In, path)
	if err != nil {
		return nil, fmt.Errorf("inbound SA %08x: %w", uint32(c.In.SPI), err)
	}
	w, err := NewWindow(c.Window)
	if err != nil {
		return nil, fmt.Errorf("inbound SA %08x: %w", uint32(c.In.SPI), err)
	}
	w.Restore(st.InSeq, st.Replay)
	in := &Inbound{child: c.withoutKeys(), keys: k, window: w, learning: learns(c)}
	in.meter.start(st.In, c.Limits)
	return in, nil
}

// Open checks one ESP packet (SPI to ICV) and returns the inner packet, cut to
// its own length. The plaintext is written behind dst, which must not overlap
// packet and is not reallocated if it has room for len(packet) bytes; only the
// inner packet is returned, not what dst held. With dst nil the packet is
// decrypted in place.
//
// The order is that of RFC 4303 3.4: form, replay check, ICV, replay update,
// decryption, padding, inner packet, selector (RFC 4301 5.2). Until the ICV has
// matched nothing changes but a counter. Errors are the sentinels of this package.
// With ErrFragment the inner packet is returned too: it belongs to the SA, but
// its selector has ports, which a fragment alone cannot prove. The caller
// reassembles and asks Accept. With ErrEcho it is the payload of a dummy packet.
func (in *Inbound) Open(dst, packet []byte) (inner []byte, err error) {
	return in.openWith(dst, packet, nil)
}

// known is a MAC that was computed before its packet was opened, under the number
// that the packet seemed to have then.
type known struct {
	seq uint64
	sum *[lanes.SumSize]byte
}

func (in *Inbound) openWith(dst, packet []byte, k *known) (inner []byte, err error) {
	plain, err := in.authentic(dst, packet, k)
	if err == nil {
		inner, err = in.unwrap(plain)
	}
	in.note(err)
	return inner, err
}

// authentic returns the plaintext with its trailer, once the packet is proven to
// be the peer's and new.
func (in *Inbound) authentic(dst, packet []byte, k *known) ([]byte, error) {
	seq, err := in.fresh(packet)
	if err != nil {
		return nil, err
	}
	body, end := in.keys.parts(packet)
	plain := packet[body:end]
	if dst != nil {
		plain = room(dst, end-body)
	}
	var sum *[lanes.SumSize]byte
	if k != nil && k.seq == seq {
		sum = k.sum
	}
	if in.learning {
		plain, err = in.learn(dst, packet, seq)
	} else {
		err = in.keys.open(plain, packet, seq, sum)
	}
	if err != nil {
		return nil, err
	}
	in.window.Update(seq)
	in.first.raise()
	return plain, nil
}

// fresh checks what is known of a packet before its ICV, and returns its number. It
// changes nothing.
func (in *Inbound) fresh(packet []byte) (seq uint64, err error) {
	if in.closed.Load() {
		return 0, ErrClosed
	}
	k := in.keys
	body, end := k.parts(packet)
	if end-body < k.align || binary.BigEndian.Uint32(packet) != uint32(in.child.In.SPI) {
		return 0, ErrMalformed
	}
	if (end-body)%k.align != 0 && !in.learning {
		// What a peer that uses another ICV length sends looks so: its length is
		// not negotiated (HMAC-SM3 has one number), and no ICV of ours matches.
		return 0, ErrAuth
	}
	if in.meter.hard.raised() {
		return 0, ErrLimit
	}
	seq, ok := uint64(binary.BigEndian.Uint32(packet[4:])), true
	if k.esn {
		seq, ok = in.window.expand(uint32(seq))
	}
	if !ok || !in.window.Check(seq) {
		return 0, ErrReplayed
	}
	return seq, nil
}

// room returns n bytes behind dst, in its own memory if they fit.
func room(dst []byte, n int) []byte {
	if cap(dst)-len(dst) >= n {
		return dst[len(dst) : len(dst)+n]
	}
	return make([]byte, n)
}

// unwrap takes the trailer off an authentic plaintext and judges what is inside.
func (in *Inbound) unwrap(plain []byte) ([]byte, error) {
	pad, next := int(plain[len(plain)-2]), plain[len(plain)-1]
	n := len(plain) - trailerLen - pad
	if n < 0 {
		return nil, ErrMalformed
	}
	for i, b := range plain[n : n+pad] { // authentic: no need for constant time
		if b != byte(i+1) {
			return nil, ErrMalformed
		}
	}
	if next == nextDummy {
		if _, err := ParseEcho(plain[:n]); err == nil {
			return plain[:n], ErrEcho
		}
		return nil, ErrDummy
	}
	p, err := ParsePacket(plain[:n])
	if err != nil || next != p.nextHeader() {
		return nil, ErrMalformed
	}
	inner := plain[:p.Length] // the rest is traffic flow padding (RFC 4303 2.7)
	err = in.judge(p)
	if err != nil && err != ErrFragment {
		return nil, err
	}
	if !in.meter.room(len(inner)) {
		return nil, ErrLimit
	}
	in.meter.add(len(inner))
	return inner, err
}

// judge checks the selector; ErrFragment when only the whole packet can tell.
func (in *Inbound) judge(p Packet) error {
	s := &in.child.Selector
	if p.Fragment && needsWhole(s) {
		if !s.Local.Contains(p.Dst) || !s.Remote.Contains(p.Src) {
			return ErrSelector
		}
		return ErrFragment
	}
	if !s.Contains(p.FlowIn()) {
		return ErrSelector
	}
	return nil
}

// needsWhole says whether a fragment cannot be judged by s. Ports are only in the
// first fragment, and the protocol of an IPv6 fragment may hide behind extension
// headers that are only in the first, too.
func needsWhole(s *policy.Selector) bool {
	return s.HasPorts() || s.Protocol != 0 && s.Local.First.Is6()
}

// Accept checks a packet that was put together from fragments which Open returned
// with ErrFragment: nil, ErrSelector or ErrMalformed.
func (in *Inbound) Accept(whole []byte) error {
	p, err := ParsePacket(whole)
	switch {
	case err != nil || p.Fragment:
		err = ErrMalformed
	case !in.child.Selector.Contains(p.FlowIn()):
		err = ErrSelector
	}
	in.note(err)
	return err
}

// note counts a refusal.
func (in *Inbound) note(err error) {
	switch {
	case err == nil:
	case errors.Is(err, ErrMalformed):
		in.drops.malformed.Add(1)
	case errors.Is(err, ErrReplayed):
		in.drops.replayed.Add(1)
	case errors.Is(err, ErrAuth):
		in.drops.auth.Add(1)
	case errors.Is(err, ErrSelector):
		in.drops.selector.Add(1)
	case errors.Is(err, ErrDummy):
		in.drops.dummy.Add(1)
	case errors.Is(err, ErrLimit):
		in.drops.limited.Add(1)
	}
}

// Child returns the child without its keys.
func (in *Inbound) Child() Child { return in.child }

// Count returns what was delivered, in inner bytes and packets; a fragment counts
// when it is opened.
func (in *Inbound) Count() Count { return in.meter.count() }

// Drops returns what was refused.
func (in *Inbound) Drops() Drops {
	d := &in.drops
	return Drops{
		Malformed: d.malformed.Load(), Replayed: d.replayed.Load(), BadAuth: d.auth.Load(),
		BadSelector: d.selector.Load(), Dummy: d.dummy.Load(), Limited: d.limited.Load(),
	}
}

// TookFirst answers true once after the first authentic packet: the peer has the
// SA. Whether the packet then passed its selector does not matter.
func (in *Inbound) TookFirst() bool { return in.first.take() }

// TookSoftLimit answers true once after a soft limit was reached.
func (in *Inbound) TookSoftLimit() bool { return in.meter.soft.take() }

// TookHardLimit answers true once after a packet met a hard limit.
func (in *Inbound) TookHardLimit() bool { return in.meter.hard.take() }

// Highest says whether a packet that Open has just accepted carried the highest
// number so far. Only such a packet may move the peer's address: an older one,
// held back and then sent from elsewhere, is still new to the window.
func (in *Inbound) Highest(packet []byte) bool {
	return len(packet) >= headerLen && binary.BigEndian.Uint32(packet[4:]) == uint32(in.window.Top())
}

// Close overwrites the keys; Open refuses from then on. It must not run beside
// Open. The keymat of the child stays its owner's (Child.Wipe).
func (in *Inbound) Close() {
	if !in.closed.Swap(true) {
		in.keys.wipe()
	}
}

// Export returns what a pair needs to go on elsewhere. Either half may be nil, and
// may be closed, but must not be at work.
func Export(in *Inbound, out *Outbound) State {
	var st State
	if in != nil {
		st.InSeq, st.Replay, st.In = in.window.Top(), in.window.Bitmap(), in.Count()
	}
	if out != nil {
		st.OutSeq, st.Out = out.Seq(), out.Count()
	}
	return st
}
