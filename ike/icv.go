package ike

import "yumen/policy"

// The length of the ICV of HMAC-SM3 is not negotiated. With icv_bits: auto the data
// plane finds it out with the first packet of a child, and the children after it have
// it from the start, for as long as the tunnel has one. It is not kept longer: a peer
// that is set to another length would never be understood again.

// icvBits is what the next child of t is made with.
func (t *tunnel) icvBits() int {
	if t.icv != 0 {
		return t.icv
	}
	return t.entry.ICVBits
}

// forgetICV lets go of what was found once no child is left that showed it.
func (t *tunnel) forgetICV() {
	if len(t.children) == 0 {
		t.icv = 0
	}
}

// foundICV takes what the first packet of c told. Only a length that nobody set is
// found out.
func (c *child) foundICV(bits int) {
	if c.Suite != policy.SM4CBCHMACSM3 || c.ICVBits != policy.ICVAuto || bits != 96 && bits != 128 && bits != 256 {
		return
	}
	c.ICVBits, c.t.icv = bits, bits
	v := c.event(ICVFound, "", c.t.explicit())
	v.ICVBits = bits
	c.e.tell(v)
}

// explicit is the line of the tunnel's entry that says what was found out.
func (t *tunnel) explicit() string {
	if t.icv == 0 {
		return ""
	}
	return "icv_bits: " + policy.ICVWord(t.icv)
}

// foundICV is bits, or where they are not said what a tunnel of the peer found out or
// says itself.
func (s *session) foundICV(bits int) int {
	if bits != policy.ICVAuto {
		return bits
	}
	for _, t := range s.e.tunnels {
		if t.peer != s.peer {
			continue
		}
		if t.icv != 0 {
			return t.icv
		}
		if bits == policy.ICVAuto {
			bits = t.entry.ICVBits
		}
	}
	return bits
}
