package wire

import (
	"bytes"
	"math/rand"
	"reflect"
	"slices"
	"testing"
)

func TestWorkedExampleIsWrittenBackToTheSameBytes(t *testing.T) {
	for name, want := range map[string][]PayloadType{
		"M1":      {TypeSA, TypeVendorID, TypeVendorID},
		"M2":      {TypeSA, TypeCert, TypeCert, TypeVendorID, TypeVendorID},
		"M3":      {TypeSK, TypeNonce, TypeID, TypeCert, TypeCert, TypeSig},
		"M4":      {TypeSK, TypeNonce, TypeID, TypeSig},
		"refusal": {TypeNotify},
	} {
		b := message(t, name)
		m := clearMessage(t, name)
		if got := types(m.Payloads); !slices.Equal(got, want) {
			t.Errorf("%s: payloads %v, want %v", name, got, want)
		}
		if m.Version != Version11 || m.Flags != 0 || m.MessageID != 0 || int(m.Length) != len(b) {
			t.Errorf("%s: header %+v", name, m.Header)
		}
		if m.Initiator.String() != "a89a4662a4d1cad0" {
			t.Errorf("%s: initiator cookie %s", name, m.Initiator)
		}
		front := []byte("kept")
		if got := m.Append(front); !bytes.Equal(got, append(front, b...)) {
			t.Errorf("%s: written back as\n%x\nwant\n%x", name, got[4:], b)
		}
	}
}

func TestEncryptedMessagesOfTheExampleHaveTheirSizes(t *testing.T) {
	for name, want := range map[string]Header{
		"M5":  {Next: TypeHash, Exchange: MainMode, Length: 76},
		"M6":  {Next: TypeHash, Exchange: MainMode, Length: 76},
		"QM1": {Next: TypeHash, Exchange: QuickMode, MessageID: 0xcc2d2221, Length: 188},
		"QM2": {Next: TypeHash, Exchange: QuickMode, MessageID: 0xcc2d2221, Length: 188},
		"QM3": {Next: TypeHash, Exchange: QuickMode, MessageID: 0xcc2d2221, Length: 76},
	} {
		b := message(t, name)
		h, err := ParseHeader(b)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		want.Initiator = Cookie(unhex(t, "a89a4662a4d1cad0"))
		want.Responder = Cookie(unhex(t, "49a2eb29cf6d65db"))
		want.Version, want.Flags = Version11, FlagEncrypted
		if h != want {
			t.Errorf("%s: header\n got %+v\nwant %+v", name, h, want)
		}
		if got := h.Append(nil, h.Next, b[HeaderLen:]); !bytes.Equal(got, b) {
			t.Errorf("%s: written back as\n%x\nwant\n%x", name, got, b)
		}
		_, err = Parse(b)
		refused(t, name, err, "header: flags: the message is encrypted")
	}
}

func TestDecryptedBodiesOfTheExample(t *testing.T) {
	for name, want := range map[string]struct {
		types []PayloadType
		used  int
	}{
		"M5":       {[]PayloadType{TypeHash}, 36},
		"M6":       {[]PayloadType{TypeHash}, 36},
		"QM1":      {[]PayloadType{TypeHash, TypeSA, TypeNonce, TypeID, TypeID}, 148},
		"QM2":      {[]PayloadType{TypeHash, TypeSA, TypeNonce, TypeID, TypeID}, 148},
		"QM3":      {[]PayloadType{TypeHash}, 36},
		"dpd":      {[]PayloadType{TypeHash, TypeNotify}, 68},
		"contact":  {[]PayloadType{TypeHash, TypeNotify}, 64},
		"lifetime": {[]PayloadType{TypeHash, TypeNotify}, 64},
		"delete":   {[]PayloadType{TypeHash, TypeDelete}, 56},
		"farewell": {[]PayloadType{TypeHash, TypeDelete}, 64},
	} {
		plain := message(t, name+" plain")
		ps, used, err := ParseBody(TypeHash, plain, Padding)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := types(ps); !slices.Equal(got, want.types) {
			t.Errorf("%s: payloads %v, want %v", name, got, want.types)
		}
		if used != want.used {
			t.Errorf("%s: %d bytes used, want %d", name, used, want.used)
		}
		if got := AppendPayloads(nil, ps); !bytes.Equal(got, plain[:used]) {
			t.Errorf("%s: written back as\n%x\nwant\n%x", name, got, plain[:used])
		}
	}
}

