package decode

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
)

// maxFrame bounds one captured frame: tcpdump's largest snapshot length. The
// length fields of a file are an attacker's, so none above it is believed.
const maxFrame = 256 << 10

// frame is one record of a capture file.
type frame struct {
	number int // from 1, as analysers count
	time   time.Time
	link   uint32 // LINKTYPE_ number
	data   []byte
	cut    bool // the file holds less than was on the wire
}

// source reads the frames of a capture file in order; io.EOF ends it.
type source interface{ next() (frame, error) }

var errNotCapture = errors.New("not a capture file: neither pcap nor pcapng")

// newSource tells pcap from pcapng by the first four bytes.
func newSource(r io.Reader) (source, error) {
	br := bufio.NewReaderSize(r, 64<<10)
	magic, err := br.Peek(4)
	if err != nil {
		return nil, fmt.Errorf("%w: shorter than 4 bytes", errNotCapture)
	}
	if binary.BigEndian.Uint32(magic) == ngSection {
		return &ngSource{r: br}, nil
	}
	for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		switch order.Uint32(magic) {
		case 0xa1b2c3d4:
			return newPcapSource(br, order, time.Microsecond)
		case 0xa1b23c4d:
			return newPcapSource(br, order, time.Nanosecond)
		}
	}
	return nil, fmt.Errorf("%w: magic %x", errNotCapture, magic)
}

// pcapSource is the classic format: a header of 24 bytes, then records.
type pcapSource struct {
	r     *bufio.Reader
	order binary.ByteOrder
	unit  time.Duration // of the second half of a time stamp
	link  uint32
	count int
}

func newPcapSource(r *bufio.Reader, order binary.ByteOrder, unit time.Duration) (*pcapSource, error) {
	var head [24]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, fmt.Errorf("%w: the pcap header is cut short", errNotCapture)
	}
	// The upper bits of the link type hold the length of the frame check sequence.
	return &pcapSource{r: r, order: order, unit: unit, link: order.Uint32(head[20:]) & 0xffff}, nil
}

func (s *pcapSource) next() (frame, error) {
	var head [16]byte
	if _, err := io.ReadFull(s.r, head[:]); err != nil {
		return frame{}, endOf(err, s.count+1)
	}
	s.count++
	size, orig := s.order.Uint32(head[8:]), s.order.Uint32(head[12:])
	if size > maxFrame {
		return frame{}, fmt.Errorf("frame %d: a record of %d bytes, more than %d: the file is damaged", s.count, size, maxFrame)
	}
	data := make([]byte, size)
	if _, err := io.ReadFull(s.r, data); err != nil {
		return frame{}, endOf(io.ErrUnexpectedEOF, s.count)
	}
	sec, frac := int64(s.order.Uint32(head[0:])), time.Duration(s.order.Uint32(head[4:]))
	when := time.Unix(sec, 0).Add(frac * s.unit).UTC()
	return frame{number: s.count, time: when, link: s.link, data: data, cut: orig > size}, nil
}

// endOf names a file that stops inside a record, as a capture does whose writer
// was stopped; a clean end stays io.EOF.
func endOf(err error, count int) error {
	if errors.Is(err, io.EOF) {
		return io.EOF
	}
	return fmt.Errorf("frame %d: the file ends inside it: %w", count, err)
}

const (
	ngSection   = 0x0a0d0d0a
	ngInterface = 1
	ngOldPacket = 2
	ngSimple    = 3
	ngEnhanced  = 6

	maxInterfaces = 4096
)

// ngSource is pcapng: blocks, each with its type and length.
type ngSource struct {
	r      *bufio.Reader
	order  binary.ByteOrder
	ifaces []ngIface
	count  int
}

type ngIface struct {
	link, snap uint32
	perSecond  uint64 // units of a time stamp
}

func (s *ngSource) next() (frame, error) {
	for {
		kind, body, err := s.block()
		if err != nil {
			return frame{}, err
		}
		switch kind {
		case ngInterface:
			if err := s.addInterface(body); err != nil {
				return frame{}, err
			}
		case ngEnhanced, ngOldPacket, ngSimple:
			s.count++
			return s.packet(kind, body)
		}
	}
}

