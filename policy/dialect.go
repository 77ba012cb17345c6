package policy

// Dialect holds the wire knobs of a peer: what is sent where the sources or the
// vendors differ (protocol.md section 16, product.md 2.3). What is accepted is
// wider and does not hang on it, unless a knob says so. The zero value of every
// knob is the recommended choice.
type Dialect struct {
	IKESM4     SM4Number  // #1 phase-1 encryption algorithm number
	ESPSM4     ESPNumbers // #2 ESP transform IDs offered for SM4-CBC
	QMHash     HashForm   // #5
	HashrSA    SASource   // #6 SA in HASHr as sent
	SKEncoding SKEncoding // #7
	SigRaw     bool       // #8 64 raw bytes instead of DER
	SigNoByte  bool       // #9 leave the encoding byte out of the signed certificate
	FieldPad   FieldPad   // #10
	IDZeroIV   bool       // #11 the ID field starts a chain of its own
	GMVersion0 bool       // #14 header 1.0: only by setting
	SM2ID      string     // #15; empty: 1234567812345678
	IDCertEnc  bool       // 1.6: send the DN of the encryption certificate
	NoNATT     bool       // #17, #23 no NAT-T Vendor ID
	NoDPDVID   bool       // #23
	ZeroPad    bool       // #10 accept nonces padded with zeros and no count

	// StrictLifetime refuses, as responder, lifetimes above 24 h and 1 h (#22).
	StrictLifetime bool
	// AllowNarrowing installs a responder's narrower selectors (5.3).
	AllowNarrowing bool
}

// SM4Number is the phase-1 number of SM4-CBC.
type SM4Number uint8

const (
	SM4Standard SM4Number = iota // 129
	SM4Draft                     // 127
)

// ESPNumbers says which ESP transform IDs are offered for SM4-CBC.
type ESPNumbers uint8

const (
	ESPBoth ESPNumbers = iota // 129, then 127
	ESPOnly129
	ESPOnly127
)

// HashForm is the form of HASH_1 and HASH_2 of quick mode (protocol.md 5.2).
type HashForm uint8

const (
	HashRFC2409 HashForm = iota
	HashStdFull
	HashStdBody
)

// SASource says which SA body enters HASHr (protocol.md 3.7).
type SASource uint8

const (
	SAInitiator SASource = iota
	SAResponder
)

// SKEncoding is the form of the SM2 ciphertext in payload 128 (protocol.md 3.3).
type SKEncoding uint8

const (
	SKDER SKEncoding = iota
	SKC1C3C2
	SKC1C2C3
)

// FieldPad is the padding of nonce and ID in M3/M4 (protocol.md 3.5).
type FieldPad uint8

const (
	PadCounted FieldPad = iota // zeros, then their count
	PadPKCS7
	PadZeros // no count: only where the length is known otherwise
)
