package policy

import "slices"

// ProfileRFC2409 is the word of the profile that is no GB/T 36968: plain IKE with
// a pre-shared key (RFC 2409 5.4), header 1.0. It exists so that everything but
// phase 1 can be judged by peers of other makers.
const ProfileRFC2409 = "rfc2409-psk"

// PreShared is what a peer of ProfileRFC2409 has instead of certificates. The
// zero value belongs to peers of the standard.
type PreShared struct {
	Used     bool     // the peer has this profile
	File     string   // path of the key, relative to the policy file
	LocalID  string   // address or name that we call ourselves; empty: our outer address
	RemoteID string   // what the peer must call itself; empty: Remote, and anything where that is any
	Suite    IKESuite // of phase 1
}

// IKESuite is a cipher, hash and group of phase 1 of ProfileRFC2409. Group 14
// (RFC 3526 3) goes with both.
type IKESuite uint8

const (
	AESSHA256 IKESuite = iota // AES-128-CBC (7), SHA-256 (4)
	SM4SM3                    // SM4-CBC (129), SM3 (20)
)

func (s IKESuite) String() string {
	return word("ike-suite", uint8(s), "aes128-sha256-modp2048", "sm4-sm3-modp2048")
}

// Describe is the suite as engineers write it.
func (s IKESuite) Describe() string {
	if s == SM4SM3 {
		return "SM4_CBC/SM3/MODP_2048/PSK"
	}
	return "AES_CBC_128/SHA2_256/MODP_2048/PSK"
}

// NonGM is the word of a profile that is not GB/T 36968; empty: the peer keeps to
// the standard. Whatever shows such a peer shows the word.
func (p Peer) NonGM() string {
	if p.PreShared.Used {
		return ProfileRFC2409
	}
	return ""
}

// NeedsCertificates reports whether this gateway has to prove itself by certificates
// to some peer. Nobody wants them where every peer has profile rfc2409-psk.
func (p *Policy) NeedsCertificates() bool {
	return len(p.Peers) == 0 || slices.ContainsFunc(p.Peers, func(q Peer) bool { return !q.PreShared.Used })
}

// preShared reads the keys of ProfileRFC2409 and reports whether the peer has it.
// Without allow_non_gm it is refused: nobody shall leave the standard by one word.
func (o *object) preShared(dst *PreShared) bool {
	allow := o.get("allow_non_gm")
	allowed := false
	allow.bool(&allowed)
	profile := o.get("profile")
	if !profile.given() || profile.node.text != ProfileRFC2409 {
		if allow.here {
			allow.fault("means something with profile: %s only; remove it", ProfileRFC2409)
		}
		return false
	}
	if !allowed {
		profile.fault("%s is not GB/T 36968 and protects nothing by its rules; add allow_non_gm: true to use it all the same", ProfileRFC2409)
	}
	o.need("psk_file", "name the file of the pre-shared key").text(&dst.File)
	o.get("local_id").text(&dst.LocalID)
	o.get("remote_id").text(&dst.RemoteID)
	choose(o.get("ike_suite"), &dst.Suite, AESSHA256, SM4SM3)
	for _, key := range []string{"ca", "crl", "subject", "sign_subject", "enc_subject", "sign_fingerprint", "enc_fingerprint", "dialect", "peer_certs", "send_chain"} {
		if f := o.get(key); f.here {
			f.fault("has no meaning with profile: %s; remove it", ProfileRFC2409)
		}
	}
	dst.Used = true
	return true
}

// oneAnywhere reports a second peer of ProfileRFC2409 with remote: any. In main
// mode the key is chosen by the peer's address, before it says who it is.
func (o *object) oneAnywhere(p Peer, before []Peer) {
	for _, b := range before {
		if p.NonGM() != "" && b.NonGM() != "" && p.Remote.Any && b.Remote.Any {
			o.get("remote").fault("any is that of peer %q already, and main mode cannot tell two keys apart; give an address", b.Name)
		}
	}
}

// suitesOf are the suites that tunnels to a peer may have, the default first.
func suitesOf(p Peer) []Suite {
	switch {
	case p.NonGM() == "":
		return []Suite{SM4CBCHMACSM3, SM4GCM128}
	case p.PreShared.Suite == SM4SM3:
		return []Suite{SM4CBCHMACSM3, AESCBCHMACSHA256}
	}
	return []Suite{AESCBCHMACSHA256, SM4CBCHMACSM3}
}
