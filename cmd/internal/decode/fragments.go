package decode

import (
	"bytes"
	"net/netip"
)

const (
	maxPartial   = 64  // datagrams being put together
	maxFragments = 256 // of one datagram; 65535 bytes in steps of 256
)

// reassembler puts IP fragments of both families together, within bounds.
// Overlaps that disagree spoil the datagram (RFC 5722 4); what does not complete
// is forgotten, oldest first.
type reassembler struct {
	parts map[fragmentKey]*partial
	order []fragmentKey // oldest first
	lost  int
}

type fragmentKey struct {
	src, dst netip.Addr
	id       uint32
	proto    uint8
}

type partial struct {
	pieces map[int][]byte // by offset
	frames int
	end    int // length of the whole, -1 until the last piece is seen
	have   int
	first  uint8 // protocol named by the piece at offset 0
	bad    bool
}

// add takes one fragment and returns the whole packet once it is complete.
// frames is the number of pieces it came in.
func (r *reassembler) add(p ipPacket) (whole ipPacket, frames int, ok bool) {
	key := fragmentKey{p.src, p.dst, p.id, p.proto}
	if p.src.Is6() {
		key.proto = 0 // in IPv6 only the first fragment's next header counts
	}
	d := r.parts[key]
	if d == nil {
		d = r.begin(key)
	}
	d.take(p)
	if d.bad || d.end < 0 || d.have != d.end {
		return ipPacket{}, 0, false
	}
	b, complete := d.join()
	r.forget(key)
	if !complete {
		r.lost++
		return ipPacket{}, 0, false
	}
	whole = ipPacket{src: p.src, dst: p.dst, proto: d.first, payload: b}
	if p.src.Is6() && whole.extensions() != nil {
		r.lost++
		return ipPacket{}, 0, false
	}
	return whole, d.frames, !whole.fragment()
}

func (r *reassembler) begin(key fragmentKey) *partial {
	if r.parts == nil {
		r.parts = make(map[fragmentKey]*partial)
	}
	if len(r.order) >= maxPartial {
		r.forget(r.order[0])
		r.lost++
	}
	d := &partial{pieces: make(map[int][]byte), end: -1}
	r.parts[key] = d
	r.order = append(r.order, key)
	return d
}

func (r *reassembler) forget(key fragmentKey) {
	delete(r.parts, key)
	for i, k := range r.order {
		if k == key {
			r.order = append(r.order[:i:i], r.order[i+1:]...)
			return
		}
	}
}

func (d *partial) take(p ipPacket) {
	end := p.offset + len(p.payload)
	if old, twice := d.pieces[p.offset]; twice {
		d.bad = d.bad || !bytes.Equal(old, p.payload)
		return
	}
	switch {
	case p.cut, end > 65535, len(d.pieces) >= maxFragments, p.more && len(p.payload)%8 != 0,
		len(p.payload) == 0, d.end >= 0 && end > d.end, !p.more && d.end >= 0:
		d.bad = true
		return
	}
	if !p.more {
		d.end = end
	}
	if p.offset == 0 {
		d.first = p.proto
	}
	d.pieces[p.offset] = p.payload
	d.have += len(p.payload)
	d.frames++
}

// join walks the pieces from 0; a gap beside an overlap shows here.
func (d *partial) join() ([]byte, bool) {
	b := make([]byte, 0, d.end)
	for len(b) < d.end {
		piece, ok := d.pieces[len(b)]
		if !ok {
			return nil, false
		}
		b = append(b, piece...)
	}
	return b, len(b) == d.end
}
