package policy

import "strconv"

// Dialect holds the wire knobs of a peer: what is sent where the sources or the
// vendors differ. What is accepted is wider and does not hang on it, unless a
// knob says so. The zero value of every knob is the recommended choice. Its words
// are in knob.go, the values of each profile in profile.go.
type Dialect struct {
	IKESM4     SM4Number  // phase-1 encryption algorithm number
	ESPSM4     ESPNumbers // ESP transform IDs offered for SM4-CBC
	ESPGCM     int        // ESP transform ID of SM4-GCM; 0: 130
	ICVBits    int        // of HMAC-SM3, for tunnels that do not say; 0: 96; or ICVAuto
	KeyLength  KeyLength  // the key length attribute of both phases
	QMHash     HashForm   // HASH_1 and HASH_2
	HashrSA    SASource   // SA in HASHr as sent
	SKEncoding SKEncoding
	SigRaw     bool // 64 raw bytes instead of DER
	SigNoByte  bool // leave the encoding byte out of the signed certificate
	Nonce      int  // length of the nonces that we send, in bytes; 0: 16
	FieldPad   FieldPad
	IDZeroIV   bool   // the ID field starts a chain of its own
	GMVersion0 bool   // header 1.0: only by setting
	SM2ID      string // user ID of signatures; empty: 1234567812345678
	IDType     IDType
	ID         string // what an ID that is no distinguished name says
	PeerID     string // an ID of the peer that its certificates do not hold
	IDCertEnc  bool   // send the DN of the encryption certificate
	SendCerts  SendCerts
	EncFirst   bool // the encryption certificate stands before the signing one
	NoNATT     bool // no NAT-T Vendor ID
	NATDHash   NATDHash
	NoDPDVID   bool
	NoOwnVID   bool     // no Vendor ID that says Yumen
	DPDNoSPI   bool     // R-U-THERE without the cookies in its SPI field
	DPDFirst   bool     // the notification of DPD stands before its HASH
	Initiate   Initiate // who begins main mode

	ZeroPad      bool // accept nonces padded with zeros and no count
	AnyTransform bool // do not check the transform ID of phase 1
	// Exact refuses what differs from these knobs, instead of reporting it.
	Exact bool
	// StrictLifetime refuses, as responder, lifetimes above 24 h and 1 h.
	StrictLifetime bool
	// AllowNarrowing installs a responder's narrower selectors.
	AllowNarrowing bool
}

// GCMNumber is the ESP transform ID of SM4-GCM.
func (d Dialect) GCMNumber() uint8 {
	if d.ESPGCM == 0 {
		return 130
	}
	return uint8(d.ESPGCM)
}

const (
	defaultNonce = 16
	minNonce     = 8 // RFC 2409 5
	maxNonce     = 256
)

// NonceLength is how many bytes the nonces have that we send.
func (d Dialect) NonceLength() int {
	if d.Nonce == 0 {
		return defaultNonce
	}
	return d.Nonce
}

// Judged is d without what an entry that takes only its own form (accept: exact)
// lets pass all the same: any length of a nonce that RFC 2409 5 allows, and the hash
// of NAT-D, which no key depends on.
func (d Dialect) Judged(entry Dialect) Dialect {
	d.Nonce, d.NATDHash = entry.Nonce, entry.NATDHash
	return d
}

// defaultICV is the length of HMAC-SM3 in ESP in bits where nobody says another.
const defaultICV = 96

// ICVAuto in place of a length in bits: the peer's first packet tells it.
const ICVAuto = -1

// ICVWord is a length of HMAC-SM3 as the policy file has it.
func ICVWord(bits int) string {
	if bits == ICVAuto {
		return "auto"
	}
	return strconv.Itoa(bits)
}

// icvOf reads a length of HMAC-SM3: 96, 128, 256 or auto.
func icvOf(s string) (bits int, ok bool) {
	for _, bits := range []int{96, 128, 256, ICVAuto} {
		if s == ICVWord(bits) {
			return bits, true
		}
	}
	return 0, false
}

// ICV is the ICV length of HMAC-SM3 in bits for tunnels that do not say, or ICVAuto.
func (d Dialect) ICV() int {
	if d.ICVBits == 0 {
		return defaultICV
	}
	return d.ICVBits
}

// KeyLength says what becomes of the key length attribute, which SM4 needs not.
type KeyLength uint8

const (
	KeyLengthOmit   KeyLength = iota // not sent; 128 is accepted
	KeyLengthSend                    // sent
	KeyLengthRefuse                  // not sent, and refused
)

// IDType is the type of the ID that we send in main mode.
type IDType uint8

const (
	IDName     IDType = iota // subject of a certificate
	IDAddress                // our address, or id
	IDFQDN                   // id
	IDUserFQDN               // id
	IDKeyID                  // id
)

// SendCerts says in which messages our certificates stand.
type SendCerts uint8

const (
	CertsBoth SendCerts = iota // M2 and M3
	CertsM3                    // the initiator's only: the peer has those of the responder
	CertsNone
)

// Initiate says who may begin main mode.
type Initiate uint8

const (
	InitiateEither Initiate = iota
	InitiateUs              // M1 of the peer is refused
	InitiateThem            // we only answer
)

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

// HashForm is the form of HASH_1 and HASH_2 of quick mode (RFC 2409 5.5).
type HashForm uint8

const (
	HashRFC2409 HashForm = iota
	HashStdFull
	HashStdBody
)

// SASource says which SA body enters HASHr (RFC 2409 5).
type SASource uint8

const (
	SAInitiator SASource = iota
	SAResponder
)

// SKEncoding is the form of the SM2 ciphertext in payload 128.
type SKEncoding uint8

const (
	SKDER SKEncoding = iota
	SKC1C3C2
	SKC1C2C3
)

// NATDHash is the hash of the NAT-D payloads that we send. Others are recognised by
// their length.
type NATDHash uint8

const (
	NATDSM3  NATDHash = iota // the negotiated one (RFC 3947 3.2)
	NATDSHA1                 // of peers that know no other there: no key hangs on it
	NATDMD5
)

// FieldPad is the padding of nonce and ID in M3/M4.
type FieldPad uint8

const (
	PadCounted FieldPad = iota // zeros, then their count
	PadPKCS7
	PadZeros // no count: only where the length is known otherwise
)
