package decode

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"yumen/ike/gm"
	"yumen/ike/wire"
	"yumen/policy"
)

func TestEveryFormOfASessionVerifies(t *testing.T) {
	cases := map[string]struct {
		k    knobs
		says []string
	}{
		"standard":          {knobs{}, []string{"HMAC-SM3, 96 bits", "10.1.0.0/16 <-> 10.2.0.0-10.2.0.99", "port 4242 -> 53", "delete of ESP SA 00001001"}},
		"ipv6 outside":      {knobs{v6: true}, []string{"[2001:db8::1]:500"}},
		"icv 128":           {knobs{icv: 128}, []string{"HMAC-SM3, 128 bits"}},
		"icv 256":           {knobs{icv: 256}, []string{"HMAC-SM3, 256 bits"}},
		"gcm":               {knobs{gcm: true}, []string{"SM4-GCM-128", "GCM tag"}},
		"gcm with esn":      {knobs{gcm: true, esn: true}, []string{"extended sequence number: 2"}},
		"cbc with esn":      {knobs{esn: true}, []string{", ESN"}},
		"udp encapsulation": {knobs{natt: true}, []string{"ESP in UDP", ":4500", "no NAT before the receiver", "no NAT before the sender"}},
		"std-full":          {knobs{form: policy.HashStdFull}, []string{"deviation: HASH std-full"}},
		"std-body":          {knobs{form: policy.HashStdBody}, []string{"deviation: HASH std-body"}},
		"HASHr over SAr":    {knobs{hashrR: true}, []string{"deviation: HASHr over SAr_b"}},
		"raw signature":     {knobs{sigRaw: true}, []string{"deviation: signature raw"}},
		"no encoding byte":  {knobs{noByte: true}, []string{"deviation: signature without the encoding byte"}},
		"PKCS#7":            {knobs{dialect: policy.Dialect{FieldPad: policy.PadPKCS7}}, []string{"deviation: field padding PKCS#7"}},
		"zeros":             {knobs{dialect: policy.Dialect{FieldPad: policy.PadZeros}}, []string{"deviation: field padding zeros"}},
		"zero IV":           {knobs{dialect: policy.Dialect{IDZeroIV: true}}, []string{"deviation: ID encrypted with a zero IV"}},
		"raw envelope":      {knobs{dialect: policy.Dialect{SKEncoding: policy.SKC1C3C2}}, []string{"deviation: SK raw"}},
		"raw C1C2C3":        {knobs{dialect: policy.Dialect{SKEncoding: policy.SKC1C2C3}}, []string{"deviation: SK raw"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := decodeBytes(t, record(t, newWorld(c.k).frames()...), Options{Keys: labKeys()})
			wantClean(t, r)
			wantText(t, r, c.says...)
			for _, check := range [][2]string{{"M3", "SIGi"}, {"M4", "SIGr"}, {"M5", "HASHi"}, {"M6", "HASHr"}, {"QM3", "HASH_3"}, {"INFO", "HASH(1)"}} {
				wantVerdict(t, r, check[0], check[1], Verified)
			}
			if f := r.Flows[0]; f.Opened != 2 || f.Packets != 2 {
				t.Errorf("flow %+v", f)
			}
		})
	}
}

