// Package decode reads a capture of GB/T 36968: every message field by field
// and, as far as laboratory keys are given, opened, verified and named where it
// does not verify. Bytes in, report out: it knows no file, no flag, no network,
// and it never trusts a length. Nothing of a key enters a report.
package decode

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/netip"

	"yumen/ike/wire"
)

// Key is an encryption private key of one side.
type Key struct {
	Name      string // for the report, as a file name
	Decrypter crypto.Decrypter
}

// Options say how to read a capture.
type Options struct {
	Keys    []Key
	SM2ID   string // user ID of signatures; empty: 1234567812345678
	ICVBits int    // 96, 128 or 256: report other lengths as wrong; 0: detect
	// ESPShown is how many good ESP packets of each SA are listed; all are
	// verified and counted. 0: 32. Negative: all, up to the bound on messages.
	ESPShown int
}

// Bounds on what a hostile capture can make us hold.
const (
	maxSessions  = 1024
	maxMessages  = 20000
	maxExchanges = 8192 // phase-2 exchanges of all sessions
	maxFlows     = 4096
	maxSeen      = 1 << 16  // hashes of messages
	maxSequences = 1 << 20  // sequence numbers remembered, of all flows
	maxText      = 64 << 20 // bytes of fields kept
	maxBroken    = 100      // listed frames that cannot be read
	maxSAs       = 1 << 14
	maxProblems  = 50
)

type cookies struct{ i, r wire.Cookie }

// decoder holds what was learnt so far.
type decoder struct {
	opts     Options
	report   *Report
	frags    reassembler
	sessions map[cookies]*session
	halfOpen map[wire.Cookie]*session // seen M1, no responder cookie yet
	order    []*session
	seen     map[[32]byte]int // hash of a message: its frame
	flows    map[flowKey]*Flow
	sas      map[uint32][]*sa
	count    int             // of sas
	phaseTwo int             // exchanges
	numbers  int             // sequence numbers remembered
	text     int             // bytes of listed fields
	fits     map[string]bool // keys that belong to a certificate here, by name
	hidden   int
	broken   int
}

// datagram is one whole IP payload and where it came from.
type datagram struct {
	frame    frame
	src, dst netip.AddrPort
	data     []byte
	pieces   int // IP fragments it came in
}

// Decode reads a pcap or pcapng file to its end. An error means that r is no
// capture at all; damage further on, and everything that does not verify, is in
// the report.
func Decode(r io.Reader, opts Options) (*Report, error) {
	src, err := newSource(r)
	if err != nil {
		return nil, err
	}
	if opts.ESPShown == 0 {
		opts.ESPShown = 32
	}
	d := &decoder{
		opts:     opts,
		report:   &Report{Notice: Notice, Messages: []*Message{}, Sessions: []*Session{}, Flows: []*Flow{}},
		sessions: make(map[cookies]*session),
		halfOpen: make(map[wire.Cookie]*session),
		seen:     make(map[[32]byte]int),
		flows:    make(map[flowKey]*Flow),
		sas:      make(map[uint32][]*sa),
		fits:     make(map[string]bool),
	}
	defer d.wipe()
	for {
		f, err := src.next()
		if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			d.problem(err.Error())
			break
		}
		d.report.Frames++
		d.frame(f)
	}
	d.finish()
	return d.report, nil
}

// frame takes one frame apart down to the payload of IP.
func (d *decoder) frame(f frame) {
	b, err := linkLayer(f.link, f.data)
	if errors.Is(err, errNotIP) {
		d.report.Ignored++
		return
	}
	var p ipPacket
	if err == nil {
		p, err = parseIP(b)
	}
	if err != nil {
		d.unreadable(f, err)
		return
	}
	pieces := 1
	if p.fragment() {
		if p.proto != protoUDP && p.proto != protoESP && p.src.Is4() {
			d.report.Ignored++
			return
		}
		var whole bool
		if p, pieces, whole = d.frags.add(p); !whole {
			return
		}
	}
	d.upper(f, p, pieces)
}

func (d *decoder) upper(f frame, p ipPacket, pieces int) {
	g := datagram{frame: f, data: p.payload, pieces: pieces}
	g.src, g.dst = netip.AddrPortFrom(p.src, 0), netip.AddrPortFrom(p.dst, 0)
	short := p.cut || f.cut
	switch p.proto {
	case protoESP:
		d.esp(g, "ESP", short)
	case protoUDP:
		u, err := parseUDP(p.payload, short)
		if len(p.payload) >= 4 && !ours(be16(p.payload), be16(p.payload[2:])) {
			d.report.Ignored++
			return
		}
		if err != nil {
			d.unreadable(f, err)
			return
		}
		g.src, g.dst = netip.AddrPortFrom(p.src, u.src), netip.AddrPortFrom(p.dst, u.dst)
		g.data = u.data
		d.udp(g, short)
	default:
		d.report.Ignored++
	}
}

func be16(b []byte) uint16 { return uint16(b[0])<<8 | uint16(b[1]) }

func ours(a, b uint16) bool { return a == 500 || b == 500 || a == 4500 || b == 4500 }

// udp tells IKE from ESP on port 4500 by the non-ESP marker (RFC 3948 2.2).
func (d *decoder) udp(g datagram, short bool) {
	if g.src.Port() == 500 || g.dst.Port() == 500 {
		d.ike(g, short)
		return
	}
	switch b := g.data; {
	case len(b) == 1 && b[0] == 0xff:
		m := d.message(g, "keepalive")
		m.add(0, "NAT keepalive", "one byte 0xff (RFC 3948 2.3)")
	case len(b) >= 4 && b[0]|b[1]|b[2]|b[3] == 0:
		g.data = b[4:]
		d.ike(g, short)
	default:
		d.esp(g, "ESP in UDP", short)
	}
}

