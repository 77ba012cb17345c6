package segment

import (
	"bytes"
	"encoding/binary"
)

const (
	mostPieces = 64    // of one group
	mostBytes  = 65535 // of one group
	lookBack   = 8     // groups that are searched for a packet's flow
)

// Joiner collects the packets of one batch in groups, each of which is one large
// packet. The zero value joins nothing; TCP and UDP say what the device takes.
type Joiner struct {
	TCP, UDP bool
	groups   []Group
	barrier  int // groups before it take no more packets
}

// Group is a packet with what follows it in its flow.
type Group struct {
	// Head goes before the packet. It is valid after Finish.
	Head [HeaderLen]byte
	// Pieces are, in order, the first packet whole and the payloads of the others.
	Pieces [][]byte

	shape
	size   int // bytes of all pieces
	next   uint32
	id     uint16
	closed bool
	proven bool // the checksum of the first packet has been verified
}

// shape is what of a packet decides about joining. Head 0: nothing can join it.
type shape struct {
	protocol  byte
	transport int // where its header begins
	head      int // bytes of all headers
	payload   int
}

// Count is how many packets are in the group.
func (g *Group) Count() int { return len(g.Pieces) }

// Reset forgets the packets of the last batch.
func (j *Joiner) Reset() {
	for i := range j.groups {
		clear(j.groups[i].Pieces) // what they point to belongs to others
	}
	j.groups, j.barrier = j.groups[:0], 0
}

// Add takes a checked IP packet without bytes behind its end. It keeps and may
// change it until Reset.
func (j *Joiner) Add(packet []byte) {
	sh := shapeOf(packet)
	if sh.head == 0 || sh.protocol == protoTCP && !j.TCP || sh.protocol == protoUDP && !j.UDP {
		j.open(packet, shape{})
		j.barrier = len(j.groups) // nothing that follows overtakes it
		return
	}
	for i := len(j.groups) - 1; i >= max(j.barrier, len(j.groups)-lookBack); i-- {
		g := &j.groups[i]
		if g.protocol != sh.protocol || !sameFlow(g.Pieces[0], packet, sh) {
			continue
		}
		if g.takes(packet, sh) {
			g.append(packet, sh)
			return
		}
		g.closed = true
		break
	}
	j.open(packet, sh)
}

// open begins a group.
func (j *Joiner) open(packet []byte, sh shape) {
	n := len(j.groups)
	if n < cap(j.groups) {
		j.groups = j.groups[:n+1]
	} else {
		j.groups = append(j.groups, Group{Pieces: make([][]byte, 0, mostPieces)})
	}
	g := &j.groups[n]
	*g = Group{Pieces: append(g.Pieces[:0], packet), shape: sh, size: len(packet)}
	if sh.head == 0 {
		g.closed = true
		return
	}
	if packet[0]>>4 == 4 {
		g.id = binary.BigEndian.Uint16(packet[4:])
	}
	t := packet[sh.transport:]
	if sh.protocol == protoTCP {
		g.next = binary.BigEndian.Uint32(t[4:]) + uint32(sh.payload)
		g.closed = sh.payload == 0 || t[13]&^tcpECE != tcpACK
		return
	}
	g.closed = sh.payload == 0 || t[6] == 0 && t[7] == 0
}

// takes says whether packet, of the same flow, continues the group so that
// cutting it again gives the same packets.
func (g *Group) takes(packet []byte, sh shape) bool {
	first := g.Pieces[0]
	switch {
	case g.closed || sh.payload == 0 || sh.payload > g.payload || sh.head != g.head:
		return false
	case len(g.Pieces) >= mostPieces || g.size+sh.payload > mostBytes:
		return false
	case !sameHeader(first, packet, g.id+uint16(len(g.Pieces))):
		return false
	}
	a, b := first[g.transport:g.head], packet[sh.transport:sh.head]
	if sh.protocol == protoTCP {
		switch {
		case binary.BigEndian.Uint32(b[4:]) != g.next, !bytes.Equal(a[8:13], b[8:13]), !bytes.Equal(a[14:16], b[14:16]):
			return false
		case b[13]&^tcpPSH != a[13], !bytes.Equal(a[18:], b[18:]): // urgent pointer and options
			return false
		}
	} else if b[6] == 0 && b[7] == 0 {
		return false // without a checksum, and those before had one
	}
	if !g.proven && !verified(first, g.shape) {
		return false
	}
	g.proven = true
	return verified(packet, sh)
}

