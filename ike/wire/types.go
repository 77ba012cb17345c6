package wire

// Version11 is the header version of GB/T 36968; Version10 that of RFC 2408.
const (
	Version11 = 0x11
	Version10 = 0x10
)

// HeaderLen is the length of the ISAKMP header in bytes.
const HeaderLen = 28

// Cookie is one half of the name of an ISAKMP SA. The zero Cookie is absent.
type Cookie [8]byte

// ExchangeType is the kind of exchange.
type ExchangeType uint8

const (
	MainMode      ExchangeType = 2
	Informational ExchangeType = 5
	QuickMode     ExchangeType = 32
)

// Flags of the header.
type Flags uint8

const (
	FlagEncrypted Flags = 1
	FlagCommit    Flags = 2
	FlagAuthOnly  Flags = 4
)

// Header is the fixed header (RFC 2408 3.1).
type Header struct {
	Initiator, Responder Cookie
	Next                 PayloadType
	Version              uint8
	Exchange             ExchangeType
	Flags                Flags
	MessageID            uint32
	Length               uint32 // whole message, as read; Append computes it
}

// PayloadType is a payload number (RFC 2408 3.1; 128 is the standard's own).
type PayloadType uint8

const (
	None         PayloadType = 0
	TypeSA       PayloadType = 1
	TypeKE       PayloadType = 4
	TypeID       PayloadType = 5
	TypeCert     PayloadType = 6
	TypeCertReq  PayloadType = 7
	TypeHash     PayloadType = 8
	TypeSig      PayloadType = 9
	TypeNonce    PayloadType = 10
	TypeNotify   PayloadType = 11
	TypeDelete   PayloadType = 12
	TypeVendorID PayloadType = 13
	TypeNATD     PayloadType = 20
	TypeNATOA    PayloadType = 21
	TypeSK       PayloadType = 128
	TypeNATD130  PayloadType = 130 // NAT-D of NAT-T drafts
	TypeNATOA131 PayloadType = 131
)

// Payload is one payload: its type and its body, everything after the generic
// header, as received.
type Payload struct {
	Type PayloadType
	Body []byte
}

// Message is a message whose payloads are in the clear.
type Message struct {
	Header
	Payloads []Payload
}

// SA is the body of a security association payload.
type SA struct {
	DOI, Situation uint32
	Proposals      []Proposal
}

// Protocol is a protocol ID.
type Protocol uint8

const (
	ProtoISAKMP Protocol = 1
	ProtoAH     Protocol = 2
	ProtoESP    Protocol = 3
)

// Proposal is one proposal. Equal numbers are an AND.
type Proposal struct {
	Number     uint8
	Protocol   Protocol
	SPI        []byte
	Transforms []Transform
}

// Transform is one alternative of a proposal.
type Transform struct {
	Number     uint8
	ID         uint8
	Attributes []Attribute
}

// Attribute is one data attribute. TLV says that it was or is to be written with
// a length; otherwise Value has two bytes.
type Attribute struct {
	Type  uint16
	TLV   bool
	Value []byte
}

// IDType is the type of an identification payload (RFC 2407 4.6.2.1).
type IDType uint8

const (
	IDIPv4       IDType = 1
	IDFQDN       IDType = 2
	IDUserFQDN   IDType = 3
	IDIPv4Subnet IDType = 4
	IDIPv6       IDType = 5
	IDIPv6Subnet IDType = 6
	IDIPv4Range  IDType = 7
	IDIPv6Range  IDType = 8
	IDDN         IDType = 9
	IDGN         IDType = 10
	IDKeyID      IDType = 11
)

// ID is the body of an identification payload.
type ID struct {
	Type     IDType
	Protocol uint8
	Port     uint16
	Data     []byte
}

// CertEncoding is the encoding byte of a certificate payload.
type CertEncoding uint8

const (
	CertSign CertEncoding = 4 // X.509 signature certificate
	CertEnc  CertEncoding = 5 // X.509 key exchange, the encryption certificate
)

// Cert is the body of a certificate payload.
type Cert struct {
	Encoding CertEncoding
	Data     []byte
}

// NotifyType is a notification number (RFC 2408 3.14.1, RFC 2407 4.6.3, RFC 3706).
type NotifyType uint16

const (
	InvalidPayloadType      NotifyType = 1
	DOINotSupported         NotifyType = 2
	InvalidMajorVersion     NotifyType = 5
	InvalidMinorVersion     NotifyType = 6
	InvalidExchangeType     NotifyType = 7
	NoProposalChosen        NotifyType = 14
	PayloadMalformed        NotifyType = 16
	InvalidIDInformation    NotifyType = 18
	InvalidCertificate      NotifyType = 20
	InvalidHashInformation  NotifyType = 23
	AuthenticationFailed    NotifyType = 24
	UnsupportedExchangeType NotifyType = 29
	Connected               NotifyType = 16384
	ResponderLifetime       NotifyType = 24576
	ReplayStatus            NotifyType = 24577
	InitialContact          NotifyType = 24578
	RUThere                 NotifyType = 36136
	RUThereAck              NotifyType = 36137
)

// Notification is the body of a notification payload.
type Notification struct {
	DOI      uint32
	Protocol Protocol
	SPI      []byte
	Type     NotifyType
	Data     []byte
}

// Delete is the body of a delete payload: all SPIs have one length.
type Delete struct {
	DOI      uint32
	Protocol Protocol
	SPISize  uint8
	SPIs     [][]byte
}
