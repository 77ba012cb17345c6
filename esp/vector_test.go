package esp

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"
	"time"

	"yumen/esp/internal/lanes"
	"yumen/policy"
	"yumen/policy/secret"
)

// The worked example: the SA towards the responder, its first packet.
const (
	exampleSPI    = 0xc713ad06
	exampleKeymat = "e396c2b70d6ee43b45f7d3a9b86292f93ebea17a47c75076adfcc00c7714817c28d8e5ee827e07ddf1aa6cb9f8a860fc"
	exampleInner  = "4500001c000100004001e9abac101d0aac101c0a0800f7fd00010001"
	exampleCBC    = "c713ad0600000001a0a1a2a3a4a5a6a7a8a9aaabacadaeaf" +
		"092e3d9b314a2c3dd58b87103c613c534825d355018c8e30abfcfb1beb5a63b2"
	exampleICV = "ec5893b31aadbba14c4a37402c05d693e6eef6399b7339c66e3edd57d7396d30"
	exampleGCM = "c713ad0600000001b0b1b2b3b4b5b6b7e4e33c188cf7c61d1721960d8204098a" +
		"58b18d80e44128d9f847d7dca3dfbf7e15d85d498ab06d9906a1add4552da9bf"
	// Not of the example: the same keys and packet by AES-CBC and HMAC-SHA-256 of
	// OpenSSL.
	exampleAES = "c713ad0600000001c0c1c2c3c4c5c6c7c8c9cacbcccdcecf467b715d91a0777f6bf1b07e1e4184d4" +
		"f87b49d73434c277d7dc61fdbd248ea2a43c88d6ddc58a83ef0e71ccc2cdf81d"
)

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

// exampleChild is the responder's side of the example's receiving SA, which a test
// may also send with.
func exampleChild(s policy.Suite, icvBits int) Child {
	mat := unhex(exampleKeymat)[:KeymatLen(s)]
	return Child{
		ID: 7, Tunnel: "t", Peer: "p", Suite: s, ICVBits: icvBits, Window: 1024,
		Selector: policy.Selector{Local: net("172.16.28.0/24"), Remote: net("172.16.29.0/24")},
		In:       Half{SPI: exampleSPI, Keymat: secret.New(mat)},
		Out:      Half{SPI: exampleSPI, Keymat: secret.New(mat)},
	}
}

func net(prefix string) policy.Net { return policy.NetOf(netip.MustParsePrefix(prefix)) }

func TestWorkedExampleIsReproducedByteForByte(t *testing.T) {
	for _, v := range []struct {
		name    string
		suite   policy.Suite
		icvBits int
		iv      string
		want    string
	}{
		{"CBC, ICV 96", policy.SM4CBCHMACSM3, 96, "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf", exampleCBC + exampleICV[:24]},
		{"CBC, ICV 128", policy.SM4CBCHMACSM3, 128, "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf", exampleCBC + exampleICV[:32]},
		{"CBC, ICV 256", policy.SM4CBCHMACSM3, 256, "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf", exampleCBC + exampleICV},
		{"GCM", policy.SM4GCM128, 0, "b0b1b2b3b4b5b6b7", exampleGCM},
		{"AES", policy.AESCBCHMACSHA256, 0, "c0c1c2c3c4c5c6c7c8c9cacbcccdcecf", exampleAES},
	} {
		t.Run(v.name, func(t *testing.T) {
			c := exampleChild(v.suite, v.icvBits)
			out, err := NewOutbound(c, State{}, counterReader(0))
			if err != nil {
				t.Fatal(err)
			}
			out.keys.iv = givenIV(unhex(v.iv))
			got, err := out.Seal(nil, unhex(exampleInner))
			if err != nil || !bytes.Equal(got, unhex(v.want)) {
				t.Fatalf("sealed %x, %v\nwant   %s", got, err, v.want)
			}
			in, err := NewInbound(c, State{})
			if err != nil {
				t.Fatal(err)
			}
			inner, err := in.Open(make([]byte, 0, 128), unhex(v.want))
			if err != nil || !bytes.Equal(inner, unhex(exampleInner)) {
				t.Fatalf("opened %x, %v", inner, err)
			}
		})
	}
}

func TestICVLengthShowsInThePacketLength(t *testing.T) {
	for icv, want := range map[int]int{96: 4, 128: 8, 256: 8} {
		c := exampleChild(policy.SM4CBCHMACSM3, icv)
		out, err := NewOutbound(c, State{}, counterReader(0))
		if err != nil {
			t.Fatal(err)
		}
		got, err := out.Seal(nil, unhex(exampleInner))
		if err != nil || len(got)%16 != want {
			t.Errorf("ICV %d: length %d mod 16 = %d, want %d (%v)", icv, len(got), len(got)%16, want, err)
		}
	}
}