func TestEachStrictPrefixOfAMessageIsRefused(t *testing.T) {
	for _, name := range []string{"M1", "M2", "M3", "M4", "refusal"} {
		b := message(t, name)
		for n := range len(b) {
			if _, err := Parse(b[:n]); err == nil {
				t.Fatalf("%s: the first %d of %d bytes are accepted", name, n, len(b))
			}
			if _, err := Parse(sized(b[:n])); err == nil {
				t.Fatalf("%s: the first %d of %d bytes are accepted with the length corrected", name, n, len(b))
			}
			if _, err := ParseHeader(b[:n]); err == nil {
				t.Fatalf("%s: the header of the first %d of %d bytes is accepted", name, n, len(b))
			}
		}
	}
}

func TestEachStrictPrefixOfABodyIsRefused(t *testing.T) {
	for name, plain := range messages(t) {
		if !bytes.HasSuffix([]byte(name), []byte("plain")) {
			continue
		}
		_, used, err := ParseBody(TypeHash, plain, Padding)
		if err != nil {
			t.Fatal(err)
		}
		for n := range used {
			if _, _, err := ParseBody(TypeHash, plain[:n], Padding); err == nil {
				t.Errorf("%s: the first %d of %d bytes are accepted", name, n, used)
			}
		}
	}
}

func TestDuplicatedMessageIsRefused(t *testing.T) {
	for _, name := range []string{"M1", "M2", "M3", "M4", "refusal"} {
		b := message(t, name)
		twice := append(append([]byte(nil), b...), b...)
		if _, err := Parse(twice); err == nil {
			t.Errorf("%s: twice in a datagram is accepted", name)
		}
		if _, err := Parse(sized(twice)); err == nil {
			t.Errorf("%s: twice in a datagram is accepted with the length corrected", name)
		}
		if _, err := Parse(sized(append(b[:len(b):len(b)], 0))); err == nil {
			t.Errorf("%s: one byte behind the last payload is accepted", name)
		}
	}
}

func TestPaddingOfABodyHasAnyValueAndABound(t *testing.T) {
	plain := message(t, "QM1 plain")
	_, used, err := ParseBody(TypeHash, plain, Padding)
	if err != nil {
		t.Fatal(err)
	}
	for _, most := range []int{Padding, PaddingBlock} {
		for n := range most + 1 {
			for _, fill := range []byte{0, 1, 0xff} {
				padded := append(plain[:used:used], bytes.Repeat([]byte{fill}, n)...)
				ps, got, err := ParseBody(TypeHash, padded, most)
				if err != nil || got != used || len(ps) != 5 {
					t.Errorf("%d bytes of %#x: %d payloads in %d bytes, %v", n, fill, len(ps), got, err)
				}
			}
		}
		for _, n := range []int{most + 1, most + 16, 160} {
			if _, _, err := ParseBody(TypeHash, append(plain[:used:used], make([]byte, n)...), most); err == nil {
				t.Errorf("%d bytes of padding are accepted, at most %d should be", n, most)
			}
		}
	}
	_, _, err = ParseBody(TypeHash, append(plain[:used:used], make([]byte, 16)...), Padding)
	refused(t, "a whole block", err, "padding: 16 bytes after the last payload, at most 15")
}

func TestMalformedHeadersAreRefused(t *testing.T) {
	m1 := message(t, "M1")
	change := func(at int, v byte) []byte {
		b := append([]byte(nil), m1...)
		b[at] = v
		return b
	}
	for _, c := range []struct {
		what string
		b    []byte
		want string
	}{
		{"nothing", nil, "header: initiator cookie: 8 bytes wanted, 0 left"},
		{"half a cookie", m1[:4], "header: initiator cookie: 8 bytes wanted, 4 left"},
		{"one cookie", m1[:8], "header: responder cookie: 8 bytes wanted, 0 left"},
		{"two cookies", m1[:16], "header: next payload: 1 bytes wanted, 0 left"},
		{"no version", m1[:17], "header: version: 1 bytes wanted, 0 left"},
		{"no exchange", m1[:18], "header: exchange type: 1 bytes wanted, 0 left"},
		{"no flags", m1[:19], "header: flags: 1 bytes wanted, 0 left"},
		{"half a message id", m1[:22], "header: message id: 4 bytes wanted, 2 left"},
		{"half a length", m1[:26], "header: length: 4 bytes wanted, 2 left"},
		{"header alone", m1[:28], "header: length: 120 in a datagram of 28 bytes"},
		{"length too long", change(27, 121), "header: length: 121 in a datagram of 120 bytes"},
		{"length too short", change(27, 119), "header: length: 119 in a datagram of 120 bytes"},
		{"length of 4 GiB", change(24, 0xff), "header: length: 4278190200 in a datagram of 120 bytes"},
		{"no initiator", append(make([]byte, 8), m1[8:]...), "header: initiator cookie: zero"},
	} {
		h, err := ParseHeader(c.b)
		refused(t, c.what, err, c.want)
		if h != (Header{}) {
			t.Errorf("%s: a refused header is %+v", c.what, h)
		}
		m, err := Parse(c.b)
		refused(t, c.what, err, c.want)
		if m.Payloads != nil {
			t.Errorf("%s: a refused message has payloads", c.what)
		}
	}
}

