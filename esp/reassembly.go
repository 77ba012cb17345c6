package esp

import (
	"container/list"
	"encoding/binary"
	"net/netip"
	"slices"
	"time"
)

// ReassemblyLimits bound what fragments may hold. A zero field takes its default.
type ReassemblyLimits struct {
	Bytes     int           // of all fragments kept; 4 MiB
	Packets   int           // in flight; 1024
	Fragments int           // of one packet; 64
	Timeout   time.Duration // from the first fragment to arrive; 30 s
}

const (
	maxPacket = 65535
	// fragmentCost is what a fragment counts besides its bytes, so that the limit
	// of bytes also holds for many tiny ones.
	fragmentCost = 64
)

// Reassembler puts IPv4 and IPv6 packets together from fragments within fixed
// limits (RFC 791 3.2, RFC 8200 4.5). Fragments that overlap condemn the whole
// packet, including what is still to come of it (RFC 5722, here for IPv4 too);
// only an exact repetition is passed over. When the packets in flight reach
// a limit the oldest makes room. It is for one goroutine at a time.
type Reassembler struct {
	limits ReassemblyLimits
	byKey  map[partialKey]*list.Element
	order  list.List // of *partial, oldest first
	bytes  int
}

// partialKey names a packet in pieces (RFC 791 3.2, RFC 8200 4.5). Fragments of
// different SAs never meet, or one peer could complete another's packet.
type partialKey struct {
	from     ChildID
	src, dst netip.Addr
	id       uint32
	protocol byte // IPv4 only
}

// partial is a packet in pieces.
type partial struct {
	key    partialKey
	born   time.Time
	pieces []piece // by offset, without overlaps
	head   []byte  // headers of the first fragment, up to what it carries
	next   byte    // IPv6: what follows the fragment header of the first fragment
	field  int     // IPv6: offset in head of the byte that names the fragment header
	total  int     // bytes carried by the whole packet; -1: the last is missing
	have   int
	cost   int
	ecn    [4]bool // marks seen
	dead   bool    // condemned: swallows what still comes
}

type piece struct {
	at   int
	data []byte
}

// NewReassembler makes an empty reassembler.
func NewReassembler(l ReassemblyLimits) *Reassembler {
	def := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	def(&l.Bytes, 4<<20)
	def(&l.Packets, 1024)
	def(&l.Fragments, 64)
	if l.Timeout <= 0 {
		l.Timeout = 30 * time.Second
	}
	return &Reassembler{limits: l, byKey: map[partialKey]*list.Element{}}
}

// Add takes one fragment that came at now from an SA (0: in clear) and returns the
// whole packet when it was the last missing piece: a new slice, the caller's. Nil
// and nil: wait for more. It copies what it keeps. A packet that is no fragment is
// returned as it is.
//
// Errors: ErrMalformed, ErrOverlap (the packet is condemned), ErrReassembly (too
// many or too large fragments), ErrCongestion (marks that contradict, RFC 3168
// 5.3). The clock must not run backwards.
func (r *Reassembler) Add(now time.Time, from ChildID, fragment []byte) (whole []byte, err error) {
	p, err := ParsePacket(fragment)
	if err != nil {
		return nil, err
	}
	fragment = fragment[:p.Length]
	if !p.Fragment {
		return fragment, nil
	}
	data := fragment[p.payload:]
	if len(data) == 0 || p.More && len(data)%8 != 0 || p.Offset+len(data)+p.payload > maxPacket {
		return nil, ErrMalformed
	}
	r.Expire(now)
	part, err := r.part(now, from, &p)
	if err != nil {
		return nil, err
	}
	if part.dead {
		return nil, ErrOverlap
	}
	fresh, err := part.check(&p, data)
	if err == nil && fresh && len(part.pieces) >= r.limits.Fragments {
		err = ErrReassembly
	}
	if err != nil {
		r.condemn(part)
		return nil, err
	}
	if fresh {
		r.keep(part, &p, fragment)
	}
	if part.have != part.total || part.head == nil {
		return nil, nil
	}
	r.remove(part)
	return part.join()
}

// Expire forgets packets older than the timeout and returns how many were not
// condemned, for a counter.
func (r *Reassembler) Expire(now time.Time) (lost int) {
	for e := r.order.Front(); e != nil; e = r.order.Front() {
		part := e.Value.(*partial)
		if now.Sub(part.born) < r.limits.Timeout {
			break
		}
		if !part.dead {
			lost++
		}
		r.remove(part)
	}
	return lost
}

// Pending returns how many packets are in flight and what they hold in bytes.
func (r *Reassembler) Pending() (packets, bytes int) { return len(r.byKey), r.bytes }

