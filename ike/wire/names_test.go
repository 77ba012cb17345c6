package wire

import (
	"fmt"
	"testing"
)

func TestNamesAreTheStandards(t *testing.T) {
	for v, want := range map[fmt.Stringer]string{
		None: "none", TypeSA: "SA", PayloadType(2): "PROPOSAL", PayloadType(3): "TRANSFORM", TypeKE: "KE",
		TypeID: "ID", TypeCert: "CERT", TypeCertReq: "CERT-REQ", TypeHash: "HASH", TypeSig: "SIG",
		TypeNonce: "NONCE", TypeNotify: "NOTIFY", TypeDelete: "DELETE", TypeVendorID: "VID",
		TypeNATD: "NAT-D", TypeNATOA: "NAT-OA", TypeSK: "SK", TypeNATD130: "NAT-D (draft)",
		TypeNATOA131: "NAT-OA (draft)", PayloadType(14): "payload type 14", PayloadType(255): "payload type 255",

		MainMode: "main mode", ExchangeType(4): "aggressive mode", Informational: "informational",
		QuickMode: "quick mode", ExchangeType(0): "exchange type 0", ExchangeType(34): "exchange type 34",

		ProtoISAKMP: "ISAKMP", ProtoAH: "AH", ProtoESP: "ESP", Protocol(4): "IPCOMP", Protocol(0): "protocol 0",

		IDIPv4: "IPV4_ADDR", IDFQDN: "FQDN", IDUserFQDN: "USER_FQDN", IDIPv4Subnet: "IPV4_ADDR_SUBNET",
		IDIPv6: "IPV6_ADDR", IDIPv6Subnet: "IPV6_ADDR_SUBNET", IDIPv4Range: "IPV4_ADDR_RANGE",
		IDIPv6Range: "IPV6_ADDR_RANGE", IDDN: "DER_ASN1_DN", IDGN: "DER_ASN1_GN", IDKeyID: "KEY_ID",
		IDType(12): "ID type 12",

		CertEncoding(1): "PKCS #7", CertSign: "X.509 signature", CertEnc: "X.509 key exchange",
		CertEncoding(7): "CRL", CertEncoding(0): "certificate encoding 0",

		Flags(0): "-", FlagEncrypted: "E", FlagCommit: "C", FlagAuthOnly: "A",
		FlagEncrypted | FlagCommit: "EC", Flags(7): "ECA", Flags(0x81): "E+0x80", Flags(0xf8): "+0xf8",

		Cookie{}: "0000000000000000", Cookie{0xa8, 0x9a, 0x46, 0x62, 0xa4, 0xd1, 0xca, 0xd0}: "a89a4662a4d1cad0",
	} {
		if got := v.String(); got != want {
			t.Errorf("%T %#v is named %q, want %q", v, v, got, want)
		}
	}
}

func TestNotificationsHaveTheNamesOfTheRFCs(t *testing.T) {
	for v, want := range map[NotifyType]string{
		0: "notification 0", InvalidPayloadType: "INVALID-PAYLOAD-TYPE", 2: "DOI-NOT-SUPPORTED",
		3: "SITUATION-NOT-SUPPORTED", 4: "INVALID-COOKIE", InvalidMajorVersion: "INVALID-MAJOR-VERSION",
		InvalidMinorVersion: "INVALID-MINOR-VERSION", InvalidExchangeType: "INVALID-EXCHANGE-TYPE",
		8: "INVALID-FLAGS", 9: "INVALID-MESSAGE-ID", 10: "INVALID-PROTOCOL-ID", 11: "INVALID-SPI",
		12: "INVALID-TRANSFORM-ID", 13: "ATTRIBUTES-NOT-SUPPORTED", NoProposalChosen: "NO-PROPOSAL-CHOSEN",
		15: "BAD-PROPOSAL-SYNTAX", PayloadMalformed: "PAYLOAD-MALFORMED", 17: "INVALID-KEY-INFORMATION",
		InvalidIDInformation: "INVALID-ID-INFORMATION", 19: "INVALID-CERT-ENCODING", 20: "INVALID-CERTIFICATE",
		21: "CERT-TYPE-UNSUPPORTED", 22: "INVALID-CERT-AUTHORITY", InvalidHashInformation: "INVALID-HASH-INFORMATION",
		AuthenticationFailed: "AUTHENTICATION-FAILED", 25: "INVALID-SIGNATURE", 26: "ADDRESS-NOTIFICATION",
		27: "NOTIFY-SA-LIFETIME", 28: "CERTIFICATE-UNAVAILABLE", UnsupportedExchangeType: "UNSUPPORTED-EXCHANGE-TYPE",
		30: "UNEQUAL-PAYLOAD-LENGTHS", 31: "notification 31", Connected: "CONNECTED",
		ResponderLifetime: "RESPONDER-LIFETIME", ReplayStatus: "REPLAY-STATUS", InitialContact: "INITIAL-CONTACT",
		RUThere: "R-U-THERE", RUThereAck: "R-U-THERE-ACK", 65535: "notification 65535",
	} {
		if got := v.String(); got != want {
			t.Errorf("%d is named %q, want %q", uint16(v), got, want)
		}
	}
}