// TestEachFlippedBitIsNamed alters one bit of one payload at a time.
func TestEachFlippedBitIsNamed(t *testing.T) {
	clear := func(typ wire.PayloadType, nth int) func([]byte) int {
		return func(b []byte) int { return payloadOffset(t, b, typ, nth) }
	}
	// A byte of the public key inside a certificate.
	key := func(g gateway, sign bool) func([]byte) int {
		return func(b []byte) int {
			pub := g.enc.PublicKey
			if sign {
				pub = g.sign.PublicKey
			}
			return bytes.Index(b, pub.X.FillBytes(make([]byte, 32))) + 20
		}
	}
	gs := gateways()
	cases := []struct {
		message string
		at      func([]byte) int
		where   string // message and alternatives of the check that must fail
		checks  []string
	}{
		{"M1", clear(wire.TypeSA, 0), "M5", []string{"HASHi"}},
		{"M2", clear(wire.TypeSA, 0), "M2", []string{"SA"}},
		{"M2", key(gs[1], true), "M2", []string{"CERT X.509 signature"}},
		{"M2", key(gs[1], false), "M2", []string{"CERT X.509 key exchange"}},
		{"M2", clear(wire.TypeCert, 1), "M4", []string{"SIGr"}},
		{"M3", clear(wire.TypeSK, 0), "M3", []string{"envelope"}},
		{"M3", clear(wire.TypeNonce, 0), "M3", []string{"SIGi", "nonce and ID"}},
		{"M3", clear(wire.TypeID, 0), "M3", []string{"SIGi", "nonce and ID"}},
		{"M3", key(gs[0], true), "M3", []string{"CERT X.509 signature"}},
		{"M3", clear(wire.TypeCert, 1), "M3", []string{"SIGi"}},
		{"M3", clear(wire.TypeSig, 0), "M3", []string{"SIGi"}},
		{"M4", clear(wire.TypeSK, 0), "M4", []string{"envelope"}},
		{"M4", clear(wire.TypeNonce, 0), "M4", []string{"SIGr", "nonce and ID"}},
		{"M4", clear(wire.TypeID, 0), "M4", []string{"SIGr", "nonce and ID"}},
		{"M4", clear(wire.TypeSig, 0), "M4", []string{"SIGr"}},
	}
	for _, c := range cases {
		w := newWorld(knobs{})
		p := w.find(t, c.message, 0)
		at := c.at(p.data)
		p.data[at] ^= 1
		r := decodeBytes(t, record(t, w.frames()...), Options{Keys: labKeys()})
		if !slices.ContainsFunc(c.checks, func(n string) bool { return verdict(r, c.where, n) == Failed }) {
			t.Errorf("bit at %d of %s: none of %q of %s failed:\n%s", at, c.message, c.checks, c.where, text(t, r))
		}
	}
}

// payloadOffset points near the end of a payload of a clear message, where
// neither a length nor a next payload stands.
func payloadOffset(t *testing.T, b []byte, typ wire.PayloadType, nth int) int {
	m, err := wire.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	at := wire.HeaderLen
	for _, p := range m.Payloads {
		at += 4 + len(p.Body)
		if p.Type == typ {
			if nth == 0 {
				return at - 3
			}
			nth--
		}
	}
	t.Fatalf("no payload %s", typ)
	return 0
}

func TestEachFlippedBlockOfAnEncryptedMessageIsNamed(t *testing.T) {
	for name, check := range map[string]string{"M5": "HASHi", "M6": "HASHr", "QM1": "HASH_1", "QM2": "HASH_2", "QM3": "HASH_3", "INFO": "HASH(1)"} {
		for at := wire.HeaderLen + 5; ; at += 16 {
			w := newWorld(knobs{})
			p := w.find(t, name, 0)
			if at >= len(p.data) {
				break
			}
			p.data[at] ^= 0x10
			r := decodeBytes(t, record(t, w.frames()...), Options{Keys: labKeys()})
			named := slices.ContainsFunc(r.Messages, func(m *Message) bool { return m.Name == name && m.failed() })
			if !named {
				t.Errorf("byte %d of %s: %s does not fail:\n%s", at, name, check, text(t, r))
			}
		}
	}
}

func TestEachFlippedByteOfAnESPPacketIsNamed(t *testing.T) {
	for _, k := range []knobs{{}, {gcm: true}, {esn: true, icv: 256}} {
		w := newWorld(k)
		for at := 4; at < len(w.find(t, "ESP", 1).data); at += 7 {
			p := w.find(t, "ESP", 0)
			p.data[at] ^= 4
			r := decodeBytes(t, record(t, w.frames()...), Options{Keys: labKeys()})
			wantVerdict(t, r, "ESP", "ICV", Failed)
			p.data[at] ^= 4
		}
	}
}

// TestEachLostMessageIsSaidToBeMissing: nothing may be called wrong because
// something else is absent.
func TestEachLostMessageIsSaidToBeMissing(t *testing.T) {
	says := map[string]string{
		"M1": "M1 is missing", "M2": "missing", "M3": "M3 is missing", "M4": "M4 is missing", "M5": "M5 is missing",
		"M6": "M6 is missing", "QM1": "an earlier message of this exchange is missing", "QM2": "QM2 is missing", "QM3": "", "INFO": "", "ESP": "",
	}
	for name, want := range says {
		w := newWorld(knobs{})
		w.packets = slices.DeleteFunc(w.packets, func(p packet) bool { return p.name == name })
		r := decodeBytes(t, record(t, w.frames()...), Options{Keys: labKeys()})
		if r.Failed != 0 {
			t.Errorf("without %s: %d checks failed:\n%s", name, r.Failed, text(t, r))
		}
		if want != "" && r.Unverified == 0 {
			t.Errorf("without %s: everything is said to verify", name)
		}
		wantText(t, r, want)
	}
}

