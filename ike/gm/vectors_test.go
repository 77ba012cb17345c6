package gm

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"testing"

	"github.com/emmansun/gmsm/sm2"

	"yumen/policy"
)

func TestAlgorithmsGiveTheSanityValues(t *testing.T) {
	e := readExample(t)
	sum := SM3([]byte("a"), nil, []byte("bc"))
	e.check(`SM3("abc")`, sum[:])
	key, _ := hex.DecodeString("0123456789abcdeffedcba9876543210")
	// One block of CBC under a zero IV is ECB.
	e.check("SM4-ECB", EncryptCBC(key, make([]byte, 16), key))
	mac, _ := hex.DecodeString("00112233445566778899aabbccddeeff")
	prf := PRF(mac, []byte("abcdbcdecdefdefgefghfghighijhijkijkl"), []byte("jklmklmnlmnomnopnopq"))
	e.check("HMAC-SM3", prf[:])
}

func TestPublishedEnvelopesOpenWithThePublishedKeys(t *testing.T) {
	e := readExample(t)
	for _, c := range []struct{ key, body, sk, cert string }{
		{"d_enc_r", "SKi body", "Ski", "CERT_enc_r_b"},
		{"d_enc_i", "SKr body", "Skr", "CERT_enc_i_b"},
	} {
		key := e.private(c.key)
		got, err := OpenEnvelope(key, e.get(c.body))
		if err != nil {
			t.Fatalf("%s: %v", c.body, err)
		}
		e.check(c.sk, got.Bytes())
		if len(e.get(c.body)) != 123 {
			t.Errorf("%s has %d bytes, the example's have 123", c.body, len(e.get(c.body)))
		}
		// The key belongs to the encryption certificate that the peer was sent.
		point := append([]byte{4}, append(key.X.FillBytes(make([]byte, 32)), key.Y.FillBytes(make([]byte, 32))...)...)
		if !contains(e.get(c.cert), point) {
			t.Errorf("%s is not the key of %s", c.key, c.cert)
		}
	}
}

func contains(b, part []byte) bool {
	for i := 0; i+len(part) <= len(b); i++ {
		if string(b[i:i+len(part)]) == string(part) {
			return true
		}
	}
	return false
}

func TestPublishedFieldsSealAndOpen(t *testing.T) {
	e := readExample(t)
	for _, c := range []struct{ sk, nonce, id string }{{"Ski", "Ni", "IDi"}, {"Skr", "Nr", "IDr"}} {
		sk := e.get(c.sk)
		e.check(c.nonce+" plain", PadField(e.nonce(c.nonce), policy.PadCounted))
		e.check(c.id+" plain", PadField(e.id(c.id), policy.PadCounted))
		n, id := SealFields(sk, e.nonce(c.nonce), e.id(c.id), policy.Dialect{})
		e.check(c.nonce+" wire", n)
		e.check(c.id+" wire", id)
		got := OpenFields(sk, e.get(c.nonce+" wire"), e.get(c.id+" wire"), false)
		if len(got) != 1 {
			t.Fatalf("%s, %s: %d readings, the example has one", c.nonce, c.id, len(got))
		}
		checkBytes(t, c.nonce, got[0].Nonce, e.nonce(c.nonce))
		checkBytes(t, c.id, got[0].ID, e.id(c.id))
	}
}

