package esp

import "yumen/policy"

// HMAC-SM3 has one number in the negotiation and three lengths in use, of which
// none is agreed. Where the peer's is not known its first packet tells it: the length
// under which that authenticates is the length of the pair, for good.

// icvLengths are the lengths of HMAC-SM3 in ESP in bytes. The first is what is sent
// as long as the peer was not heard.
var icvLengths = [...]int{12, 16, 32}

// learns reports whether c has to find its length out.
func learns(c Child) bool {
	return c.Suite == policy.SM4CBCHMACSM3 && c.ICVBits == policy.ICVAuto
}

// learn opens a packet of an SA that does not know its length yet. It tries those
// under which the packet is whole blocks: 96 bits alone or the two others, so that a
// forged packet costs two MACs at most, and changes nothing. One packet cannot pass
// under two lengths: each MAC covers other bytes.
func (in *Inbound) learn(dst, packet []byte, seq uint64) ([]byte, error) {
	k := in.keys
	before := k.icv
	for _, icv := range icvLengths {
		k.icv = icv
		body, end := k.parts(packet)
		if end-body < k.align || (end-body)%k.align != 0 {
			continue
		}
		plain := packet[body:end]
		if dst != nil {
			plain = room(dst, end-body)
		}
		if k.open(plain, packet, seq, nil) == nil {
			in.learning = false
			in.found.Store(int32(icv * 8))
			return plain, nil
		}
	}
	k.icv = before
	return nil, ErrAuth
}

// FoundICV returns the length in bits that the first authentic packet told; 0: none
// did yet, or the child knew it from the start. It is set once TookFirst is true.
func (in *Inbound) FoundICV() int { return int(in.found.Load()) }

// FollowICV has o send ICVs of so many bits from its next packet on, if its child did
// not know the length; else, and for a length that HMAC-SM3 has not, it does nothing.
// It may run beside Seal: each packet has one length or the other.
func (o *Outbound) FollowICV(bits int) {
	for _, icv := range icvLengths {
		if learns(o.child) && bits == icv*8 {
			o.follow.Store(int32(icv))
		}
	}
}