func (g *Group) append(packet []byte, sh shape) {
	g.Pieces = append(g.Pieces, packet[sh.head:])
	g.size += sh.payload
	g.next += uint32(sh.payload)
	g.closed = sh.payload < g.payload
	if t := packet[sh.transport:]; sh.protocol == protoTCP && t[13]&tcpPSH != 0 {
		g.Pieces[0][sh.transport+13] |= tcpPSH
		g.closed = true
	}
}

// Finish completes headers and returns the groups in the order in which their
// first packets came. They are valid until Reset.
func (j *Joiner) Finish() []Group {
	for i := range j.groups {
		g := &j.groups[i]
		if len(g.Pieces) == 1 {
			clear(g.Head[:])
			continue
		}
		g.finish()
	}
	return j.groups
}

func (g *Group) finish() {
	b := g.Pieces[0]
	h := Header{Kind: UDP, Checksum: true, Size: g.payload, Start: g.transport, Offset: 6}
	size := g.size - g.transport
	if b[0]>>4 == 4 {
		binary.BigEndian.PutUint16(b[2:], uint16(g.size))
		putHeader4(b[:g.transport])
	} else {
		binary.BigEndian.PutUint16(b[4:], uint16(g.size-ip6Len))
	}
	if g.protocol == protoTCP {
		h.Kind, h.Offset = TCP6, 16
		if b[0]>>4 == 4 {
			h.Kind = TCP4
		}
	} else {
		binary.BigEndian.PutUint16(b[g.transport+4:], uint16(size))
	}
	binary.BigEndian.PutUint16(b[g.transport+h.Offset:], fold(pseudo(b, g.protocol, size)))
	h.put(g.Head[:], g.head)
}

// shapeOf reads what must be known of a packet. Head 0: it is no TCP or UDP, is a
// fragment, or has options or extension headers.
func shapeOf(b []byte) shape {
	var sh shape
	switch {
	case len(b) >= ip4Len && b[0] == 0x45 && b[6]&0xbf == 0 && b[7] == 0:
		sh.protocol, sh.transport = b[9], ip4Len
	case len(b) >= ip6Len && b[0]>>4 == 6:
		sh.protocol, sh.transport = b[6], ip6Len
	default:
		return shape{}
	}
	t := b[sh.transport:]
	switch {
	case sh.protocol == protoTCP && len(t) >= tcpLen && t[12]>>4 >= 5 && int(t[12]>>4)*4 <= len(t):
		sh.head = sh.transport + int(t[12]>>4)*4
	case sh.protocol == protoUDP && len(t) >= udpLen && int(binary.BigEndian.Uint16(t[4:])) == len(t):
		sh.head = sh.transport + udpLen
	default:
		return shape{}
	}
	sh.payload = len(b) - sh.head
	return sh
}

func sameFlow(a, b []byte, sh shape) bool {
	from := 12
	if b[0]>>4 == 6 {
		from = 8
	}
	// The ports follow the addresses: neither header has options.
	return a[0]>>4 == b[0]>>4 && bytes.Equal(a[from:sh.transport+4], b[from:sh.transport+4])
}

// sameHeader compares what of the IP header cutting would copy. id is the
// identification that it would give.
func sameHeader(a, b []byte, id uint16) bool {
	if b[0]>>4 == 6 {
		return bytes.Equal(a[:4], b[:4]) && a[7] == b[7]
	}
	if a[1] != b[1] || a[6] != b[6] || a[8] != b[8] {
		return false
	}
	return b[6]&0x40 != 0 || binary.BigEndian.Uint16(b[4:]) == id
}

// verified checks the checksums, which are end to end: a packet that came damaged
// must arrive damaged, and a joined one gets new ones.
func verified(b []byte, sh shape) bool {
	if b[0]>>4 == 4 && fold(sum(0, b[:sh.transport])) != 0xffff {
		return false
	}
	t := b[sh.transport:]
	return fold(sum(pseudo(b, sh.protocol, len(t)), t)) == 0xffff
}
