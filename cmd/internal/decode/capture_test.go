package decode

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

// wrap puts an IP packet behind a link header.
func wrap(link uint8, ip []byte) []byte {
	kind := uint16(etherIPv4)
	if ip[0]>>4 == 6 {
		kind = etherIPv6
	}
	var head []byte
	switch link {
	case 1:
		head = make([]byte, 12)
	case 113:
		head = make([]byte, 14)
	case 20: // 276 - 256: SLL2, written with the full number by the caller
		head = binary.BigEndian.AppendUint16(nil, kind)
		return append(append(head, make([]byte, 18)...), ip...)
	case 101:
		return ip
	}
	return append(binary.BigEndian.AppendUint16(head, kind), ip...)
}

func TestLinkTypesAreRead(t *testing.T) {
	for _, link := range []uint8{1, 101, 113} {
		for _, k := range []knobs{{}, {v6: true}} {
			var b bytes.Buffer
			c, err := NewCapture(&b, link)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range newWorld(k).frames() {
				if err := c.Write(start, wrap(link, f)); err != nil {
					t.Fatal(err)
				}
			}
			r := decodeBytes(t, b.Bytes(), Options{Keys: labKeys()})
			wantClean(t, r)
			wantVerdict(t, r, "ESP", "ICV", Verified)
		}
	}
}

func TestLinuxCookedVersionTwoIsRead(t *testing.T) {
	var frames [][]byte
	for _, f := range newWorld(knobs{}).frames() {
		frames = append(frames, wrap(20, f))
	}
	file := record(t, frames...)
	binary.LittleEndian.PutUint32(file[20:], 276)
	r := decodeBytes(t, file, Options{Keys: labKeys()})
	wantClean(t, r)
	wantVerdict(t, r, "ESP", "ICV", Verified)
}