func TestHeaderLeavesVersionExchangeAndFlagsToTheCaller(t *testing.T) {
	b := message(t, "M1")
	b[17], b[18], b[19] = 0x20, 4, 0xf8
	h, err := ParseHeader(b)
	if err != nil {
		t.Fatalf("a header that may have to be answered is refused: %v", err)
	}
	if h.Version != 0x20 || h.Exchange != 4 || h.Flags != 0xf8 {
		t.Errorf("header %+v", h)
	}
}

func TestMalformedPayloadChainsAreRefused(t *testing.T) {
	for _, c := range []struct {
		what  string
		first PayloadType
		body  string
		want  string
	}{
		{"no payload", None, "", "next payload: 0, a message carries at least one payload"},
		{"no payload but bytes", None, "00000004", "next payload: 0, a message carries at least one payload"},
		{"nothing there", TypeSA, "", "payload 1 (SA): next payload: 1 bytes wanted, 0 left"},
		{"a type alone", TypeSA, "00", "payload 1 (SA): reserved byte: 1 bytes wanted, 0 left"},
		{"half a length", TypeNonce, "000000", "payload 1 (NONCE): length: 2 bytes wanted, 1 left"},
		{"length 0", TypeNonce, "00000000", "payload 1 (NONCE): length: 0, less than the 4 bytes of its own header"},
		{"length 3", TypeNonce, "00000003", "payload 1 (NONCE): length: 3, less than the 4 bytes of its own header"},
		{"past the end", TypeHash, "00000006aa", "payload 1 (HASH): body: 2 bytes wanted, 1 left"},
		{"far past the end", TypeHash, "0000ffffaa", "payload 1 (HASH): body: 65531 bytes wanted, 1 left"},
		{"reserved byte", TypeSK, "00010004", "payload 1 (SK): reserved byte: 0x01, must be zero"},
		{"reserved byte of the second", TypeSK, "0a000004 00800004", "payload 2 (NONCE): reserved byte: 0x80, must be zero"},
		{"chain goes on", TypeSK, "0a000004", "payload 2 (NONCE): next payload: 1 bytes wanted, 0 left"},
		{"unknown type goes on", 200, "c9000004", "payload 2 (payload type 201): next payload: 1 bytes wanted, 0 left"},
		{"third of three", TypeSK, "0a000005aa 05000004 00000009bbcc", "payload 3 (ID): body: 5 bytes wanted, 2 left"},
	} {
		body := unhex(t, c.body)
		ps, used, err := ParseBody(c.first, body, Padding)
		refused(t, c.what, err, c.want)
		if ps != nil || used != 0 {
			t.Errorf("%s: a refused body has %d payloads and %d bytes used", c.what, len(ps), used)
		}
		h := Header{Initiator: Cookie{1}, Version: Version11, Exchange: MainMode}
		_, err = Parse(h.Append(nil, c.first, body))
		refused(t, c.what+", in the clear", err, c.want)
	}
}

func TestBytesBehindAClearMessageAreRefused(t *testing.T) {
	h := Header{Initiator: Cookie{1}, Version: Version11, Exchange: MainMode}
	_, err := Parse(h.Append(nil, TypeHash, unhex(t, "00000006aabb 00")))
	refused(t, "one byte", err, "end: 1 bytes too many")
	_, err = Parse(h.Append(nil, TypeHash, unhex(t, "00000006aabb 00000004")))
	refused(t, "a payload that nothing announces", err, "end: 4 bytes too many")
}

