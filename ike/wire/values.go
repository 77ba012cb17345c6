package wire

import "fmt"

// attributeName names an attribute class. The two phases number them
// differently (RFC 2409 appendix A; RFC 2407 4.5). Class 20 is the standard's
// own.
func attributeName(phase1 bool, typ uint16) string {
	name := ""
	if phase1 {
		switch typ {
		case 1:
			name = "encryption algorithm"
		case 2:
			name = "hash algorithm"
		case 3:
			name = "authentication method"
		case 4:
			name = "group description"
		case 11:
			name = "life type"
		case 12:
			name = "life duration"
		case 14:
			name = "key length"
		case 20:
			name = "asymmetric algorithm"
		}
	} else {
		switch typ {
		case 1:
			name = "life type"
		case 2:
			name = "life duration"
		case 3:
			name = "group description"
		case 4:
			name = "encapsulation mode"
		case 5:
			name = "authentication algorithm"
		case 6:
			name = "key length"
		case 11:
			name = "extended sequence number"
		}
	}
	if name == "" {
		return fmt.Sprintf("attribute %d", typ)
	}
	return name
}

// valueName names a value of an attribute class; empty when it has no name.
func valueName(phase1 bool, typ uint16, v uint64) string {
	if phase1 {
		switch typ {
		case 1:
			return cipherName(v)
		case 2:
			return map[uint64]string{1: "MD5", 2: "SHA-1", 4: "SHA2-256", 20: "SM3"}[v]
		case 3:
			return methodName(v)
		case 4:
			return map[uint64]string{14: "MODP-2048"}[v]
		case 11:
			return lifeUnit(v)
		case 20:
			return map[uint64]string{1: "RSA", 2: "SM2"}[v]
		}
		return ""
	}
	switch typ {
	case 1:
		return lifeUnit(v)
	case 4:
		return map[uint64]string{1: "tunnel", 2: "transport", 3: "UDP tunnel", 4: "UDP transport"}[v]
	case 5:
		return map[uint64]string{1: "HMAC-MD5", 2: "HMAC-SHA-1", 5: "HMAC-SHA2-256", 20: "HMAC-SM3"}[v]
	case 11:
		return map[uint64]string{1: "64-bit"}[v]
	}
	return ""
}

func cipherName(v uint64) string {
	return map[uint64]string{
		1: "DES-CBC", 5: "3DES-CBC", 7: "AES-CBC",
		127: "SM4-CBC (draft number)", 128: "SM1-CBC", 129: "SM4-CBC",
	}[v]
}

func methodName(v uint64) string {
	return map[uint64]string{
		1: "pre-shared key", 2: "DSS signatures", 3: "RSA signatures",
		4: "encryption with RSA", 5: "revised encryption with RSA",
		10: "public key digital envelope",
	}[v]
}

func lifeUnit(v uint64) string {
	return map[uint64]string{1: "seconds", 2: "kilobytes"}[v]
}

// transformName names a transform ID of a protocol; empty when it has no name.
func transformName(p Protocol, id uint8) string {
	switch p {
	case ProtoISAKMP:
		return map[uint8]string{1: "KEY_IKE"}[id]
	case ProtoAH:
		return map[uint8]string{2: "HMAC-MD5", 3: "HMAC-SHA-1", 20: "HMAC-SM3"}[id]
	case ProtoESP:
		return map[uint8]string{
			2: "DES-CBC", 3: "3DES-CBC", 11: "NULL", 12: "AES-CBC",
			127: "SM4-CBC", 128: "SM1-CBC", 129: "SM4-CBC", 130: "SM4-GCM-128",
		}[id]
	}
	return ""
}

// vendorName names the Vendor IDs that gateways of this protocol send.
func vendorName(body string) string {
	return map[string]string{
		VendorNATT: "NAT traversal, RFC 3947",
		VendorDPD:  "dead peer detection, RFC 3706",
		"\xcd\x60\x46\x43\x35\xdf\x21\xf8\x7c\xfd\xb2\xfc\x68\xb6\xa4\x48": "NAT traversal, draft 02",
		"\x90\xcb\x80\x91\x3e\xbb\x69\x6e\x08\x63\x81\xb5\xec\x42\x7b\x1f": "NAT traversal, draft 02 with a newline",
		"\x7d\x94\x19\xa6\x53\x10\xca\x6f\x2c\x17\x9d\x92\x15\x52\x9d\x56": "NAT traversal, draft 03",
	}[body]
}