func TestVLANTagsAreSkipped(t *testing.T) {
	var b bytes.Buffer
	c, err := NewCapture(&b, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range newWorld(knobs{}).frames() {
		f = wrap(1, f)
		tagged := append(append(bytes.Clone(f[:12]), 0x88, 0xa8, 0, 7, 0x81, 0, 0, 9), f[12:]...)
		if err := c.Write(start, tagged); err != nil {
			t.Fatal(err)
		}
	}
	r := decodeBytes(t, b.Bytes(), Options{Keys: labKeys()})
	wantClean(t, r)
	wantVerdict(t, r, "QM3", "HASH_3", Verified)
}

func TestPcapngOfAnotherWriterIsRead(t *testing.T) {
	var b bytes.Buffer
	w, err := pcapgo.NewNgWriter(&b, layers.LinkTypeRaw)
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range newWorld(knobs{}).frames() {
		ci := gopacket.CaptureInfo{Timestamp: start.Add(time.Duration(i) * time.Second), CaptureLength: len(f), Length: len(f)}
		if err := w.WritePacket(ci, f); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	r := decodeBytes(t, b.Bytes(), Options{Keys: labKeys()})
	wantClean(t, r)
	wantVerdict(t, r, "ESP", "ICV", Verified)
	if got := r.Messages[1].Time; !got.Equal(start.Add(time.Second)) {
		t.Errorf("time %s", got)
	}
}

func TestFragmentsAreReassembled(t *testing.T) {
	for _, k := range []knobs{{}, {v6: true}} {
		var frames [][]byte
		for _, f := range newWorld(k).frames() {
			if len(f) < 600 {
				frames = append(frames, f)
				continue
			}
			pieces := fragment(f, 400)
			pieces[0], pieces[1] = pieces[1], pieces[0] // out of order
			frames = append(frames, pieces...)
		}
		r := decodeBytes(t, record(t, frames...), Options{Keys: labKeys()})
		wantClean(t, r)
		wantVerdict(t, r, "M3", "SIGi", Verified)
		wantText(t, r, "IP fragments")
	}
}

func TestMissingAndContradictingFragmentsAreSaid(t *testing.T) {
	f := newWorld(knobs{}).frames()[2]
	lost := fragment(f, 400)[1:]
	r := decodeBytes(t, record(t, lost...), Options{})
	wantText(t, r, "1 IP datagrams came in fragments that do not make a whole")

	twice := fragment(f, 400)
	other := bytes.Clone(twice[1])
	other[len(other)-1] ^= 1
	r = decodeBytes(t, record(t, twice[0], twice[1], other, twice[2]), Options{})
	if len(r.Messages) != 0 {
		t.Errorf("a datagram with contradicting fragments was taken:\n%s", text(t, r))
	}
}

func TestFloodOfFragmentsIsBounded(t *testing.T) {
	var re reassembler
	for i := range 10 * maxPartial {
		re.add(ipPacket{src: gwA, dst: gwB, proto: protoUDP, id: uint32(i), more: true, payload: make([]byte, 8)})
	}
	if len(re.parts) > maxPartial || len(re.order) > maxPartial {
		t.Errorf("%d datagrams are held, bound %d", len(re.parts), maxPartial)
	}
}

func TestKeepalivesAndForeignTrafficAreToldApart(t *testing.T) {
	w := newWorld(knobs{natt: true})
	frames := append(w.frames(), udpFrame(w.a.addr, w.b.addr, []byte{0xff}), inner(gwA, gwB), ipFrame(gwA, gwB, protoTCP, make([]byte, 20)))
	r := decodeBytes(t, record(t, frames...), Options{Keys: labKeys()})
	wantClean(t, r)
	wantText(t, r, "NAT keepalive", "(2 of other protocols)")
}

func TestDamagedFilesAreSaidToBeDamaged(t *testing.T) {
	good := record(t, newWorld(knobs{}).frames()...)
	r := decodeBytes(t, good[:len(good)-3], Options{Keys: labKeys()})
	if len(r.Problems) != 1 || !strings.Contains(r.Problems[0], "the file ends inside it") || r.Frames != 13 {
		t.Errorf("%d frames, problems %q", r.Frames, r.Problems)
	}
	huge := bytes.Clone(good)
	binary.LittleEndian.PutUint32(huge[24+8:], 1<<31)
	r = decodeBytes(t, huge, Options{})
	if len(r.Problems) != 1 || !strings.Contains(r.Problems[0], "the file is damaged") {
		t.Errorf("problems %q", r.Problems)
	}
	for _, bad := range [][]byte{nil, []byte("abc"), []byte("not a capture at all"), good[:20]} {
		if _, err := Decode(bytes.NewReader(bad), Options{}); err == nil {
			t.Errorf("%q was taken for a capture", bad)
		}
	}
}

func TestShortSnapshotIsNoForgery(t *testing.T) {
	w := newWorld(knobs{})
	var b bytes.Buffer
	pw := pcapgo.NewWriter(&b)
	if err := pw.WriteFileHeader(96, layers.LinkTypeRaw); err != nil {
		t.Fatal(err)
	}
	for _, f := range w.frames() {
		n := min(len(f), 96)
		if err := pw.WritePacket(gopacket.CaptureInfo{Timestamp: start, CaptureLength: n, Length: len(f)}, f[:n]); err != nil {
			t.Fatal(err)
		}
	}
	r := decodeBytes(t, b.Bytes(), Options{Keys: labKeys()})
	if r.Failed != 0 {
		t.Errorf("%d failed:\n%s", r.Failed, text(t, r))
	}
	wantText(t, r, "capture with a larger snapshot length")
	wantVerdict(t, r, "ISAKMP", "format", Unverified)
}

// TestEveryPrefixOfAMessageIsRefused: no strict prefix of a message may pass.
func TestEveryPrefixOfAMessageIsRefused(t *testing.T) {
	w := newWorld(knobs{})
	for _, p := range w.packets[:9] {
		for n := 0; n < len(p.data); n += 11 {
			r := decodeBytes(t, record(t, udpFrame(p.src, p.dst, p.data[:n])), Options{Keys: labKeys()})
			if r.Failed == 0 {
				t.Errorf("%d of %d bytes of %s pass:\n%s", n, len(p.data), p.name, text(t, r))
			}
		}
	}
}

func TestTextOfACaptureCannotDriveATerminal(t *testing.T) {
	m := &Message{Name: "M1"}
	m.note("\x1b[31mred\u202e\u0085\r\nline")
	got := text(t, &Report{Messages: []*Message{m}})
	if strings.ContainsAny(got, "\x1b\u202e\u0085\r") {
		t.Errorf("%q", got)
	}
}