// RFC 8998 A.1, by the cipher as this package drives it.
func TestGCMMatchesRFC8998(t *testing.T) {
	c := exampleChild(policy.SM4GCM128, 0)
	c.In.Keymat = secret.New(unhex("0123456789abcdeffedcba9876543210" + "00001234"))
	k, err := newKeys(c, c.In, lanes.Best())
	if err != nil {
		t.Fatal(err)
	}
	plain := unhex("aaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbccccccccccccccccdddddddddddddddd" +
		"eeeeeeeeeeeeeeeeffffffffffffffffeeeeeeeeeeeeeeeeaaaaaaaaaaaaaaaa")
	copy(k.nonce[saltLen:], unhex("567800000000abcd"))
	got := k.aead.Seal(nil, k.nonce[:], plain, unhex("feedfacedeadbeeffeedfacedeadbeefabaddad2"))
	want := unhex("17f399f08c67d5ee19d0dc9969c4bb7d5fd46fd3756489069157b282bb200735" +
		"d82710ca5c22f0ccfa7cbf93d496ac15a56834cbcf98c397b4024a2691233b8d" +
		"83de3541e4c2b58177e065a9bf7b62ec")
	if !bytes.Equal(got, want) {
		t.Fatalf("got  %x\nwant %x", got, want)
	}
}

func TestHMACMatchesTheShangMiDraft(t *testing.T) {
	mat := make([]byte, 48)
	copy(mat[16:], unhex("00112233445566778899aabbccddeeff")) // HMAC pads a short key with zeros
	c := exampleChild(policy.SM4CBCHMACSM3, 96)
	c.In.Keymat = secret.New(mat)
	k, err := newKeys(c, c.In, lanes.Best())
	if err != nil {
		t.Fatal(err)
	}
	data := []byte("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq")
	want := unhex("dc813339153491ad81477754eb3df00dbb3cc3e6a69f9cacce737db7e61342ff")
	for cut := range data {
		if k.mac.Sum(&k.sum, data[:cut], data[cut:]); !bytes.Equal(k.sum[:], want) {
			t.Fatalf("cut at %d: %x", cut, k.sum)
		}
	}
}

func TestKeymatIsCutFromTheLeft(t *testing.T) {
	if KeymatLen(policy.SM4CBCHMACSM3) != 48 || KeymatLen(policy.SM4GCM128) != 20 || KeymatLen(policy.NoSuite) != 0 ||
		KeymatLen(policy.AESCBCHMACSHA256) != 48 {
		t.Fatal("lengths of KEYMAT")
	}
	for _, s := range []policy.Suite{policy.SM4CBCHMACSM3, policy.SM4GCM128} {
		for _, n := range []int{0, KeymatLen(s) - 1, KeymatLen(s) + 1} {
			c := exampleChild(s, 96)
			c.In.Keymat = secret.New(make([]byte, n))
			if _, err := NewInbound(c, State{}); err == nil || !strings.Contains(err.Error(), "keymat") {
				t.Errorf("suite %d took %d bytes: %v", s, n, err)
			}
		}
	}
}

func TestWhatDoesNotExistIsRefused(t *testing.T) {
	good := exampleChild(policy.SM4CBCHMACSM3, 96)
	for name, change := range map[string]func(*Child){
		"suite":        func(c *Child) { c.Suite = policy.NoSuite },
		"ICV of 0":     func(c *Child) { c.ICVBits = 0 },
		"ICV of 160":   func(c *Child) { c.ICVBits = 160 },
		"reserved SPI": func(c *Child) { c.In.SPI, c.Out.SPI = 255, 255 },
		"wiped keymat": func(c *Child) { c.In.Keymat, c.Out.Keymat = secret.Secret{}, secret.Secret{} },
	} {
		c := good
		change(&c)
		if _, err := NewInbound(c, State{}); err == nil {
			t.Errorf("%s: inbound made", name)
		}
		if _, err := NewOutbound(c, State{}, counterReader(0)); err == nil {
			t.Errorf("%s: outbound made", name)
		}
	}
	for _, w := range []int{0, 63, 4097, -1} {
		c := good
		c.Window = w
		if _, err := NewInbound(c, State{}); err == nil {
			t.Errorf("window of %d made", w)
		}
	}
	for _, r := range []*bytes.Reader{bytes.NewReader(nil), bytes.NewReader(make([]byte, 15))} {
		if _, err := NewOutbound(good, State{}, r); err == nil {
			t.Error("made without randomness")
		}
	}
	if _, err := NewOutbound(good, State{}, nil); err == nil {
		t.Error("made without a source")
	}
}

// counterReader is a source of "randomness" that a test can repeat.
type counter struct{ n byte }

func counterReader(start byte) *counter { return &counter{start} }

func (c *counter) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = c.n
		c.n++
	}
	return len(p), nil
}

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func TestSelfTestRefusesEveryFault(t *testing.T) {
	if err := SelfTest(nil); err != nil {
		t.Fatal(err)
	}
	var names []string
	if err := SelfTest(func(name string, _ []byte) { names = append(names, name) }); err != nil || len(names) != 8*len(Kernels()) {
		t.Fatal(err, names)
	}
	for _, fault := range names {
		err := SelfTest(func(name string, result []byte) {
			if name == fault {
				result[len(result)-1] ^= 1
			}
		})
		if err == nil {
			t.Errorf("a fault in %q went unnoticed", fault)
		}
	}
}