// part finds the packet that a fragment belongs to, or begins it, and makes room
// for the fragment.
func (r *Reassembler) part(now time.Time, from ChildID, p *Packet) (*partial, error) {
	key := partialKey{from: from, src: p.Src, dst: p.Dst, id: p.ID}
	if p.version == 4 {
		key.protocol = p.Protocol
	}
	cost := p.Length + fragmentCost
	if cost > r.limits.Bytes {
		return nil, ErrReassembly
	}
	part := &partial{key: key, born: now, total: -1}
	if e := r.byKey[key]; e != nil {
		part = e.Value.(*partial)
	} else if len(r.byKey) >= r.limits.Packets {
		r.remove(r.order.Front().Value.(*partial))
	}
	for r.bytes+cost > r.limits.Bytes {
		oldest := r.order.Front().Value.(*partial)
		r.remove(oldest)
		if oldest == part {
			return nil, ErrReassembly // it would evict itself
		}
	}
	if r.byKey[key] == nil {
		r.byKey[key] = r.order.PushBack(part)
	}
	return part, nil
}

// check says whether a fragment fits what is there; not fresh: it is there already.
func (part *partial) check(p *Packet, data []byte) (fresh bool, err error) {
	end := p.Offset + len(data)
	if part.total >= 0 && (end > part.total || p.More == (end == part.total)) {
		return false, ErrOverlap
	}
	i := part.find(p.Offset)
	if i < len(part.pieces) {
		have := part.pieces[i]
		if have.at == p.Offset && slices.Equal(have.data, data) && p.More == (end != part.total) {
			return false, nil
		}
		if have.at < end {
			return false, ErrOverlap
		}
		if !p.More {
			return false, ErrOverlap // something lies behind the last fragment
		}
	}
	if i > 0 && part.pieces[i-1].end() > p.Offset {
		return false, ErrOverlap
	}
	return true, nil
}

func (q piece) end() int { return q.at + len(q.data) }

// find returns the index of the first piece at or behind an offset.
func (part *partial) find(offset int) int {
	i, _ := slices.BinarySearchFunc(part.pieces, offset, func(q piece, at int) int { return q.at - at })
	return i
}

// keep copies a fragment that check allowed.
func (r *Reassembler) keep(part *partial, p *Packet, fragment []byte) {
	own := slices.Clone(fragment)
	q := piece{at: p.Offset, data: own[p.payload:]}
	part.pieces = slices.Insert(part.pieces, part.find(p.Offset), q)
	part.have += len(q.data)
	if !p.More {
		part.total = q.end()
	}
	if p.Offset == 0 {
		part.head, part.next, part.field = own[:p.payload], p.fragNext, p.fragField
	}
	part.ecn[TOS(own)&ecnMask] = true
	cost := len(own) + fragmentCost
	part.cost += cost
	r.bytes += cost
}

func (r *Reassembler) remove(part *partial) {
	if e := r.byKey[part.key]; e != nil && e.Value.(*partial) == part {
		r.order.Remove(e)
		delete(r.byKey, part.key)
		r.bytes -= part.cost
	}
}

// condemn frees what a packet holds but remembers it until its time is up.
func (r *Reassembler) condemn(part *partial) {
	r.bytes -= part.cost
	*part = partial{key: part.key, born: part.born, dead: true}
}

// join writes the whole packet.
func (part *partial) join() ([]byte, error) {
	if part.ecn[ecnCE] && part.ecn[ecnNot] {
		return nil, ErrCongestion
	}
	v4 := part.head[0]>>4 == 4
	head := part.head
	if !v4 {
		head = head[:len(head)-8] // without the fragment header
	}
	if len(head)+part.total > maxPacket {
		return nil, ErrMalformed
	}
	whole := make([]byte, len(head), len(head)+part.total)
	copy(whole, head)
	for _, q := range part.pieces {
		whole = append(whole, q.data...)
	}
	if part.ecn[ecnCE] {
		setTOS(whole, TOS(whole)|ecnCE)
	}
	if !v4 {
		whole[part.field] = part.next
		binary.BigEndian.PutUint16(whole[4:], uint16(len(whole)-ipv6HeaderLen))
		return whole, nil
	}
	binary.BigEndian.PutUint16(whole[2:], uint16(len(whole)))
	whole[6], whole[7] = whole[6]&0x40, 0 // only Don't Fragment stays
	whole[10], whole[11] = 0, 0
	binary.BigEndian.PutUint16(whole[10:], checksum(whole[:len(head)]))
	return whole, nil
}

// checksum is the Internet checksum (RFC 1071) of an even number of bytes.
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	return ^fold(sum)
}