func TestPublishedSignaturesVerify(t *testing.T) {
	e := readExample(t)
	for _, c := range []struct {
		side, sum, sig, pub string
		size                int
	}{
		{"i", "SM3(msg_i)", "SIG_i", "pub_sign_i", 610},
		{"r", "SM3(msg_r)", "SIG_r", "pub_sign_r", 608},
	} {
		cert := e.get("CERT_enc_" + c.side + "_b")
		msg := SignedMessage(e.get("Sk"+c.side), e.nonce("N"+c.side), e.id("ID"+c.side), cert, false)
		if len(msg) != c.size {
			t.Errorf("msg_%s: %d bytes, want %d", c.side, len(msg), c.size)
		}
		sum := SM3(msg)
		e.check(c.sum, sum[:])
		pub := e.public(c.pub)
		digest, err := SignatureDigest(pub, "", msg)
		if err != nil {
			t.Fatal(err)
		}
		if !VerifyDigest(pub, digest[:], e.get(c.sig)) {
			t.Errorf("%s does not verify", c.sig)
		}
		raw, err := RawSignature(e.get(c.sig))
		if err != nil || !VerifyDigest(pub, digest[:], raw) {
			t.Errorf("%s does not verify as 64 raw bytes: %v", c.sig, err)
		}
		named, err := SignatureDigest(pub, "1234567812345678", msg)
		if err != nil || named != digest {
			t.Error("the default user ID is not 1234567812345678")
		}
		short := SignedMessage(e.get("Sk"+c.side), e.nonce("N"+c.side), e.id("ID"+c.side), cert, true)
		other, _ := SignatureDigest(pub, "", short)
		if len(short) != c.size-1 || VerifyDigest(pub, other[:], e.get(c.sig)) {
			t.Errorf("%s verifies without the encoding byte of the certificate", c.sig)
		}
	}
}

func TestPublishedNoncesGiveThePublishedKeys(t *testing.T) {
	e := readExample(t)
	seed := SM3(e.nonce("Ni"), e.nonce("Nr"))
	e.check("HASH(Ni|Nr)", seed[:])
	k := e.keys()
	e.check("SKEYID", k.SKEYID.Bytes())
	e.check("SKEYID_d", k.D.Bytes())
	e.check("SKEYID_a", k.A.Bytes())
	e.check("SKEYID_e", k.E.Bytes())
	e.check("SM4 key", k.CipherKey())
	iv := PhaseOneIV(e.get("Ski"), e.get("Skr"))
	e.check("IV1", iv[:])
}

func TestPublishedFifthAndSixthMessage(t *testing.T) {
	e := readExample(t)
	k := e.keys()
	cki, ckr := e.cookies()
	iv := PhaseOneIV(e.get("Ski"), e.get("Skr"))
	hashI := HashI(k, cki, ckr, e.get("SAi_b"), e.id("IDi"))
	hashR := HashR(k, cki, ckr, e.get("SAr_b"), e.id("IDr"))
	for _, c := range []struct {
		name string
		hash [32]byte
	}{{"M5", hashI}, {"M6", hashR}} {
		plain, err := DecryptCBC(k.CipherKey(), iv[:], e.get(c.name+" wire"))
		if err != nil {
			t.Fatal(err)
		}
		e.check(c.name+" plain", plain)
		checkBytes(t, "hash of "+c.name, c.hash[:], plain[4:36])
		// What we would send.
		sent := append([]byte{0, 0, 0, 36}, c.hash[:]...)
		sent = EncryptCBC(k.CipherKey(), iv[:], PadField(sent, policy.PadZeros))
		e.check(c.name+" wire", sent)
		if 28+len(sent) != 76 {
			t.Errorf("%s has %d bytes, want 76", c.name, 28+len(sent))
		}
		iv = LastBlock(e.get(c.name + " wire"))
	}
	iv = PhaseTwoIV(iv, e.u32("MsgID"))
	e.check("IV2", iv[:])
}

// quickMode decrypts the three messages of the example.
func quickMode(e example) (k Keys, plain [3][]byte) {
	e.t.Helper()
	k = e.keys()
	iv := PhaseTwoIV(LastBlock(e.get("M6 wire")), e.u32("MsgID"))
	for i, name := range []string{"QM1", "QM2", "QM3"} {
		var err error
		if plain[i], err = DecryptCBC(k.CipherKey(), iv[:], e.get(name+" wire")); err != nil {
			e.t.Fatal(err)
		}
		e.check(name+" plain", plain[i])
		e.check(name+" wire", EncryptCBC(k.CipherKey(), iv[:], plain[i]))
		iv = LastBlock(e.get(name + " wire"))
	}
	return k, plain
}

