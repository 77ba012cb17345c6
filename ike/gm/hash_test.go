package gm

import (
	"bytes"
	"crypto/md5"
	"crypto/sha1"
	"net/netip"
	"testing"

	"yumen/policy"
)

func TestHashesOfBothEndsDiffer(t *testing.T) {
	e := readExample(t)
	k := e.keys()
	cki, ckr := e.cookies()
	sa, id := e.get("SAi_b"), e.id("IDi")
	i, r := HashI(k, cki, ckr, sa, id), HashR(k, cki, ckr, sa, id)
	if i == r {
		t.Error("a reflected hash is accepted")
	}
	if r != HashI(k, ckr, cki, sa, id) {
		t.Error("HASHr does not turn the cookies round")
	}
	want := PRF(k.SKEYID.Bytes(), cki[:], ckr[:], sa, id)
	checkBytes(t, "HASHi", i[:], want[:])
	if HashI(k, cki, ckr, sa[:len(sa)-1], id) == i || HashI(k, cki, ckr, sa, id[:len(id)-1]) == i {
		t.Error("SA or ID does not enter the hash")
	}
}

func TestProtectedMessagesAreHashedWithTheirMessageID(t *testing.T) {
	k := readExample(t).keys()
	rest := []byte{0, 0, 0, 8, 1, 2, 3, 4}
	want := PRF(k.A.Bytes(), []byte{0xcc, 0x2d, 0x22, 0x21}, rest)
	if got := Protected(k, 0xcc2d2221, rest); got != want {
		t.Errorf("%x, want %x", got, want)
	}
	if Protected(k, 0xcc2d2220, rest) == want {
		t.Error("the message ID does not enter the hash")
	}
}

// quick is a quick mode message of SA, nonce and, unless none, IDs.
func quick(extra ...byte) QuickHash {
	q := QuickHash{
		MsgID: 0x01020304, Ni: []byte("initiator's"), Nr: []byte("responder's"),
		SA: []byte("the offer"), IDci: []byte("my net"), IDcr: []byte("your net"),
	}
	add := func(next byte, body []byte) {
		q.Rest = append(q.Rest, next, 0, 0, byte(4+len(body)))
		q.Rest = append(q.Rest, body...)
	}
	last := byte(0)
	if len(extra) > 0 {
		last = extra[0]
	}
	add(10, q.SA)
	add(5, q.Nr)
	add(5, q.IDci)
	add(last, q.IDcr)
	if len(extra) > 0 {
		add(0, extra)
	}
	return q
}

func TestLooserFormsOfTheQuickModeHashes(t *testing.T) {
	k := readExample(t).keys()
	id := []byte{1, 2, 3, 4}
	prf := func(parts ...[]byte) [32]byte { return PRF(k.A.Bytes(), parts...) }
	head := func(next byte, body []byte) []byte {
		return append([]byte{next, 0, 0, byte(4 + len(body))}, body...)
	}
	q := quick()
	if got := Hash1(k, policy.HashStdFull, q); got != prf(id, q.Ni, head(10, q.SA), head(5, q.IDci), head(0, q.IDcr)) {
		t.Error("HASH_1 std-full")
	}
	if got := Hash1(k, policy.HashStdBody, q); got != prf(id, q.Ni, q.SA, q.IDci, q.IDcr) {
		t.Error("HASH_1 std-body")
	}
	if got := Hash2(k, policy.HashStdFull, q); got != prf(id, q.Ni, head(10, q.SA), q.Nr, head(5, q.IDci), head(0, q.IDcr)) {
		t.Error("HASH_2 std-full")
	}
	if got := Hash2(k, policy.HashStdBody, q); got != prf(id, q.Ni, q.SA, q.Nr, q.IDci, q.IDcr) {
		t.Error("HASH_2 std-body")
	}
	if got := Hash1(k, policy.HashRFC2409, q); got != prf(id, q.Rest) {
		t.Error("HASH_1 rfc2409")
	}
	if got := Hash2(k, policy.HashRFC2409, q); got != prf(id, q.Ni, q.Rest) {
		t.Error("HASH_2 rfc2409")
	}
	if got := Hash3(k, q); got != prf([]byte{0}, id, q.Ni, q.Nr) {
		t.Error("HASH_3")
	}
}

func TestNextPayloadInALooserHashIsThatOnTheWire(t *testing.T) {
	k := readExample(t).keys()
	q := quick(21, 0xaa) // NAT-OA behind the IDs
	want := PRF(k.A.Bytes(), []byte{1, 2, 3, 4}, q.Ni,
		[]byte{10, 0, 0, 13}, q.SA, []byte{5, 0, 0, 10}, q.IDci, []byte{21, 0, 0, 12}, q.IDcr)
	if got := Hash1(k, policy.HashStdFull, q); got != want {
		t.Error("the header of the last ID is not the one on the wire")
	}
	// Without the bytes on the wire, or with bytes that make no chain, the usual
	// chain is assumed.
	usual := Hash1(k, policy.HashStdFull, quick())
	for name, rest := range map[string][]byte{
		"none": nil, "cut": {10, 0, 0, 200}, "short": {10, 0, 0}, "length of 0": {10, 0, 0, 0, 0},
	} {
		q.Rest = rest
		if Hash1(k, policy.HashStdFull, q) != usual {
			t.Errorf("%s: another chain", name)
		}
	}
}

