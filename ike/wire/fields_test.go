package wire

import (
	"fmt"
	"strings"
	"testing"
)

// text is the text form as a page: one line for each field, two spaces for each
// depth.
func text(m Message) string {
	var b strings.Builder
	for _, f := range m.Fields() {
		fmt.Fprintf(&b, "%s%s: %s\n", strings.Repeat("  ", f.Depth), f.Name, f.Value)
	}
	return b.String()
}

// checkText compares a page line by line, so that a difference is found at once.
func checkText(t *testing.T, what, got, want string) {
	t.Helper()
	g, w := strings.Split(got, "\n"), strings.Split(strings.TrimPrefix(want, "\n"), "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			t.Errorf("%s, line %d\n got %q\nwant %q", what, i+1, g[i], w[i])
		}
	}
	if len(g) != len(w) {
		t.Errorf("%s: %d lines, want %d", what, len(g), len(w))
	}
}

func TestMainModeOfTheExampleIsRendered(t *testing.T) {
	for _, name := range []string{"M1", "M2", "M3", "M4"} {
		checkText(t, name, text(clearMessage(t, name)), mainModePages()[name])
	}
	checkText(t, "M5", text(plainMessage(t, "M5", MainMode, 0)), mainModePages()["M5"])
}

func TestQuickModeOfTheExampleIsRendered(t *testing.T) {
	for name, page := range quickModePages() {
		checkText(t, name, text(plainMessage(t, name, QuickMode, 0xcc2d2221)), page)
	}
}

func TestInformationalMessagesAreRendered(t *testing.T) {
	for name, page := range informationalPages() {
		if name == "refusal" {
			checkText(t, name, text(clearMessage(t, name)), page)
			continue
		}
		checkText(t, name, text(plainMessage(t, name, Informational, 0xcc2d2221)), page)
	}
}

func TestNonceAndIdentityAreCiphertextInTheEnvelopeOnly(t *testing.T) {
	ps := []Payload{{TypeNonce, []byte{1, 2}}, {TypeID, []byte{2, 0, 0, 0, 'a'}}}
	for _, c := range []struct {
		what       string
		h          Header
		ciphertext bool
	}{
		{"M3", Header{Exchange: MainMode}, true},
		{"a decrypted main mode", Header{Exchange: MainMode, Flags: FlagEncrypted}, false},
		{"quick mode", Header{Exchange: QuickMode, MessageID: 7, Flags: FlagEncrypted}, false},
		{"quick mode with the flag cleared", Header{Exchange: QuickMode, MessageID: 7}, false},
		{"aggressive mode", Header{Exchange: 4}, false},
	} {
		page := text(Message{Header: c.h, Payloads: ps})
		if got := strings.Count(page, "ciphertext: under Sk: "); (got == 2) != c.ciphertext || got == 1 {
			t.Errorf("%s: %d fields are shown as ciphertext\n%s", c.what, got, page)
		}
		if plain := strings.Contains(page, "nonce: 0102\n") && strings.Contains(page, `identity: "a"`); plain == c.ciphertext {
			t.Errorf("%s: plain fields shown is %v\n%s", c.what, plain, page)
		}
	}
}

