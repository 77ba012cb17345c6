package wire

import (
	"encoding/hex"
	"fmt"
)

// String is the cookie in 16 hexadecimal digits.
func (c Cookie) String() string { return hex.EncodeToString(c[:]) }

// String names the payload as the standard's message lists do.
func (t PayloadType) String() string {
	switch t {
	case None:
		return "none"
	case TypeSA:
		return "SA"
	case typeProposal:
		return "PROPOSAL"
	case typeTransform:
		return "TRANSFORM"
	case TypeKE:
		return "KE"
	case TypeID:
		return "ID"
	case TypeCert:
		return "CERT"
	case TypeCertReq:
		return "CERT-REQ"
	case TypeHash:
		return "HASH"
	case TypeSig:
		return "SIG"
	case TypeNonce:
		return "NONCE"
	case TypeNotify:
		return "NOTIFY"
	case TypeDelete:
		return "DELETE"
	case TypeVendorID:
		return "VID"
	case TypeNATD:
		return "NAT-D"
	case TypeNATOA:
		return "NAT-OA"
	case TypeSK:
		return "SK"
	case TypeNATD130:
		return "NAT-D (draft)"
	case TypeNATOA131:
		return "NAT-OA (draft)"
	}
	return fmt.Sprintf("payload type %d", uint8(t))
}

// String names the exchange.
func (e ExchangeType) String() string {
	switch e {
	case MainMode:
		return "main mode"
	case 4:
		return "aggressive mode"
	case Informational:
		return "informational"
	case QuickMode:
		return "quick mode"
	}
	return fmt.Sprintf("exchange type %d", uint8(e))
}

// String is a letter for each flag that is set, a hyphen for none.
func (f Flags) String() string {
	s := ""
	for i, name := range []string{"E", "C", "A"} {
		if f&(1<<i) != 0 {
			s += name
		}
	}
	if rest := f &^ 7; rest != 0 {
		s += fmt.Sprintf("+%#02x", uint8(rest))
	}
	if s == "" {
		return "-"
	}
	return s
}

// String names the protocol.
func (p Protocol) String() string {
	switch p {
	case ProtoISAKMP:
		return "ISAKMP"
	case ProtoAH:
		return "AH"
	case ProtoESP:
		return "ESP"
	case 4:
		return "IPCOMP"
	}
	return fmt.Sprintf("protocol %d", uint8(p))
}

// String names the ID type as RFC 2407 4.6.2.1 does, without its prefix.
func (t IDType) String() string {
	switch t {
	case IDIPv4:
		return "IPV4_ADDR"
	case IDFQDN:
		return "FQDN"
	case IDUserFQDN:
		return "USER_FQDN"
	case IDIPv4Subnet:
		return "IPV4_ADDR_SUBNET"
	case IDIPv6:
		return "IPV6_ADDR"
	case IDIPv6Subnet:
		return "IPV6_ADDR_SUBNET"
	case IDIPv4Range:
		return "IPV4_ADDR_RANGE"
	case IDIPv6Range:
		return "IPV6_ADDR_RANGE"
	case IDDN:
		return "DER_ASN1_DN"
	case IDGN:
		return "DER_ASN1_GN"
	case IDKeyID:
		return "KEY_ID"
	}
	return fmt.Sprintf("ID type %d", uint8(t))
}

// String names the certificate encoding.
func (e CertEncoding) String() string {
	switch e {
	case 1:
		return "PKCS #7"
	case CertSign:
		return "X.509 signature"
	case CertEnc:
		return "X.509 key exchange"
	case 7:
		return "CRL"
	}
	return fmt.Sprintf("certificate encoding %d", uint8(e))
}

// String names the notification as RFC 2408 3.14.1, RFC 2407 4.6.3 and RFC 3706
// do.
func (t NotifyType) String() string {
	switch t {
	case Connected:
		return "CONNECTED"
	case ResponderLifetime:
		return "RESPONDER-LIFETIME"
	case ReplayStatus:
		return "REPLAY-STATUS"
	case InitialContact:
		return "INITIAL-CONTACT"
	case RUThere:
		return "R-U-THERE"
	case RUThereAck:
		return "R-U-THERE-ACK"
	}
	if names := errorNames(); t >= 1 && int(t) <= len(names) {
		return names[t-1]
	}
	return fmt.Sprintf("notification %d", uint16(t))
}

// errorNames are the notifications 1 to 30, in order.
func errorNames() [30]string {
	return [30]string{
		"INVALID-PAYLOAD-TYPE", "DOI-NOT-SUPPORTED", "SITUATION-NOT-SUPPORTED", "INVALID-COOKIE",
		"INVALID-MAJOR-VERSION", "INVALID-MINOR-VERSION", "INVALID-EXCHANGE-TYPE", "INVALID-FLAGS",
		"INVALID-MESSAGE-ID", "INVALID-PROTOCOL-ID", "INVALID-SPI", "INVALID-TRANSFORM-ID",
		"ATTRIBUTES-NOT-SUPPORTED", "NO-PROPOSAL-CHOSEN", "BAD-PROPOSAL-SYNTAX", "PAYLOAD-MALFORMED",
		"INVALID-KEY-INFORMATION", "INVALID-ID-INFORMATION", "INVALID-CERT-ENCODING", "INVALID-CERTIFICATE",
		"CERT-TYPE-UNSUPPORTED", "INVALID-CERT-AUTHORITY", "INVALID-HASH-INFORMATION", "AUTHENTICATION-FAILED",
		"INVALID-SIGNATURE", "ADDRESS-NOTIFICATION", "NOTIFY-SA-LIFETIME", "CERTIFICATE-UNAVAILABLE",
		"UNSUPPORTED-EXCHANGE-TYPE", "UNEQUAL-PAYLOAD-LENGTHS",
	}
}