func TestRetransmissionsAreRecognised(t *testing.T) {
	w := newWorld(knobs{})
	var frames [][]byte
	for _, f := range w.frames()[:9] {
		frames = append(frames, f, f)
	}
	r := decodeBytes(t, record(t, frames...), Options{Keys: labKeys()})
	wantClean(t, r)
	wantText(t, r, "identical to frame 1: a retransmission", "identical to frame 17: a retransmission")
}

func TestReplayedESPIsFlaggedAndNotDropped(t *testing.T) {
	w := newWorld(knobs{})
	frames := append(w.frames(), w.find(t, "ESP", 0).frame())
	r := decodeBytes(t, record(t, frames...), Options{Keys: labKeys()})
	wantClean(t, r)
	wantText(t, r, "sequence number 1 was seen before")
	if f := r.Flows[0]; f.Repeated != 1 || f.Opened != 3 {
		t.Errorf("flow %+v", f)
	}
}

func TestExtendedSequenceNumbersCrossTheirLowHalf(t *testing.T) {
	for _, gcm := range []bool{false, true} {
		w := newWorld(knobs{esn: true, gcm: gcm})
		in := inner(netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr("10.2.0.9"))
		for _, seq := range []uint64{0xfffffffe, 0x1_0000_0001, 0xffffffff, 0x1_0000_0002} {
			w.espPacket(true, seq, in)
		}
		r := decodeBytes(t, record(t, w.frames()...), Options{Keys: labKeys()})
		wantClean(t, r)
		wantText(t, r, "extended sequence number: 4294967295", "extended sequence number: 4294967298")
	}
}

func TestInnerPacketOutsideTheSelectorIsNamed(t *testing.T) {
	w := newWorld(knobs{})
	w.espPacket(true, 3, inner(netip.MustParseAddr("10.9.2.3"), netip.MustParseAddr("10.2.0.9")))
	r := decodeBytes(t, record(t, w.frames()...), Options{Keys: labKeys()})
	wantText(t, r, "[FAILED] selector: source 10.9.2.3, expected inside 10.1.0.0/16")
}

func TestUnexpectedICVLengthIsNamed(t *testing.T) {
	r := decodeBytes(t, record(t, newWorld(knobs{icv: 256}).frames()...), Options{Keys: labKeys(), ICVBits: 96})
	wantText(t, r, "[FAILED] ICV length: expected 96 bits, the packet has 256")
}

func TestForeignKeyIsNotTried(t *testing.T) {
	stranger := newGateway("stranger")
	r := decodeBytes(t, record(t, newWorld(knobs{}).frames()...), Options{Keys: []Key{{"stranger.key", stranger.enc}}})
	if r.Failed != 0 {
		t.Errorf("%d failed", r.Failed)
	}
	wantText(t, r, "sealed for the responder's encryption certificate CN=beta enc: its private key was not given",
		"key stranger.key belongs to no encryption certificate in this capture, and opens nothing")
	r = decodeBytes(t, record(t, newWorld(knobs{}).frames()...), Options{Keys: labKeys()})
	if len(r.Problems) != 0 {
		t.Errorf("of keys that fit it is said %q", r.Problems)
	}
}

func TestIDThatIsNoNameOfTheCertificatesIsNamed(t *testing.T) {
	r := decodeBytes(t, record(t, newWorld(knobs{tweak: func(id []byte) { id[len(id)-1] ^= 1 }}).frames()...), Options{Keys: labKeys()})
	wantVerdict(t, r, "M3", "SIGi", Verified)
	wantVerdict(t, r, "M3", "IDi", Failed)
}

func TestSessionsAndQuickModesAreKeptApart(t *testing.T) {
	one, two := newWorld(knobs{}), newWorld(knobs{})
	one.quickMode(0x0f0f0f0f)
	var frames [][]byte
	a, b := one.frames(), two.frames()
	for i := range max(len(a), len(b)) {
		if i < len(a) {
			frames = append(frames, a[i])
		}
		if i < len(b) {
			frames = append(frames, b[i])
		}
	}
	r := decodeBytes(t, record(t, frames...), Options{Keys: labKeys()})
	wantClean(t, r)
	if len(r.Sessions) != 2 || len(r.Sessions[0].Children) != 2 || len(r.Sessions[1].Children) != 1 {
		t.Errorf("sessions:\n%s", text(t, r))
	}
}