func TestPayloadsAreRendered(t *testing.T) {
	h := Header{Exchange: QuickMode, MessageID: 7, Flags: FlagEncrypted}
	empty := len(Message{Header: h}.Fields())
	for _, c := range []struct {
		what, body string
		typ        PayloadType
		want       string
	}{
		{"NAT-OA", "01000000 c0000201", TypeNATOA, "original address: 192.0.2.1"},
		{"NAT-OA of a draft", "05000000 20010db8000000000000000000000001", TypeNATOA131, "original address: 2001:db8::1"},
		{"malformed NAT-OA", "01000000 c00002", TypeNATOA, "malformed: id: data: 3 bytes, IPV4_ADDR has 4|data: 01000000c00002"},
		{"NAT-D", "cca2bd9adc611a5f", TypeNATD, "hash: cca2bd9adc611a5f"},
		{"NAT-D of a draft", "cca2", TypeNATD130, "hash: cca2"},
		{"certificate request", "04", TypeCertReq, "data: 04"},
		{"key exchange", "0102", TypeKE, "data: 0102"},
		{"unknown type", "", 200, "data: "},
		{"unknown vendor", "4f70656e", TypeVendorID, "vendor: 4f70656e"},
		{"a body of 32 bytes", strings.Repeat("5a", 32), TypeVendorID, "vendor: " + strings.Repeat("5a", 32)},
		{"a body of 33 bytes", strings.Repeat("5a", 33), TypeVendorID, "vendor: " + strings.Repeat("5a", 32) + "... (33 bytes)"},
		{"malformed SA", "00000001 00000001", TypeSA, "malformed: sa: proposal 1: next payload: 1 bytes wanted, 0 left|data: 0000000100000001"},
		{"malformed ID", "01", TypeID, "malformed: id: protocol: 1 bytes wanted, 0 left|data: 01"},
		{"malformed certificate", "04", TypeCert, "malformed: certificate: data: empty|data: 04"},
		{"malformed notification", "00000001", TypeNotify, "malformed: notification: protocol: 1 bytes wanted, 0 left|data: 00000001"},
		{"malformed delete", "00000001", TypeDelete, "malformed: delete: protocol: 1 bytes wanted, 0 left|data: 00000001"},
		{"notification with data", "00000001 03 00 000e 0102", TypeNotify,
			"doi: 1|protocol: ESP (3)|type: NO-PROPOSAL-CHOSEN (14)|data: 0102"},
		{"replay status", "00000001 03 04 6001 c713ad06 00000001", TypeNotify,
			"doi: 1|protocol: ESP (3)|type: REPLAY-STATUS (24577)|spi: c713ad06|value: 1"},
		{"dead peer detection with a long number", "00000001 01 00 8d28 000000000000000001", TypeNotify,
			"doi: 1|protocol: ISAKMP (1)|type: R-U-THERE (36136)|data: 000000000000000001"},
		{"lifetime of phase 1", "00000001 01 00 6000 800b0001 000c0004 00015180", TypeNotify,
			"doi: 1|protocol: ISAKMP (1)|type: RESPONDER-LIFETIME (24576)|life type: seconds (1)|life duration: 86400 seconds"},
		{"malformed lifetime", "00000001 03 00 6000 800100", TypeNotify,
			"doi: 1|protocol: ESP (3)|type: RESPONDER-LIFETIME (24576)|data: 800100"},
	} {
		body := unhex(t, c.body)
		fields := Message{Header: h, Payloads: []Payload{{c.typ, body}}}.Fields()[empty:]
		if want := fmt.Sprintf("%s (%d), %d bytes", c.typ, uint8(c.typ), 4+len(body)); fields[0].Value != want || fields[0].Depth != 0 {
			t.Errorf("%s: opens with %+v, want %q", c.what, fields[0], want)
		}
		var lines []string
		for _, f := range fields[1:] {
			lines = append(lines, strings.Repeat("  ", f.Depth-1)+f.Name+": "+f.Value)
		}
		if got := strings.Join(lines, "|"); got != c.want {
			t.Errorf("%s\n got %s\nwant %s", c.what, got, c.want)
		}
	}
}

func TestSecondProposalAndTransformAreRendered(t *testing.T) {
	page := text(Message{Header: Header{Exchange: QuickMode, MessageID: 7}, Payloads: []Payload{{TypeSA, both().Append(nil)}}})
	_, page, _ = strings.Cut(page, "situation: 1\n")
	checkText(t, "two proposals", page, `
  proposal: 1
    protocol: ESP (3)
    spi: 01020304
    transform: 1
      id: SM4-CBC (129)
      authentication algorithm: HMAC-SM3 (20)
      encapsulation mode: tunnel (1)
      life type: seconds (1)
      life duration: 3600 seconds
    transform: 2
      id: SM4-CBC (127)
      authentication algorithm: HMAC-SM3 (20)
      encapsulation mode: tunnel (1)
      life type: seconds (1)
      life duration: 3600 seconds
  proposal: 1
    protocol: AH (2)
    spi: 05060708
    transform: 1
      id: HMAC-SM3 (20)
      authentication algorithm: HMAC-SM3 (20)
`)
}

func TestValuesWithoutANameAreRenderedAsNumbers(t *testing.T) {
	s := SA{DOI: 1, Situation: 1, Proposals: []Proposal{{Number: 7, Protocol: ProtoESP, Transforms: []Transform{
		{Number: 9, ID: 250, Attributes: []Attribute{
			Short(99, 1), Short(5, 99), {Type: 1, TLV: true, Value: make([]byte, 9)}, Short(2, 4096),
			{Type: 77, TLV: true, Value: []byte{}}, Short(1, 3), Long(2, 70000),
		}},
	}}}}
	page := text(Message{Header: Header{Exchange: QuickMode, MessageID: 7}, Payloads: []Payload{{TypeSA, s.Append(nil)}}})
	_, page, _ = strings.Cut(page, "situation: 1\n")
	checkText(t, "unknown values", page, `
  proposal: 7
    protocol: ESP (3)
    transform: 9
      id: 250
      attribute 99: 1
      authentication algorithm: 99
      life type: 000000000000000000
      life duration: 4096
      attribute 77: 
      life type: 3
      life duration: 70000
`)
}
