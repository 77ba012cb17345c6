package decode

import (
	"bytes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/x509/pkix"
	"encoding/binary"
	"math/big"
	"net/netip"
	"sync"
	"testing"
	"time"

	"yumen/ike/gm"
	"yumen/ike/wire"
	"yumen/policy"
	"yumen/policy/trust"

	"github.com/emmansun/gmsm/sm2"
	"github.com/emmansun/gmsm/sm4"
	"github.com/emmansun/gmsm/smx509"
)

// gateway is one end with fresh keys and certificates.
type gateway struct {
	sign, enc         *sm2.PrivateKey
	signBody, encBody []byte // certificate payload bodies
	id                []byte
	sk, nonce         []byte
	addr              netip.AddrPort
}

// knobs are the ways in which a session can differ.
type knobs struct {
	v6, natt, gcm, esn, sigRaw, noByte, hashrR bool
	icv                                        int
	dialect                                    policy.Dialect
	form                                       policy.HashForm
	tweak                                      func(plain []byte) // of the ID body before sealing
}

// packet is one datagram of a world, named so that a test can lose or alter it.
type packet struct {
	name     string
	src, dst netip.AddrPort
	data     []byte // UDP payload, or the ESP packet when the ports are 0
}

type world struct {
	k        knobs
	a, b     gateway
	h        wire.Header
	keys     gm.Keys
	saI, saR []byte
	last     [16]byte
	packets  []packet
	keymat   [2][]byte // towards a, towards b
}

// the same two gateways serve every test: SM2 keys are slow to make
var gateways = sync.OnceValue(func() [2]gateway { return [2]gateway{newGateway("alpha"), newGateway("beta")} })

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func random(n int) []byte {
	b := make([]byte, n)
	must(rand.Read(b))
	return b
}

func newGateway(name string) (g gateway) {
	ca := must(sm2.GenerateKey(rand.Reader))
	issuer := &smx509.Certificate{SerialNumber: big.NewInt(9), Subject: pkix.Name{CommonName: "lab ca"}}
	make := func(cn string, usage int, pub any) []byte {
		leaf := &smx509.Certificate{SerialNumber: big.NewInt(int64(usage)), Subject: pkix.Name{CommonName: cn},
			NotBefore: start.Add(-time.Hour), NotAfter: start.Add(time.Hour)}
		leaf.KeyUsage = 1
		if usage == 5 {
			leaf.KeyUsage = 0x1c
		}
		return must(smx509.CreateCertificate(rand.Reader, leaf, issuer, pub, ca))
	}
	g.sign, g.enc = must(sm2.GenerateKey(rand.Reader)), must(sm2.GenerateKey(rand.Reader))
	signDER := make(name+" sign", 4, &g.sign.PublicKey)
	g.signBody = append([]byte{4}, signDER...)
	g.encBody = append([]byte{5}, make(name+" enc", 5, &g.enc.PublicKey)...)
	cert := must(trust.ParseCertificate(signDER))
	g.id = wire.ID{Type: wire.IDDN, Data: cert.Subject}.Append(nil)
	return g
}

func labKeys() []Key {
	gs := gateways()
	return []Key{{"a/enc.key", gs[0].enc}, {"b/enc.key", gs[1].enc}}
}

// newWorld plays a whole session: main mode, quick mode, two ESP packets each
// way, and a protected delete.
func newWorld(k knobs) *world {
	gs := gateways()
	w := &world{k: k, a: gs[0], b: gs[1]}
	if k.icv == 0 {
		w.k.icv = 96
	}
	w.a.addr, w.b.addr = netip.AddrPortFrom(gwA, 500), netip.AddrPortFrom(gwB, 500)
	if k.v6 {
		w.a.addr, w.b.addr = netip.AddrPortFrom(gwA6, 500), netip.AddrPortFrom(gwB6, 500)
	}
	w.a.sk, w.a.nonce, w.b.sk, w.b.nonce = random(16), random(16), random(16), random(16)
	w.h = wire.Header{Initiator: wire.Cookie(random(8)), Version: wire.Version11, Exchange: wire.MainMode}
	w.mainMode()
	w.quickMode(0x01020304)
	w.esp()
	w.informational(wire.Delete{DOI: 1, Protocol: wire.ProtoESP, SPISize: 4, SPIs: [][]byte{{0, 0, 0x10, 1}}})
	return w
}

