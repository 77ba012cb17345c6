package gm

import (
	"crypto/hmac"
	"crypto/md5"  // only for the NAT-D of a peer that uses it
	"crypto/sha1" // likewise
	"encoding/binary"
	"net/netip"

	"yumen/policy"
)

// SignedMessage is what the signature of M3 (M4) covers: Sk, nonce and ID in
// plaintext, and the body of the payload with the sender's own encryption
// certificate, which begins with the encoding byte. NoByte leaves that byte out,
// as some peers do. The result holds secrets: wipe it.
func SignedMessage(sk, nonce, id, certEncBody []byte, noByte bool) []byte {
	if noByte && len(certEncBody) > 0 {
		certEncBody = certEncBody[1:]
	}
	msg := make([]byte, 0, len(sk)+len(nonce)+len(id)+len(certEncBody))
	for _, part := range [][]byte{sk, nonce, id, certEncBody} {
		msg = append(msg, part...)
	}
	return msg
}

// HashI is the hash of M5: PRF(SKEYID, CKY-I | CKY-R | SAi_b | IDi_b).
func HashI(k Keys, cki, ckr [8]byte, saBody, idBody []byte) [32]byte {
	return PRF(k.SKEYID.Bytes(), cki[:], ckr[:], saBody, idBody)
}

// HashR is the hash of M6: PRF(SKEYID, CKY-R | CKY-I | SA_b | IDr_b). The sources
// disagree whether the SA is the initiator's or the responder's.
func HashR(k Keys, cki, ckr [8]byte, saBody, idBody []byte) [32]byte {
	return PRF(k.SKEYID.Bytes(), ckr[:], cki[:], saBody, idBody)
}

// Protected is HASH(1) of an informational message (RFC 2409 5.7). Rest is what
// follows the HASH payload up to the end of the last payload.
func Protected(k Keys, msgID uint32, rest []byte) [32]byte {
	return PRF(k.A.Bytes(), be32(msgID), rest)
}

// QuickHash is what the hashes of quick mode are made of. All but Rest are
// bodies, without generic headers.
type QuickHash struct {
	MsgID      uint32
	Ni, Nr     []byte // the two nonces, as far as known
	Rest       []byte // payloads after HASH, as on the wire, up to the end of the last payload
	SA         []byte // of this message
	NonceOwn   []byte // of this message; empty means Ni in Hash1 and Nr in Hash2
	IDci, IDcr []byte // of this message; nil when it carries none
}

// Hash1 is HASH_1, in one of three forms, because the text of the standard can
// be read in more than one way:
//
//	rfc2409   PRF(SKEYID_a, MsgID | Rest)
//	std-full  PRF(SKEYID_a, MsgID | Ni_b | SA [| IDci | IDcr])   SA and IDs with headers
//	std-body  the same without headers
func Hash1(k Keys, form policy.HashForm, q QuickHash) [32]byte {
	if form == policy.HashRFC2409 {
		return PRF(k.A.Bytes(), be32(q.MsgID), q.Rest)
	}
	return PRF(k.A.Bytes(), q.std(form, or(q.Ni, q.NonceOwn), nil)...)
}

// Hash2 is HASH_2:
//
//	rfc2409   PRF(SKEYID_a, MsgID | Ni_b | Rest)
//	std-full  PRF(SKEYID_a, MsgID | Ni_b | SA | Nr_b [| IDci | IDcr])   SA and IDs with headers
//	std-body  the same without headers
func Hash2(k Keys, form policy.HashForm, q QuickHash) [32]byte {
	if form == policy.HashRFC2409 {
		return PRF(k.A.Bytes(), be32(q.MsgID), q.Ni, q.Rest)
	}
	return PRF(k.A.Bytes(), q.std(form, q.Ni, or(q.NonceOwn, q.Nr))...)
}

// Hash3 is HASH_3: PRF(SKEYID_a, 0 | MsgID | Ni_b | Nr_b), in every form.
func Hash3(k Keys, q QuickHash) [32]byte {
	return PRF(k.A.Bytes(), []byte{0}, be32(q.MsgID), q.Ni, q.Nr)
}

func or(a, b []byte) []byte {
	if len(a) > 0 {
		return a
	}
	return b
}

// std lists the parts of the looser forms.
func (q QuickHash) std(form policy.HashForm, ni, nr []byte) [][]byte {
	parts := [][]byte{be32(q.MsgID), ni}
	add := func(typ, next byte, n int, body []byte) {
		if form == policy.HashStdFull {
			parts = append(parts, q.header(typ, next, n, body))
		}
		parts = append(parts, body)
	}
	add(typeSA, typeNonce, 1, q.SA)
	parts = append(parts, nr)
	if q.IDci != nil || q.IDcr != nil {
		add(typeID, typeID, 1, q.IDci)
		add(typeID, 0, 2, q.IDcr)
	}
	return parts
}

// The payload types of quick mode that the looser forms name.
const (
	typeSA    = 1
	typeID    = 5
	typeNonce = 10
)

// header is the generic header of the nth payload of a type. Its next payload
// byte is that on the wire, found in Rest, since a payload that no form names,
// as NAT-OA, may follow; next is what it is otherwise.
func (q QuickHash) header(typ, next byte, n int, body []byte) []byte {
	for t, b := byte(typeSA), q.Rest; len(b) >= 4; {
		size := int(binary.BigEndian.Uint16(b[2:]))
		if size < 4 || size > len(b) {
			break
		}
		if t == typ {
			if n--; n == 0 {
				next = b[0]
				break
			}
		}
		t, b = b[0], b[size:]
	}
	return binary.BigEndian.AppendUint16([]byte{next, 0}, uint16(4+len(body)))
}

// NATD is the body of a NAT-D payload (RFC 3947 3.2): HASH(CKY-I | CKY-R | address |
// port), the address in 4 or 16 bytes, with the negotiated SM3 or what a peer wants
// instead.
func NATD(cki, ckr [8]byte, addr netip.AddrPort, with policy.NATDHash) []byte {
	in := natInput(cki, ckr, addr)
	switch with {
	case policy.NATDSHA1:
		sum := sha1.Sum(in)
		return sum[:]
	case policy.NATDMD5:
		sum := md5.Sum(in)
		return sum[:]
	}
	sum := SM3(in)
	return sum[:]
}

// NATDHashOf tells by which hash the body of a NAT-D payload was made: by its length.
func NATDHashOf(body []byte) policy.NATDHash {
	switch len(body) {
	case md5.Size:
		return policy.NATDMD5
	case sha1.Size:
		return policy.NATDSHA1
	}
	return policy.NATDSM3
}

func natInput(cki, ckr [8]byte, addr netip.AddrPort) []byte {
	b := append(append([]byte(nil), cki[:]...), ckr[:]...)
	b = append(b, addr.Addr().Unmap().AsSlice()...)
	return binary.BigEndian.AppendUint16(b, addr.Port())
}

// MatchNATD says whether the body of a NAT-D payload stands for addr. Peers use
// MD5 or SHA-1 here as well; the length of the body tells which.
func MatchNATD(body []byte, cki, ckr [8]byte, addr netip.AddrPort) bool {
	return hmac.Equal(NATD(cki, ckr, addr, NATDHashOf(body)), body)
}