// block reads one block; the bodies of kinds that carry no frame are skipped
// without being held.
func (s *ngSource) block() (kind uint32, body []byte, err error) {
	var head [8]byte
	if _, err := io.ReadFull(s.r, head[:]); err != nil {
		return 0, nil, endOf(err, s.count+1)
	}
	if binary.BigEndian.Uint32(head[:]) == ngSection {
		if err := s.section(); err != nil {
			return 0, nil, err
		}
	}
	if s.order == nil {
		return 0, nil, errNotCapture
	}
	kind, size := s.order.Uint32(head[:]), s.order.Uint32(head[4:])
	if size < 12 || size%4 != 0 {
		return 0, nil, fmt.Errorf("after frame %d: a block of %d bytes: the file is damaged", s.count, size)
	}
	rest := int(size) - 12
	switch kind {
	case ngInterface, ngEnhanced, ngOldPacket, ngSimple:
		if rest > maxFrame+(64<<10) {
			return 0, nil, fmt.Errorf("after frame %d: a block of %d bytes is too long: the file is damaged", s.count, size)
		}
		body = make([]byte, rest)
		_, err = io.ReadFull(s.r, body)
	default:
		_, err = io.CopyN(io.Discard, s.r, int64(rest))
	}
	if err == nil {
		_, err = s.r.Discard(4) // the length again
	}
	if err != nil {
		return 0, nil, endOf(io.ErrUnexpectedEOF, s.count+1)
	}
	return kind, body, nil
}

// section learns the byte order, which each section may change, from the
// byte-order magic that follows the header of its first block.
func (s *ngSource) section() error {
	magic, err := s.r.Peek(4)
	if err != nil {
		return endOf(io.ErrUnexpectedEOF, s.count+1)
	}
	switch {
	case binary.LittleEndian.Uint32(magic) == 0x1a2b3c4d:
		s.order = binary.LittleEndian
	case binary.BigEndian.Uint32(magic) == 0x1a2b3c4d:
		s.order = binary.BigEndian
	default:
		return fmt.Errorf("%w: byte-order magic %x", errNotCapture, magic)
	}
	s.ifaces = nil
	return nil
}

func (s *ngSource) addInterface(body []byte) error {
	if len(body) < 8 || len(s.ifaces) >= maxInterfaces {
		return fmt.Errorf("after frame %d: malformed interface block", s.count)
	}
	i := ngIface{link: uint32(s.order.Uint16(body)), snap: s.order.Uint32(body[4:]), perSecond: 1e6}
	for opts := body[8:]; len(opts) >= 4; {
		code, n := s.order.Uint16(opts), int(s.order.Uint16(opts[2:]))
		padded := (n + 3) &^ 3
		if code == 0 || len(opts) < 4+padded {
			break
		}
		if code == 9 && n == 1 {
			i.perSecond = resolution(opts[4])
		}
		opts = opts[4+padded:]
	}
	s.ifaces = append(s.ifaces, i)
	return nil
}

// resolution reads if_tsresol: a negative power of ten, or of two with the top
// bit. What would not fit 64 bits is taken as the default, microseconds.
func resolution(b byte) uint64 {
	base, exp := uint64(10), int(b&0x7f)
	if b&0x80 != 0 {
		base = 2
	}
	if (base == 10 && exp > 18) || exp > 62 {
		return 1e6
	}
	n := uint64(1)
	for range exp {
		n *= base
	}
	return n
}

func (s *ngSource) packet(kind uint32, body []byte) (frame, error) {
	bad := fmt.Errorf("frame %d: malformed packet block", s.count)
	f := frame{number: s.count}
	var iface, size, orig uint32
	var stamp uint64
	switch kind {
	case ngSimple:
		if len(body) < 4 || len(s.ifaces) == 0 {
			return f, bad
		}
		orig = s.order.Uint32(body)
		size, body = min(orig, uint32(len(body)-4)), body[4:]
		if snap := s.ifaces[0].snap; snap != 0 {
			size = min(size, snap)
		}
	default:
		if len(body) < 20 {
			return f, bad
		}
		iface = s.order.Uint32(body)
		if kind == ngOldPacket {
			iface = uint32(s.order.Uint16(body))
		}
		stamp = uint64(s.order.Uint32(body[4:]))<<32 | uint64(s.order.Uint32(body[8:]))
		size, orig, body = s.order.Uint32(body[12:]), s.order.Uint32(body[16:]), body[20:]
	}
	if uint64(iface) >= uint64(len(s.ifaces)) || uint64(size) > uint64(len(body)) {
		return f, bad
	}
	in := s.ifaces[iface]
	f.link, f.data, f.cut = in.link, body[:size], orig > size
	if kind != ngSimple {
		f.time = stampTime(stamp, in.perSecond)
	}
	return f, nil
}

func stampTime(stamp, perSecond uint64) time.Time {
	sec, frac := stamp/perSecond, stamp%perSecond
	nanos := float64(frac) / float64(perSecond) * 1e9
	if perSecond <= 1e9 && uint64(1e9)%perSecond == 0 {
		return time.Unix(int64(sec), int64(frac*(1e9/perSecond))).UTC()
	}
	return time.Unix(int64(sec), int64(nanos)).UTC()
}
