package esp

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"

	"yumen/policy"
	"yumen/policy/secret"
)

// knownAnswer is one packet of which every byte is known: the keys, IVs and inner
// packet of the worked example, whose keys are published and protect nothing. The
// one of AES was made from them by OpenSSL.
type knownAnswer struct {
	name   string
	suite  policy.Suite
	iv     string
	packet string
}

const (
	knownKeymat = "e396c2b70d6ee43b45f7d3a9b86292f93ebea17a47c75076adfcc00c7714817c28d8e5ee827e07ddf1aa6cb9f8a860fc"
	knownInner  = "4500001c000100004001e9abac101d0aac101c0a0800f7fd00010001"
	knownSPI    = 0xc713ad06
)

func knownAnswers() []knownAnswer {
	return []knownAnswer{
		{"SM4-CBC with HMAC-SM3", policy.SM4CBCHMACSM3, "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf",
			"c713ad0600000001a0a1a2a3a4a5a6a7a8a9aaabacadaeaf092e3d9b314a2c3dd58b87103c613c53" +
				"4825d355018c8e30abfcfb1beb5a63b2ec5893b31aadbba14c4a37402c05d693e6eef6399b7339c66e3edd57d7396d30"},
		{"SM4-GCM", policy.SM4GCM128, "b0b1b2b3b4b5b6b7",
			"c713ad0600000001b0b1b2b3b4b5b6b7e4e33c188cf7c61d1721960d8204098a" +
				"58b18d80e44128d9f847d7dca3dfbf7e15d85d498ab06d9906a1add4552da9bf"},
		{"AES-CBC with HMAC-SHA-256", policy.AESCBCHMACSHA256, "c0c1c2c3c4c5c6c7c8c9cacbcccdcecf",
			"c713ad0600000001c0c1c2c3c4c5c6c7c8c9cacbcccdcecf467b715d91a0777f6bf1b07e1e4184d4" +
				"f87b49d73434c277d7dc61fdbd248ea2a43c88d6ddc58a83ef0e71ccc2cdf81d"},
	}
}

// SelfTest seals and opens, by every kernel of this machine, one packet of each suite
// and a batch, and compares every byte with the known answer. tamper may be nil;
// otherwise it sees each result under its name before it is compared, so that a
// fault can be injected.
func SelfTest(tamper func(name string, result []byte)) error {
	if tamper == nil {
		tamper = func(string, []byte) {}
	}
	for _, k := range Kernels() {
		named := func(name string, result []byte) { tamper(k.Name+", "+name, result) }
		for _, a := range knownAnswers() {
			if err := a.check(k, named); err != nil {
				return fmt.Errorf("self-test of ESP, %s, %s: %w", k.Name, a.name, err)
			}
		}
		if err := k.checkBatch(named); err != nil {
			return fmt.Errorf("self-test of ESP, %s, batch: %w", k.Name, err)
		}
	}
	return nil
}

func (a knownAnswer) check(k Kernel, tamper func(string, []byte)) error {
	var b [4][]byte
	for i, s := range []string{knownKeymat, knownInner, a.iv, a.packet} {
		var err error
		if b[i], err = hex.DecodeString(s); err != nil {
			return err
		}
	}
	keymat, inner, iv, packet := b[0][:KeymatLen(a.suite)], b[1], b[2], b[3]
	out, in, err := k.knownPair(a.suite, knownSPI, keymat, iv)
	if err != nil {
		return err
	}
	defer out.Close()
	defer in.Close()
	sealed, err := out.Seal(nil, inner)
	if err != nil {
		return err
	}
	tamper(a.name+", seal", sealed)
	if !bytes.Equal(sealed, packet) {
		return fmt.Errorf("a sealed packet differs from the known answer")
	}
	opened, err := in.Open(nil, packet)
	if err != nil {
		return err
	}
	tamper(a.name+", open", opened)
	if !bytes.Equal(opened, inner) {
		return fmt.Errorf("an opened packet differs from the known answer")
	}
	return nil
}

// knownPair makes both halves of an SA whose keys and IV are known.
func (k Kernel) knownPair(s policy.Suite, spi SPI, keymat, iv []byte) (*Outbound, *Inbound, error) {
	all := policy.NetOf(netip.PrefixFrom(netip.IPv4Unspecified(), 0))
	half := Half{SPI: spi, Keymat: secret.New(keymat)}
	c := Child{
		ID: 1, Suite: s, ICVBits: 256, Window: MinWindow, In: half, Out: half,
		Selector: policy.Selector{Local: all, Remote: all},
	}
	defer half.Keymat.Wipe()
	out, err := k.NewOutbound(c, State{}, bytes.NewReader(make([]byte, keyLen)))
	if err != nil {
		return nil, nil, err
	}
	out.keys.iv = givenIV(iv)
	in, err := k.NewInbound(c, State{})
	if err != nil {
		out.Close()
		return nil, nil, err
	}
	return out, in, nil
}

// The known batch has more packets than there are lanes, of 28 to 1380 bytes, so that
// lanes end at different times and are taken again; each packet has keys, IV and SPI
// of its own. Its answer is SHA-256 over the sealed packets, made by OpenSSL one by
// one.
const (
	knownBatch    = 27
	knownBatchSum = "744eb2b33522be2469e1dff289e30f4c6ac277bf7dd121780eabb4e675607461"
)

// batchInner is an inner packet of the known batch.
func batchInner(header []byte, i int) []byte {
	p := make([]byte, 28+2*i*i)
	for j := range p {
		p[j] = byte(i + j)
	}
	copy(p, header)
	binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
	return p
}

func (k Kernel) checkBatch(tamper func(string, []byte)) error {
	keymat, err := hex.DecodeString(knownKeymat)
	if err != nil {
		return err
	}
	header, err := hex.DecodeString(knownInner)
	if err != nil {
		return err
	}
	iv, err := hex.DecodeString(knownAnswers()[0].iv)
	if err != nil {
		return err
	}
	var b Batch
	seals, opens := make([]Sealing, knownBatch), make([]Opening, knownBatch)
	var inner, sealed, opened []byte
	for i := range seals {
		own := bytes.Clone(iv)
		for j := range own {
			own[j] ^= byte(i)
		}
		out, in, err := k.knownPair(policy.SM4CBCHMACSM3, knownSPI+SPI(i), slices.Concat(keymat[i:], keymat[:i]), own)
		if err != nil {
			return err
		}
		defer out.Close()
		defer in.Close()
		seals[i], opens[i].SA = Sealing{SA: out, Inner: batchInner(header, i)}, in
		inner = append(inner, seals[i].Inner...)
	}
	b.Seal(seals)
	for i, j := range seals {
		if j.Err != nil {
			return j.Err
		}
		sealed, opens[i].Packet = append(sealed, j.Packet...), j.Packet
	}
	tamper("batch, seal", sealed)
	if sum := sha256.Sum256(sealed); hex.EncodeToString(sum[:]) != knownBatchSum {
		return fmt.Errorf("a sealed batch differs from the known answer")
	}
	b.Open(opens)
	for _, j := range opens {
		if j.Err != nil {
			return j.Err
		}
		opened = append(opened, j.Inner...)
	}
	tamper("batch, open", opened)
	if !bytes.Equal(opened, inner) {
		return fmt.Errorf("an opened batch differs from the known answer")
	}
	return nil
}

// givenIV stands in for the source of IVs where a known answer prescribes one.
type givenIV []byte

func (g givenIV) next(dst []byte, _ uint64) { copy(dst, g) }
func (g givenIV) wipe()                     {}