func TestAttributesHaveTheNamesOfTheirPhase(t *testing.T) {
	for _, c := range []struct {
		phase1 bool
		typ    uint16
		value  uint64
		name   string
		says   string
	}{
		{true, 1, 129, "encryption algorithm", "SM4-CBC"},
		{true, 1, 127, "encryption algorithm", "SM4-CBC (draft number)"},
		{true, 1, 128, "encryption algorithm", "SM1-CBC"},
		{true, 1, 7, "encryption algorithm", "AES-CBC"},
		{true, 1, 99, "encryption algorithm", ""},
		{true, 2, 20, "hash algorithm", "SM3"},
		{true, 2, 2, "hash algorithm", "SHA-1"},
		{true, 3, 10, "authentication method", "public key digital envelope"},
		{true, 3, 1, "authentication method", "pre-shared key"},
		{true, 4, 2, "group description", ""},
		{true, 5, 1, "attribute 5", ""},
		{true, 11, 1, "life type", "seconds"},
		{true, 11, 2, "life type", "kilobytes"},
		{true, 12, 86400, "life duration", ""},
		{true, 14, 128, "key length", ""},
		{true, 20, 2, "asymmetric algorithm", "SM2"},
		{true, 20, 1, "asymmetric algorithm", "RSA"},
		{false, 1, 1, "life type", "seconds"},
		{false, 1, 3, "life type", ""},
		{false, 2, 3600, "life duration", ""},
		{false, 3, 1, "group description", ""},
		{false, 4, 1, "encapsulation mode", "tunnel"},
		{false, 4, 2, "encapsulation mode", "transport"},
		{false, 4, 3, "encapsulation mode", "UDP tunnel"},
		{false, 4, 4, "encapsulation mode", "UDP transport"},
		{false, 5, 20, "authentication algorithm", "HMAC-SM3"},
		{false, 5, 2, "authentication algorithm", "HMAC-SHA-1"},
		{false, 6, 128, "key length", ""},
		{false, 11, 1, "extended sequence number", "64-bit"},
		{false, 20, 2, "attribute 20", ""},
	} {
		if got := attributeName(c.phase1, c.typ); got != c.name {
			t.Errorf("phase 1 %v, class %d is named %q, want %q", c.phase1, c.typ, got, c.name)
		}
		if got := valueName(c.phase1, c.typ, c.value); got != c.says {
			t.Errorf("phase 1 %v, class %d, value %d is named %q, want %q", c.phase1, c.typ, c.value, got, c.says)
		}
	}
}

func TestTransformsHaveTheNamesOfTheirProtocol(t *testing.T) {
	for _, c := range []struct {
		p    Protocol
		id   uint8
		want string
	}{
		{ProtoISAKMP, 1, "KEY_IKE"}, {ProtoISAKMP, 127, ""},
		{ProtoESP, 127, "SM4-CBC"}, {ProtoESP, 128, "SM1-CBC"},
		{ProtoESP, 129, "SM4-CBC"}, {ProtoESP, 130, "SM4-GCM-128"}, {ProtoESP, 1, ""},
		{ProtoAH, 20, "HMAC-SM3"}, {ProtoAH, 3, "HMAC-SHA-1"}, {ProtoAH, 129, ""}, {Protocol(9), 1, ""},
	} {
		if got := transformName(c.p, c.id); got != c.want {
			t.Errorf("%v %d is named %q, want %q", c.p, c.id, got, c.want)
		}
	}
}