func (w *world) send(name string, fromA bool, data []byte) {
	p := packet{name, w.a.addr, w.b.addr, bytes.Clone(data)}
	if !fromA {
		p.src, p.dst = p.dst, p.src
	}
	if p.src.Port() == 4500 {
		p.data = append(make([]byte, 4), data...)
	}
	w.packets = append(w.packets, p)
}

func (w *world) mainMode() {
	offer := wire.Transform{Number: 1, ID: 1, Attributes: []wire.Attribute{wire.Short(1, 129), wire.Short(2, 20), wire.Short(3, 10), wire.Short(20, 2),
		wire.Short(11, 1), wire.Long(12, 86400)}}
	other := wire.Transform{Number: 2, ID: 1, Attributes: append([]wire.Attribute{wire.Short(1, 127)}, offer.Attributes[1:]...)}
	sa := wire.SA{DOI: 1, Situation: 1, Proposals: []wire.Proposal{{Number: 1, Protocol: wire.ProtoISAKMP, Transforms: []wire.Transform{offer, other}}}}
	w.saI = sa.Append(nil)
	sa.Proposals[0].Transforms = sa.Proposals[0].Transforms[:1]
	w.saR = sa.Append(nil)
	vid := wire.Payload{Type: wire.TypeVendorID, Body: []byte(wire.VendorNATT)}
	w.clear("M1", true, wire.Payload{Type: wire.TypeSA, Body: w.saI}, vid)
	w.h.Responder = wire.Cookie(random(8))
	w.clear("M2", false, wire.Payload{Type: wire.TypeSA, Body: w.saR}, wire.Payload{Type: wire.TypeCert, Body: w.b.signBody},
		wire.Payload{Type: wire.TypeCert, Body: w.b.encBody}, vid)
	w.envelope("M3", true)
	w.envelope("M4", false)
	w.keys = gm.DeriveKeys(w.a.nonce, w.b.nonce, w.h.Initiator, w.h.Responder)
	if w.k.natt {
		w.a.addr, w.b.addr = netip.AddrPortFrom(w.a.addr.Addr(), 4500), netip.AddrPortFrom(w.b.addr.Addr(), 4500)
	}
	iv := gm.PhaseOneIV(w.a.sk, w.b.sk)
	hi := gm.HashI(w.keys, w.h.Initiator, w.h.Responder, w.saI, w.a.id)
	iv = w.encrypted("M5", true, iv, wire.Payload{Type: wire.TypeHash, Body: hi[:]})
	saHashr := w.saI
	if w.k.hashrR {
		saHashr = w.saR
	}
	hr := gm.HashR(w.keys, w.h.Initiator, w.h.Responder, saHashr, w.b.id)
	w.last = w.encrypted("M6", false, iv, wire.Payload{Type: wire.TypeHash, Body: hr[:]})
}

func (w *world) clear(name string, fromA bool, ps ...wire.Payload) {
	w.send(name, fromA, wire.Message{Header: w.h, Payloads: ps}.Append(nil))
}