func TestIdentitiesMayBeAbsentInQuickMode(t *testing.T) {
	k := readExample(t).keys()
	q := quick()
	q.IDci, q.IDcr, q.Rest = nil, nil, q.Rest[:28]
	if got := Hash1(k, policy.HashStdBody, q); got != PRF(k.A.Bytes(), []byte{1, 2, 3, 4}, q.Ni, q.SA) {
		t.Error("HASH_1 std-body without IDs")
	}
	if got := Hash2(k, policy.HashStdFull, q); got != PRF(k.A.Bytes(), []byte{1, 2, 3, 4}, q.Ni, []byte{10, 0, 0, 13}, q.SA, q.Nr) {
		t.Error("HASH_2 std-full without IDs")
	}
}

func TestNonceOfTheMessageMayStandForEither(t *testing.T) {
	k := readExample(t).keys()
	for _, form := range []policy.HashForm{policy.HashRFC2409, policy.HashStdFull, policy.HashStdBody} {
		q := quick()
		want1, want2 := Hash1(k, form, q), Hash2(k, form, q)
		own := q
		own.Ni, own.NonceOwn = nil, q.Ni
		if Hash1(k, form, own) != want1 {
			t.Errorf("form %d: HASH_1 with the message's own nonce differs", form)
		}
		own = q
		own.Nr, own.NonceOwn = nil, q.Nr
		if Hash2(k, form, own) != want2 {
			t.Errorf("form %d: HASH_2 with the message's own nonce differs", form)
		}
	}
}

func TestSignedMessageIsTheFourParts(t *testing.T) {
	sk, nonce, id, cert := []byte("sk"), []byte("nonce"), []byte("id"), []byte("\x05cert")
	if got := SignedMessage(sk, nonce, id, cert, false); string(got) != "sknonceid\x05cert" {
		t.Errorf("%q", got)
	}
	if got := SignedMessage(sk, nonce, id, cert, true); string(got) != "sknonceidcert" {
		t.Errorf("%q without the byte", got)
	}
	if got := SignedMessage(sk, nonce, id, nil, true); string(got) != "sknonceid" {
		t.Errorf("%q without a certificate", got)
	}
	if string(cert) != "\x05cert" {
		t.Error("the certificate was changed")
	}
}

func TestNATDetectionMatchesByLengthOfTheHash(t *testing.T) {
	e := readExample(t)
	cki, ckr := e.cookies()
	for _, text := range []string{"192.0.2.1:500", "[2001:db8::1]:4500"} {
		addr := netip.MustParseAddrPort(text)
		in := bytes.Join([][]byte{cki[:], ckr[:], addr.Addr().AsSlice(), {byte(addr.Port() >> 8), byte(addr.Port())}}, nil)
		m, s, g := md5.Sum(in), sha1.Sum(in), SM3(in)
		for with, want := range map[policy.NATDHash][]byte{policy.NATDMD5: m[:], policy.NATDSHA1: s[:], policy.NATDSM3: g[:]} {
			got := NATD(cki, ckr, addr, with)
			if !bytes.Equal(got, want) || NATDHashOf(got) != with {
				t.Errorf("%s: NAT-D by %v is %x, want %x", text, with, got, want)
			}
		}
		for name, body := range map[string][]byte{"MD5": m[:], "SHA-1": s[:], "SM3": g[:]} {
			if !MatchNATD(body, cki, ckr, addr) {
				t.Errorf("%s: %s does not match", text, name)
			}
			if MatchNATD(body, ckr, cki, addr) {
				t.Errorf("%s: %s matches with the cookies turned round", text, name)
			}
			if MatchNATD(body, cki, ckr, netip.AddrPortFrom(addr.Addr(), addr.Port()+1)) {
				t.Errorf("%s: %s matches another port", text, name)
			}
			if MatchNATD(body, cki, ckr, netip.AddrPortFrom(addr.Addr().Next(), addr.Port())) {
				t.Errorf("%s: %s matches another address", text, name)
			}
			if MatchNATD(body[:len(body)-1], cki, ckr, addr) || MatchNATD(append(bytes.Clone(body), 0), cki, ckr, addr) {
				t.Errorf("%s: %s of another length matches", text, name)
			}
		}
		if MatchNATD(nil, cki, ckr, addr) || MatchNATD(make([]byte, 32), cki, ckr, addr) {
			t.Errorf("%s: nothing matches", text)
		}
	}
}
