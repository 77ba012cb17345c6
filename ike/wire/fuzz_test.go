package wire

import (
	"bytes"
	"testing"
)

// The fixed point: what parses is written back to the same bytes, and what is
// written parses to the same. The seeds are in testdata/fuzz.

func FuzzParse(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Parse(b)
		if err != nil {
			return
		}
		if got := m.Append(nil); !bytes.Equal(got, b) {
			t.Fatalf("%x is written back as %x", b, got)
		}
		for _, l := range m.Fields() {
			if l.Name == "" || l.Depth < 0 {
				t.Fatalf("a line without name or depth: %+v", l)
			}
		}
	})
}

func FuzzParseBody(f *testing.F) {
	f.Fuzz(func(t *testing.T, first byte, b []byte) {
		ps, used, err := ParseBody(PayloadType(first), b, Padding)
		if err != nil {
			return
		}
		if used > len(b) || len(b)-used > Padding {
			t.Fatalf("%d of %d bytes used", used, len(b))
		}
		if got := AppendPayloads(nil, ps); !bytes.Equal(got, b[:used]) {
			t.Fatalf("%x is written back as %x", b[:used], got)
		}
		m := Message{Header: Header{MessageID: 1, Exchange: QuickMode, Flags: FlagEncrypted}, Payloads: ps}
		if len(m.Fields()) < 8+len(ps) {
			t.Fatal("a payload has no line")
		}
	})
}

func FuzzSA(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseSA(b)
		if err != nil {
			return
		}
		if got := s.Append(nil); !bytes.Equal(got, b) {
			t.Fatalf("%x is written back as %x", b, got)
		}
		for _, p := range s.Proposals {
			if len(p.Transforms) == 0 {
				t.Fatal("a proposal without a transform")
			}
			for _, tr := range p.Transforms {
				for _, a := range tr.Attributes {
					if !a.TLV && len(a.Value) != 2 {
						t.Fatalf("a short attribute of %d bytes", len(a.Value))
					}
				}
			}
		}
	})
}

func FuzzID(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		i, err := ParseID(b)
		if err != nil {
			return
		}
		if got := i.Append(nil); !bytes.Equal(got, b) {
			t.Fatalf("%x is written back as %x", b, got)
		}
		if i.String() == "" {
			t.Fatalf("%x has no text", b)
		}
	})
}

func FuzzNotification(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := ParseNotification(b)
		if err != nil {
			return
		}
		if got := n.Append(nil); !bytes.Equal(got, b) {
			t.Fatalf("%x is written back as %x", b, got)
		}
		as, err := ParseAttributes(n.Data)
		if err != nil {
			return
		}
		if got := AppendAttributes(nil, as); !bytes.Equal(got, n.Data) {
			t.Fatalf("attributes %x are written back as %x", n.Data, got)
		}
	})
}

func FuzzDelete(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := ParseDelete(b)
		if err != nil {
			return
		}
		if got := d.Append(nil); !bytes.Equal(got, b) {
			t.Fatalf("%x is written back as %x", b, got)
		}
		for _, spi := range d.SPIs {
			if len(spi) != int(d.SPISize) || len(spi) == 0 {
				t.Fatalf("an SPI of %d bytes, announced %d", len(spi), d.SPISize)
			}
		}
	})
}