func (w *world) envelope(name string, fromA bool) {
	own, peer := w.a, w.b
	if !fromA {
		own, peer = w.b, w.a
	}
	id := bytes.Clone(own.id)
	if w.k.tweak != nil {
		w.k.tweak(id)
	}
	sk := must(gm.SealEnvelope(rand.Reader, &peer.enc.PublicKey, own.sk, w.k.dialect.SKEncoding))
	nonce, idBody := gm.SealFields(own.sk, own.nonce, id, w.k.dialect)
	digest := must(gm.SignatureDigest(&own.sign.PublicKey, "", gm.SignedMessage(own.sk, own.nonce, id, own.encBody, w.k.noByte)))
	sig := must(gm.SignDigest(rand.Reader, own.sign, digest[:]))
	if w.k.sigRaw {
		sig = must(gm.RawSignature(sig))
	}
	ps := []wire.Payload{{Type: wire.TypeSK, Body: sk}, {Type: wire.TypeNonce, Body: nonce}, {Type: wire.TypeID, Body: idBody}}
	if fromA {
		ps = append(ps, wire.Payload{Type: wire.TypeCert, Body: own.signBody}, wire.Payload{Type: wire.TypeCert, Body: own.encBody})
	}
	ps = append(ps, wire.Payload{Type: wire.TypeSig, Body: sig})
	if w.k.natt {
		for _, end := range []netip.AddrPort{peer.addr, own.addr} {
			ps = append(ps, wire.Payload{Type: wire.TypeNATD, Body: gm.NATD(w.h.Initiator, w.h.Responder, end, policy.NATDSM3)})
		}
	}
	w.clear(name, fromA, ps...)
}

// encrypted sends payloads under SKEYID_e and returns the IV of what follows.
func (w *world) encrypted(name string, fromA bool, iv [16]byte, ps ...wire.Payload) [16]byte {
	plain := wire.AppendPayloads(nil, ps)
	plain = append(plain, make([]byte, (16-len(plain)%16)%16)...)
	body := gm.EncryptCBC(w.keys.CipherKey(), iv[:], plain)
	h := w.h
	h.Flags = wire.FlagEncrypted
	w.send(name, fromA, h.Append(nil, ps[0].Type, body))
	return gm.LastBlock(body)
}

func (w *world) quickMode(msgID uint32) {
	attrs := []wire.Attribute{wire.Short(5, 20), wire.Short(4, 1), wire.Short(1, 1), wire.Short(2, 3600)}
	t := wire.Transform{Number: 1, ID: 129, Attributes: attrs}
	if w.k.gcm {
		t.ID, t.Attributes = 130, attrs[1:]
	}
	if w.k.esn {
		t.Attributes = append([]wire.Attribute{wire.Short(11, 1)}, t.Attributes...)
	}
	sa := func(spi byte) []byte {
		return wire.SA{DOI: 1, Situation: 1, Proposals: []wire.Proposal{{Number: 1, Protocol: wire.ProtoESP, SPI: []byte{0, 0, 0x10, spi}, Transforms: []wire.Transform{t}}}}.Append(nil)
	}
	ids := []wire.Payload{
		{Type: wire.TypeID, Body: wire.ID{Type: wire.IDIPv4Subnet, Data: []byte{10, 1, 0, 0, 255, 255, 0, 0}}.Append(nil)},
		{Type: wire.TypeID, Body: wire.ID{Type: wire.IDIPv4Range, Data: []byte{10, 2, 0, 0, 10, 2, 0, 99}}.Append(nil)}}
	ni, nr := random(16), random(16)
	w.h.Exchange, w.h.MessageID = wire.QuickMode, msgID
	q := gm.QuickHash{MsgID: msgID, Ni: ni, IDci: ids[0].Body, IDcr: ids[1].Body}
	ps := append([]wire.Payload{{Type: wire.TypeSA, Body: sa(1)}, {Type: wire.TypeNonce, Body: ni}}, ids...)
	q.Rest, q.SA, q.NonceOwn = wire.AppendPayloads(nil, ps), sa(1), ni
	hash := gm.Hash1(w.keys, w.k.form, q)
	iv := w.encrypted("QM1", true, gm.PhaseTwoIV(w.last, msgID), append([]wire.Payload{{Type: wire.TypeHash, Body: hash[:]}}, ps...)...)
	ps = append([]wire.Payload{{Type: wire.TypeSA, Body: sa(2)}, {Type: wire.TypeNonce, Body: nr}}, ids...)
	q.Rest, q.SA, q.NonceOwn, q.Nr = wire.AppendPayloads(nil, ps), sa(2), nr, nr
	hash = gm.Hash2(w.keys, w.k.form, q)
	iv = w.encrypted("QM2", false, iv, append([]wire.Payload{{Type: wire.TypeHash, Body: hash[:]}}, ps...)...)
	hash = gm.Hash3(w.keys, q)
	w.encrypted("QM3", true, iv, wire.Payload{Type: wire.TypeHash, Body: hash[:]})
	n := 48
	if w.k.gcm {
		n = 20
	}
	for i := range w.keymat {
		w.keymat[i] = bytes.Clone(gm.Keymat(w.keys.D, 3, uint32(0x1001+i), ni, nr, n).Bytes())
	}
}