// message opens the report of one datagram. Beyond the bound it is still
// decoded and its checks counted, but not kept.
func (d *decoder) message(g datagram, name string) *Message {
	m := d.newMessage(g, name)
	d.list(m)
	return m
}

func (d *decoder) newMessage(g datagram, name string) *Message {
	m := &Message{Frame: g.frame.number, Time: g.frame.time, From: endpoint(g.src), To: endpoint(g.dst), Name: name, Bytes: len(g.data)}
	if g.pieces > 1 {
		m.note("came in %d IP fragments", g.pieces)
	}
	return m
}

func (d *decoder) list(m *Message) {
	for _, f := range m.Fields {
		d.text += len(f.Value)
	}
	if len(d.report.Messages) >= maxMessages || d.text > maxText {
		d.hidden++
		return
	}
	d.report.Messages = append(d.report.Messages, m)
}

func endpoint(a netip.AddrPort) string {
	if a.Port() == 0 {
		return a.Addr().String()
	}
	return a.String()
}

// ike decodes one ISAKMP message, and with the last piece of one the whole of it.
func (d *decoder) ike(g datagram, short bool) {
	m := d.newMessage(g, "ISAKMP")
	whole := d.isakmp(m, g, short)
	d.list(m)
	d.tally(m)
	if whole != nil {
		g.data = whole
		d.ike(g, false)
	}
}

// isakmp fills m; what it returns is a message that this one was the last piece of.
func (d *decoder) isakmp(m *Message, g datagram, short bool) []byte {
	if short {
		m.unknown("format", "the capture holds only a part of this packet: capture with a larger snapshot length")
		return nil
	}
	if len(g.data) >= wire.HeaderLen && g.data[17]>>4 != 1 {
		m.note("version %d.%d: not this protocol", g.data[17]>>4, g.data[17]&15)
		return nil
	}
	h, err := wire.ParseHeader(g.data)
	if err != nil {
		m.fail("format", "%v", err)
		return nil
	}
	s := d.session(h, g)
	if s == nil {
		m.unknown("session", "more than %d sessions in this capture: not followed", maxSessions)
		return nil
	}
	m.Session = s.view.Number
	sum := sha256.Sum256(g.data)
	if first, twice := d.seen[sum]; twice {
		m.Name = "repeat"
		m.note("identical to frame %d: a retransmission", first)
		s.repeated(h, g)
		return nil
	}
	if len(d.seen) < maxSeen {
		d.seen[sum] = m.Frame
	}
	if h.Version != wire.Version11 && s.view.NonGM == "" {
		m.note("header version %d.%d, expected 1.1", h.Version>>4, h.Version&15)
	}
	if h.Next == typePiece {
		return s.piece(m, h, g)
	}
	s.message(m, h, g)
	return nil
}

// tally counts the checks of a message once it is complete.
func (d *decoder) tally(m *Message) {
	for _, c := range m.Checks {
		switch c.Verdict {
		case Verified:
			d.report.Verified++
		case Failed:
			d.report.Failed++
		case Unverified:
			d.report.Unverified++
		}
	}
}

func (d *decoder) problem(text string) {
	if len(d.report.Problems) < maxProblems {
		d.report.Problems = append(d.report.Problems, text)
	}
}

// unreadable reports a frame whose lower layers are malformed. Whether it was
// ours cannot be known, so it is named but does not count as failed.
func (d *decoder) unreadable(f frame, err error) {
	d.report.Ignored++
	if d.broken++; d.broken > maxBroken {
		return
	}
	m := d.message(datagram{frame: f, data: f.data}, "unreadable")
	m.From, m.To = "", ""
	m.note("%v", err)
}

// findKey returns the key that belongs to a certificate.
func (d *decoder) findKey(pub *ecdsa.PublicKey) (Key, bool) {
	for _, k := range d.opts.Keys {
		own, ok := publicKey(k.Decrypter)
		if ok && pub != nil && own.Equal(pub) {
			d.fits[k.Name] = true
			return k, true
		}
	}
	return Key{}, false
}

// publicKey asks a private key for its public half.
func publicKey(k crypto.Decrypter) (*ecdsa.PublicKey, bool) {
	pub, ok := k.Public().(*ecdsa.PublicKey)
	return pub, ok
}

// finish closes the books.
func (d *decoder) finish() {
	for _, k := range d.opts.Keys {
		if !d.fits[k.Name] {
			d.problem(fmt.Sprintf("key %s belongs to no encryption certificate in this capture, and opens nothing", k.Name))
		}
	}
	for _, s := range d.order {
		s.conclude()
		d.report.Sessions = append(d.report.Sessions, &s.view)
	}
	if n := len(d.frags.order) + d.frags.lost; n > 0 {
		d.problemf("%d IP datagrams came in fragments that do not make a whole", n)
	}
	if d.hidden > 0 {
		d.problemf("%d further messages were checked and counted but are not listed: too many", d.hidden)
	}
	if d.broken > maxBroken {
		d.problemf("%d further frames cannot be read", d.broken-maxBroken)
	}
}

func (d *decoder) wipe() {
	for _, s := range d.order {
		s.wipe()
	}
	for _, list := range d.sas {
		for _, s := range list {
			s.keymat.Wipe()
		}
	}
}
