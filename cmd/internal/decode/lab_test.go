package decode

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"
	"time"
)

var (
	start = time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)
	gwA   = netip.MustParseAddr("192.0.2.1")
	gwB   = netip.MustParseAddr("192.0.2.2")
	gwA6  = netip.MustParseAddr("2001:db8::1")
	gwB6  = netip.MustParseAddr("2001:db8::2")
)

// ipFrame is an IP packet of either family.
func ipFrame(src, dst netip.Addr, proto uint8, payload []byte) []byte {
	if src.Is4() {
		h := make([]byte, 20, 20+len(payload))
		h[0], h[8], h[9] = 0x45, 64, proto
		binary.BigEndian.PutUint16(h[2:], uint16(20+len(payload)))
		copy(h[12:], src.AsSlice())
		copy(h[16:], dst.AsSlice())
		return append(h, payload...)
	}
	h := make([]byte, 40, 40+len(payload))
	h[0], h[6], h[7] = 0x60, proto, 64
	binary.BigEndian.PutUint16(h[4:], uint16(len(payload)))
	copy(h[8:], src.AsSlice())
	copy(h[24:], dst.AsSlice())
	return append(h, payload...)
}

func udpFrame(src, dst netip.AddrPort, data []byte) []byte {
	u := make([]byte, 8, 8+len(data))
	binary.BigEndian.PutUint16(u, src.Port())
	binary.BigEndian.PutUint16(u[2:], dst.Port())
	binary.BigEndian.PutUint16(u[4:], uint16(8+len(data)))
	return ipFrame(src.Addr(), dst.Addr(), protoUDP, append(u, data...))
}

// fragment cuts an IP packet into pieces with size bytes of payload each.
func fragment(packet []byte, size int) [][]byte {
	var out [][]byte
	head := 20
	if packet[0]>>4 == 6 {
		head = 40
	}
	payload := packet[head:]
	for off := 0; off < len(payload); off += size {
		end := min(off+size, len(payload))
		more := uint16(0)
		if end < len(payload) {
			more = 1
		}
		h := bytes.Clone(packet[:head])
		if head == 20 {
			binary.BigEndian.PutUint16(h[2:], uint16(20+end-off))
			binary.BigEndian.PutUint16(h[4:], 77)
			binary.BigEndian.PutUint16(h[6:], more<<13|uint16(off/8))
		} else {
			f := []byte{h[6], 0, 0, 0, 0, 0, 0, 77}
			binary.BigEndian.PutUint16(f[2:], uint16(off)|more)
			h[6] = fragmentNext
			binary.BigEndian.PutUint16(h[4:], uint16(8+end-off))
			h = append(h, f...)
		}
		out = append(out, append(h, payload[off:end]...))
	}
	return out
}

// record writes frames, one each millisecond, as raw IP.
func record(t testing.TB, frames ...[]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	c, err := NewCapture(&b, 101)
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range frames {
		if err := c.Write(start.Add(time.Duration(i)*time.Millisecond), f); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

func decodeBytes(t testing.TB, file []byte, opts Options) *Report {
	t.Helper()
	r, err := Decode(bytes.NewReader(file), opts)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func text(t testing.TB, r *Report) string {
	t.Helper()
	var b strings.Builder
	if err := r.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// verdict returns the check of a message, by name of both.
func verdict(r *Report, message, check string) Verdict {
	for _, m := range r.Messages {
		if m.Name != message {
			continue
		}
		for _, c := range m.Checks {
			if c.Name == check {
				return c.Verdict
			}
		}
	}
	return "absent"
}

func wantVerdict(t *testing.T, r *Report, message, check string, want Verdict) {
	t.Helper()
	if got := verdict(r, message, check); got != want {
		t.Errorf("%s of %s: %s, want %s", check, message, got, want)
	}
}

func wantText(t *testing.T, r *Report, parts ...string) {
	t.Helper()
	all := text(t, r)
	for _, p := range parts {
		if !strings.Contains(all, p) {
			t.Errorf("the report does not say %q:\n%s", p, all)
		}
	}
}

func wantClean(t *testing.T, r *Report) {
	t.Helper()
	if r.Failed != 0 || r.Unverified != 0 || len(r.Problems) != 0 {
		t.Errorf("%d failed, %d unverified, problems %q:\n%s", r.Failed, r.Unverified, r.Problems, text(t, r))
	}
}