func TestNumberOfPayloadsIsBounded(t *testing.T) {
	ps := make([]Payload, maxPayloads)
	for i := range ps {
		ps[i].Type = TypeVendorID
	}
	got, _, err := ParseBody(TypeVendorID, AppendPayloads(nil, ps), Padding)
	if err != nil || len(got) != maxPayloads {
		t.Errorf("%d payloads: %v", maxPayloads, err)
	}
	ps = append(ps, Payload{Type: TypeVendorID})
	_, _, err = ParseBody(TypeVendorID, AppendPayloads(nil, ps), Padding)
	refused(t, "one more", err, "more than 64 payloads")
}

func TestUnknownPayloadsPassAsTheyAre(t *testing.T) {
	ps := []Payload{
		{Type: 2, Body: []byte{1}}, // a proposal does not stand there, but that is the exchange's affair
		{Type: 3, Body: nil},
		{Type: 19, Body: []byte{1, 2, 3}},
		{Type: 129, Body: bytes.Repeat([]byte{7}, 1000)},
		{Type: 255, Body: []byte{0}},
	}
	m := Message{Header: Header{Initiator: Cookie{9}, Version: Version10, Exchange: 240}, Payloads: ps}
	b := m.Append(nil)
	got, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range ps {
		if got.Payloads[i].Type != p.Type || !bytes.Equal(got.Payloads[i].Body, p.Body) {
			t.Errorf("payload %d: %+v, want %+v", i+1, got.Payloads[i], p)
		}
	}
}

func TestPayloadsAliasTheMessageButCannotGrowIntoEachOther(t *testing.T) {
	b := message(t, "M3")
	m, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	before := bytes.Clone(m.Payloads[1].Body)
	_ = append(m.Payloads[0].Body, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee)
	if !bytes.Equal(m.Payloads[1].Body, before) {
		t.Error("an append to one payload overwrote the next")
	}
	b[HeaderLen+4] ^= 0xff
	if m.Payloads[0].Body[0] != b[HeaderLen+4] {
		t.Error("a payload is a copy of the message")
	}
}

func TestHeaderFieldsThatAreComputedAreNotTaken(t *testing.T) {
	m := clearMessage(t, "M4")
	want := message(t, "M4")
	m.Next, m.Length = TypeDelete, 7
	if got := m.Append(nil); !bytes.Equal(got, want) {
		t.Errorf("next payload and length of the struct reached the wire: %x", got[:HeaderLen])
	}
	if got := m.Header.Append(nil, TypeSK, want[HeaderLen:]); !bytes.Equal(got, want) {
		t.Errorf("next payload and length of the header reached the wire: %x", got[:HeaderLen])
	}
}

func TestMessagesMadeAtRandomComeBack(t *testing.T) {
	r := rand.New(rand.NewSource(1))
	for range 2000 {
		m := Message{Header: Header{
			Version: byte(r.Intn(256)), Exchange: ExchangeType(r.Intn(256)),
			Flags: Flags(r.Intn(256)) &^ FlagEncrypted, MessageID: r.Uint32(),
		}}
		r.Read(m.Initiator[:])
		r.Read(m.Responder[:])
		m.Initiator[0] |= 1
		for range 1 + r.Intn(10) {
			m.Payloads = append(m.Payloads, Payload{PayloadType(1 + r.Intn(255)), some(r, 0, 300)})
		}
		b := m.Append(nil)
		got, err := Parse(b)
		if err != nil {
			t.Fatalf("%x: %v", b, err)
		}
		m.Next, m.Length = m.Payloads[0].Type, uint32(len(b))
		if !reflect.DeepEqual(got, m) {
			t.Fatalf("\n got %+v\nwant %+v", got, m)
		}
		ps, used, err := ParseBody(m.Next, append(b[HeaderLen:], some(r, 0, 15)...), Padding)
		if err != nil || used != len(b)-HeaderLen || !reflect.DeepEqual(ps, m.Payloads) {
			t.Fatalf("as a body: %v", err)
		}
	}
}

func TestFirstOfNothingIsNone(t *testing.T) {
	if got := First(nil); got != None {
		t.Errorf("First(nil) = %v", got)
	}
	if got := AppendPayloads([]byte{1}, nil); !bytes.Equal(got, []byte{1}) {
		t.Errorf("no payloads are written as %x", got)
	}
	m := Message{Header: Header{Initiator: Cookie{1}}}
	_, err := Parse(m.Append(nil))
	refused(t, "a message of nothing", err, "next payload: 0, a message carries at least one payload")
}