func TestForgedMessagesDoNotDisplaceVerifiedOnes(t *testing.T) {
	w := newWorld(knobs{})
	var frames [][]byte
	for _, p := range w.packets {
		frames = append(frames, p.frame())
		if p.name[0] != 'M' || p.name == "M1" || p.name == "M2" {
			continue
		}
		forged := bytes.Clone(p.data)
		forged[len(forged)-20] ^= 1
		frames = append(frames, udpFrame(p.src, p.dst, forged))
	}
	r := decodeBytes(t, record(t, frames...), Options{Keys: labKeys()})
	for _, c := range [][2]string{{"QM1", "HASH_1"}, {"QM2", "HASH_2"}, {"QM3", "HASH_3"}, {"ESP", "ICV"}} {
		wantVerdict(t, r, c[0], c[1], Verified)
	}
	wantText(t, r, "authenticated: HASHi and HASHr verify", "another M3 with the same cookies came in frame 3 with other bytes")
}

func TestNoiseBeforeAQuickModeDoesNotConfuseIt(t *testing.T) {
	for _, fromA := range []bool{true, false} {
		w := newWorld(knobs{})
		q := *w.find(t, "QM1", 0)
		q.data = bytes.Clone(q.data)
		q.data[len(q.data)-40] ^= 1
		if !fromA {
			q.src, q.dst = q.dst, q.src
		}
		frames := w.frames()
		r := decodeBytes(t, record(t, slices.Insert(frames, 6, q.frame())...), Options{Keys: labKeys()})
		if r.Failed == 0 {
			t.Error("the altered message is not named")
		}
		for _, c := range [][2]string{{"QM2", "HASH_2"}, {"QM3", "HASH_3"}, {"ESP", "ICV"}} {
			wantVerdict(t, r, c[0], c[1], Verified)
		}
	}
}

func TestClearRefusalIsShownAsUnauthenticated(t *testing.T) {
	w := newWorld(knobs{})
	h := w.h
	h.Responder, h.Exchange, h.MessageID, h.Flags = wire.Cookie{9}, wire.Informational, 7, 0
	n := wire.Notification{DOI: 1, Protocol: wire.ProtoISAKMP, SPI: make([]byte, 16), Type: wire.NoProposalChosen}
	msg := wire.Message{Header: h, Payloads: []wire.Payload{{Type: wire.TypeNotify, Body: n.Append(nil)}}}.Append(nil)
	frames := [][]byte{w.frames()[0], udpFrame(w.b.addr, w.a.addr, msg)}
	r := decodeBytes(t, record(t, append(frames, w.frames()[1:]...)...), Options{Keys: labKeys()})
	wantClean(t, r)
	wantText(t, r, "refusal: NO-PROPOSAL-CHOSEN", "not authenticated by anything")
	if len(r.Sessions) != 1 {
		t.Errorf("%d sessions, want 1", len(r.Sessions))
	}
}

func TestProtectedRefusalAfterM5IsOpened(t *testing.T) {
	w := newWorld(knobs{})
	m5 := w.find(t, "M5", 0)
	w.last = gm.LastBlock(m5.data)
	w.packets = w.packets[:5]
	w.h.Exchange, w.h.MessageID = wire.Informational, 0x77
	n := wire.Payload{Type: wire.TypeNotify, Body: wire.Notification{DOI: 1, Protocol: wire.ProtoISAKMP, Type: wire.AuthenticationFailed}.Append(nil)}
	hash := gm.Protected(w.keys, 0x77, wire.AppendPayloads(nil, []wire.Payload{n}))
	w.encrypted("INFO", false, gm.PhaseTwoIV(w.last, 0x77), wire.Payload{Type: wire.TypeHash, Body: hash[:]}, n)
	r := decodeBytes(t, record(t, w.frames()...), Options{Keys: labKeys()})
	wantClean(t, r)
	wantText(t, r, "refusal: AUTHENTICATION-FAILED")
}

func TestListedESPPacketsAreBounded(t *testing.T) {
	w := newWorld(knobs{})
	in := inner(netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr("10.2.0.9"))
	for seq := uint64(3); seq <= 50; seq++ {
		w.espPacket(true, seq, in)
	}
	r := decodeBytes(t, record(t, w.frames()...), Options{Keys: labKeys(), ESPShown: 5})
	wantClean(t, r)
	wantText(t, r, "50 packets", "50 opened", fmt.Sprintf("%d of them were checked and counted, not listed", 45))
	if n := strings.Count(text(t, r), "ESP  session"); n != 5+2 {
		t.Errorf("%d ESP packets listed, want 7", n)
	}
}