// quickHash is what a quick mode message is hashed from, and the hash it has.
func quickHash(e example, plain []byte) (q QuickHash, hash []byte) {
	e.t.Helper()
	b, end := payloads(e.t, plain)
	if len(b) != 5 {
		e.t.Fatalf("%d payloads, want 5", len(b))
	}
	return QuickHash{
		MsgID: e.u32("MsgID"), Rest: plain[36:end],
		SA: b[1], NonceOwn: b[2], IDci: b[3], IDcr: b[4],
	}, b[0]
}

func TestPublishedQuickModeHashes(t *testing.T) {
	e := readExample(t)
	k, plain := quickMode(e)
	q1, h1 := quickHash(e, plain[0])
	q2, h2 := quickHash(e, plain[1])
	q1.Ni = q1.NonceOwn
	q2.Ni, q2.Nr = q1.NonceOwn, q2.NonceOwn
	e.check("H1 rfc2409", h1)
	e.check("H2 rfc2409", h2)
	for form, name := range map[policy.HashForm]string{
		policy.HashRFC2409: "rfc2409", policy.HashStdFull: "std-full", policy.HashStdBody: "std-body",
	} {
		got := Hash1(k, form, q1)
		e.check("H1 "+name, got[:])
		if got = Hash2(k, form, q2); form != policy.HashStdFull { // the example prints no such value
			e.check("H2 "+name, got[:])
		}
	}
	got := Hash3(k, q2)
	e.check("H3", got[:])
	checkBytes(t, "HASH_3 of QM3", plain[2][4:36], got[:])
	if n := 28 + len(e.get("QM1 wire")); n != 188 {
		t.Errorf("QM1 has %d bytes, want 188", n)
	}
	if n := 28 + len(e.get("QM3 wire")); n != 76 {
		t.Errorf("QM3 has %d bytes, want 76", n)
	}
}

func TestPublishedKeyMaterial(t *testing.T) {
	e := readExample(t)
	k, plain := quickMode(e)
	q1, _ := quickHash(e, plain[0])
	q2, _ := quickHash(e, plain[1])
	for _, side := range []string{"init", "resp"} {
		for _, n := range []int{48, 20, 32, 33} {
			got := Keymat(k.D, 3, e.u32("SPI "+side), q1.NonceOwn, q2.NonceOwn, n)
			checkBytes(t, "KEYMAT "+side, got.Bytes()[:min(n, 48)], e.get("KEYMAT " + side)[:min(n, 48)])
			if got.Len() != n {
				t.Errorf("%d bytes asked, %d given", n, got.Len())
			}
		}
	}
}

func TestPublishedNATDetection(t *testing.T) {
	e := readExample(t)
	cki, ckr := e.cookies()
	addr := netip.MustParseAddrPort("192.0.2.1:500")
	got := NATD(cki, ckr, addr, policy.NATDSM3)
	e.check("NAT-D", got)
	mapped := NATD(cki, ckr, netip.MustParseAddrPort("[::ffff:192.0.2.1]:500"), policy.NATDSM3)
	if !bytes.Equal(mapped, got) {
		t.Error("an IPv4 address mapped into IPv6 has another hash")
	}
	if !MatchNATD(e.get("NAT-D"), cki, ckr, addr) {
		t.Error("the published NAT-D does not match")
	}
}

func TestPublishedSizes(t *testing.T) {
	e := readExample(t)
	for name, want := range map[string]int{
		"SKi body": 127, "SKr body": 127, "Ni wire": 36, "Nr wire": 36, "IDi wire": 100, "IDr wire": 100,
	} {
		if n := 4 + len(e.get(name)); n != want {
			t.Errorf("the payload of %s has %d bytes, want %d", name, n, want)
		}
	}
	key, err := sm2.GenerateKey(counter(7))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		body, err := SealEnvelope(counter(i), &key.PublicKey, e.get("Ski"), policy.SKDER)
		if err != nil || len(body) > 124 {
			t.Fatalf("an envelope of %d bytes, at most 124: %v", len(body), err)
		}
	}
}
