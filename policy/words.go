package policy

import "fmt"

// The words of this file are those of the YAML, of status and of events. Each
// String is the only table of its words: the reader parses by searching it.

// ProtocolName is the word of an IP protocol number: any, tcp, udp, icmp, icmpv6
// or the number.
func ProtocolName(p uint8) string {
	switch p {
	case 0:
		return "any"
	case protocolTCP:
		return "tcp"
	case protocolUDP:
		return "udp"
	case protocolICMP:
		return "icmp"
	case protocolICMPv6:
		return "icmpv6"
	}
	return fmt.Sprint(p)
}

// word names value v by its place in list.
func word(kind string, v uint8, list ...string) string {
	if int(v) < len(list) {
		return list[v]
	}
	return fmt.Sprintf("%s(%d)", kind, v)
}

func (s Suite) String() string {
	return word("suite", uint8(s), "none", "sm4cbc-hmacsm3", "sm4gcm128", "aes128cbc-hmacsha256")
}

// Describe is the suite as engineers write it, with the ICV length of HMAC-SM3 in
// bits: ESP:SM4_CBC/HMAC_SM3_96, ESP:SM4_GCM_128.
func (s Suite) Describe(icvBits int) string {
	switch s {
	case SM4CBCHMACSM3:
		return fmt.Sprintf("ESP:SM4_CBC/HMAC_SM3_%s", ICVWord(icvBits))
	case SM4GCM128:
		return "ESP:SM4_GCM_128"
	case AESCBCHMACSHA256:
		return "ESP:AES_CBC_128/HMAC_SHA2_256_128"
	}
	return "ESP:none"
}

func (m StartMode) String() string { return word("start", uint8(m), "start", "trap", "respond") }
func (a Action) String() string    { return word("action", uint8(a), "drop", "bypass", "protect") }
func (e Encap) String() string     { return word("encap", uint8(e), "auto", "force", "off") }
func (p PathProbe) String() string { return word("path_probe", uint8(p), "off", "auto", "on") }
func (d DF) String() string        { return word("df", uint8(d), "copy", "set", "clear") }

func (f Fragment) String() string { return word("fragment", uint8(f), "before", "after") }

// String writes auto, off or the bytes.
func (m MSSClamp) String() string {
	switch m {
	case MSSAuto:
		return "auto"
	case MSSOff:
		return "off"
	}
	return fmt.Sprint(int16(m))
}

// String writes copy, zero or the code point.
func (d DSCP) String() string {
	switch d {
	case CopyDSCP:
		return "copy"
	case 0:
		return "zero"
	}
	return fmt.Sprint(int8(d))
}

func (n SM4Number) String() string  { return word("sm4", uint8(n), "129", "127") }
func (n ESPNumbers) String() string { return word("esp-sm4", uint8(n), "both", "129", "127") }
func (h HashForm) String() string {
	return word("qm-hash", uint8(h), "rfc2409", "std-full", "std-body")
}
func (s SASource) String() string { return word("sa", uint8(s), "initiator", "responder") }
func (e SKEncoding) String() string {
	return word("sk-encoding", uint8(e), "der", "c1c3c2", "c1c2c3")
}
func (k KeyLength) String() string {
	return word("key-length", uint8(k), "omit", "send", "refuse")
}
func (t IDType) String() string {
	return word("id-type", uint8(t), "dn", "ip", "fqdn", "user-fqdn", "key-id")
}
func (c SendCerts) String() string { return word("send-certs", uint8(c), "both", "m3", "none") }
func (i Initiate) String() string  { return word("initiate", uint8(i), "either", "us", "them") }

func (h NATDHash) String() string { return word("natd-hash", uint8(h), "sm3", "sha1", "md5") }
func (p FieldPad) String() string { return word("field-pad", uint8(p), "counted", "pkcs7", "zeros") }

// String writes the address, the name, or any.
func (r Remote) String() string {
	switch {
	case r.Addr.IsValid():
		return r.Addr.String()
	case r.FQDN != "":
		return r.FQDN
	}
	return "any"
}

// String writes the address, the interface, or any.
func (l Local) String() string {
	switch {
	case l.Addr.IsValid():
		return l.Addr.String()
	case l.Interface != "":
		return l.Interface
	}
	return "any"
}