func (w *world) informational(d wire.Delete) {
	w.h.Exchange, w.h.MessageID = wire.Informational, 0x0a0b0c0d
	del := wire.Payload{Type: wire.TypeDelete, Body: d.Append(nil)}
	hash := gm.Protected(w.keys, w.h.MessageID, wire.AppendPayloads(nil, []wire.Payload{del}))
	w.encrypted("INFO", true, gm.PhaseTwoIV(w.last, w.h.MessageID), wire.Payload{Type: wire.TypeHash, Body: hash[:]}, del)
}

func (w *world) esp() {
	for seq := uint64(1); seq <= 2; seq++ {
		w.espPacket(true, seq, inner(netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr("10.2.0.9")))
		w.espPacket(false, seq, inner(netip.MustParseAddr("10.2.0.9"), netip.MustParseAddr("10.1.2.3")))
	}
}

func inner(src, dst netip.Addr) []byte {
	return udpFrame(netip.AddrPortFrom(src, 4242), netip.AddrPortFrom(dst, 53), []byte("inner packet"))
}

// espPacket seals and sends one packet.
func (w *world) espPacket(fromA bool, seq uint64, in []byte) {
	spi, key := uint32(0x1002), w.keymat[1]
	if !fromA {
		spi, key = 0x1001, w.keymat[0]
	}
	block := 16
	if w.k.gcm {
		block = 4
	}
	plain := bytes.Clone(in)
	pad := (block - (len(plain)+2)%block) % block
	for i := range pad {
		plain = append(plain, byte(i+1))
	}
	plain = append(plain, byte(pad), 4)
	b := binary.BigEndian.AppendUint32(nil, spi)
	b = binary.BigEndian.AppendUint32(b, uint32(seq))
	if w.k.gcm {
		aad := bytes.Clone(b)
		if w.k.esn {
			aad = binary.BigEndian.AppendUint64(b[:4:4], seq)
		}
		iv := binary.BigEndian.AppendUint64(nil, seq)
		aead := must(cipher.NewGCM(must(sm4.NewCipher(key[:16]))))
		b = append(append(b, iv...), aead.Seal(nil, append(bytes.Clone(key[16:20]), iv...), plain, aad)...)
	} else {
		iv := random(16)
		b = append(append(b, iv...), gm.EncryptCBC(key[:16], iv, plain)...)
		covered := bytes.Clone(b)
		if w.k.esn {
			covered = binary.BigEndian.AppendUint32(covered, uint32(seq>>32))
		}
		mac := gm.PRF(key[16:48], covered)
		b = append(b, mac[:w.k.icv/8]...)
	}
	p := packet{"ESP", w.a.addr, w.b.addr, b}
	if !fromA {
		p.src, p.dst = p.dst, p.src
	}
	if !w.k.natt {
		p.src, p.dst = netip.AddrPortFrom(p.src.Addr(), 0), netip.AddrPortFrom(p.dst.Addr(), 0)
	}
	w.packets = append(w.packets, p)
}

// frames turns the packets into IP.
func (w *world) frames() (out [][]byte) {
	for _, p := range w.packets {
		out = append(out, p.frame())
	}
	return out
}

func (p packet) frame() []byte {
	if p.src.Port() == 0 {
		return ipFrame(p.src.Addr(), p.dst.Addr(), protoESP, p.data)
	}
	return udpFrame(p.src, p.dst, p.data)
}

// find returns the n-th packet of that name, from 0.
func (w *world) find(t testing.TB, name string, n int) *packet {
	t.Helper()
	for i := range w.packets {
		if w.packets[i].name == name {
			if n == 0 {
				return &w.packets[i]
			}
			n--
		}
	}
	t.Fatalf("no packet %s", name)
	return nil
}
