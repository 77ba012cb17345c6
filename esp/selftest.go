package esp

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"net/netip"

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

// SelfTest seals and opens one packet of each suite and compares every byte with
// the known answer. tamper may be nil; otherwise it sees each result under its
// name before it is compared, so that a fault can be injected.
func SelfTest(tamper func(name string, result []byte)) error {
	if tamper == nil {
		tamper = func(string, []byte) {}
	}
	for _, a := range knownAnswers() {
		if err := a.check(tamper); err != nil {
			return fmt.Errorf("self-test of ESP, %s: %w", a.name, err)
		}
	}
	return nil
}

func (a knownAnswer) check(tamper func(string, []byte)) error {
	var b [4][]byte
	for i, s := range []string{knownKeymat, knownInner, a.iv, a.packet} {
		var err error
		if b[i], err = hex.DecodeString(s); err != nil {
			return err
		}
	}
	keymat, inner, iv, packet := b[0][:KeymatLen(a.suite)], b[1], b[2], b[3]
	all := policy.NetOf(netip.PrefixFrom(netip.IPv4Unspecified(), 0))
	half := Half{SPI: knownSPI, Keymat: secret.New(keymat)}
	c := Child{
		ID: 1, Suite: a.suite, ICVBits: 256, Window: MinWindow, In: half, Out: half,
		Selector: policy.Selector{Local: all, Remote: all},
	}
	out, err := NewOutbound(c, State{}, bytes.NewReader(make([]byte, keyLen)))
	if err != nil {
		return err
	}
	defer out.Close()
	out.keys.iv = givenIV(iv)
	sealed, err := out.Seal(nil, inner)
	if err != nil {
		return err
	}
	tamper(a.name+", seal", sealed)
	if !bytes.Equal(sealed, packet) {
		return fmt.Errorf("a sealed packet differs from the known answer")
	}
	in, err := NewInbound(c, State{})
	if err != nil {
		return err
	}
	defer in.Close()
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

// givenIV stands in for the source of IVs where a known answer prescribes one.
type givenIV []byte

func (g givenIV) next(dst []byte, _ uint64) { copy(dst, g) }
func (g givenIV) wipe()                     {}
