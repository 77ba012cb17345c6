package lab

import (
	"encoding/pem"
	"math/big"
	"time"

	"github.com/emmansun/gmsm/sm2"
	"github.com/emmansun/gmsm/smx509"

	"yumen/ike"
	"yumen/ike/gm"
	"yumen/policy/trust"
)

// Epoch is when every lab begins.
var Epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// Usages of the two certificates of a gateway (GM/T 0015).
const (
	signUsage = smx509.KeyUsageDigitalSignature | smx509.KeyUsageContentCommitment
	encUsage  = smx509.KeyUsageKeyEncipherment | smx509.KeyUsageDataEncipherment | smx509.KeyUsageKeyAgreement
)

// Authority issues certificates whose keys hang on its name, so that every run
// has the same ones.
type Authority struct {
	random source
	key    *sm2.PrivateKey
	cert   *smx509.Certificate
	serial int64
}

// NewAuthority makes a root. A mistake of the lab panics here and below: there
// is nobody to answer to.
func NewAuthority(name string) *Authority {
	a := &Authority{random: newSource(0, name)}
	a.key = must(sm2.GenerateKey(a.random))
	x := a.template("CN=" + name + ",C=CN")
	x.BasicConstraintsValid, x.IsCA, x.MaxPathLen = true, true, -1
	x.KeyUsage = smx509.KeyUsageCertSign | smx509.KeyUsageCRLSign
	der := must(smx509.CreateCertificate(a.random, x, x, &a.key.PublicKey, a.key))
	a.cert = must(smx509.ParseCertificate(der))
	return a
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func (a *Authority) template(subject string) *smx509.Certificate {
	a.serial++
	return &smx509.Certificate{SerialNumber: big.NewInt(a.serial), RawSubject: must(trust.ParseName(subject)),
		NotBefore: Epoch.AddDate(0, -1, 0), NotAfter: Epoch.AddDate(1, 0, 0)}
}

// PEM is the root, as a trust anchor file holds it.
func (a *Authority) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

// CRL lists the certificates given as revoked since a day before Epoch.
func (a *Authority) CRL(revoked ...trust.Certificate) []byte {
	list := &smx509.RevocationList{Number: big.NewInt(7),
		ThisUpdate: Epoch.AddDate(0, 0, -1), NextUpdate: Epoch.AddDate(0, 0, 30)}
	for _, c := range revoked {
		n, _ := new(big.Int).SetString(c.Serial, 16)
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries,
			smx509.RevocationListEntry{SerialNumber: n, RevocationTime: Epoch.AddDate(0, 0, -1)})
	}
	return must(smx509.CreateRevocationList(a.random, list, a.cert, a.key))
}

// Validity is the time for which certificates are issued; zero: a month before
// Epoch to a year after.
type Validity struct{ From, Until time.Time }

// Identity is a gateway's two certificates and the two keys behind them.
type Identity struct {
	Pair      trust.Pair
	sign, enc *sm2.PrivateKey
}

// Issue makes the identity of a gateway.
func (a *Authority) Issue(subject string, v Validity) *Identity {
	i := &Identity{sign: must(sm2.GenerateKey(a.random)), enc: must(sm2.GenerateKey(a.random))}
	i.Pair.Sign = a.leaf(subject, signUsage, v, i.sign)
	i.Pair.Enc = a.leaf(subject, encUsage, v, i.enc)
	return i
}

func (a *Authority) leaf(subject string, use smx509.KeyUsage, v Validity, key *sm2.PrivateKey) trust.Certificate {
	x := a.template(subject)
	x.KeyUsage = use
	if !v.From.IsZero() {
		x.NotBefore = v.From
	}
	if !v.Until.IsZero() {
		x.NotAfter = v.Until
	}
	der := must(smx509.CreateCertificate(a.random, x, a.cert, &key.PublicKey, a.key))
	return must(trust.ParseCertificate(der))
}

// Sub is an authority under a.
func (a *Authority) Sub(name string) *Authority {
	s := &Authority{random: newSource(0, name)}
	s.key = must(sm2.GenerateKey(s.random))
	x := a.template("CN=" + name + ",C=CN")
	x.BasicConstraintsValid, x.IsCA, x.MaxPathLen = true, true, -1
	x.KeyUsage = smx509.KeyUsageCertSign | smx509.KeyUsageCRLSign
	s.cert = must(smx509.ParseCertificate(must(smx509.CreateCertificate(a.random, x, a.cert, &s.key.PublicKey, a.key))))
	return s
}

// DER is the certificate of a.
func (a *Authority) DER() []byte { return a.cert.Raw }

// IssueOne makes the identity of a gateway that has one certificate for both uses.
func (a *Authority) IssueOne(subject string) *Identity {
	key := must(sm2.GenerateKey(a.random))
	leaf := a.leaf(subject, signUsage|encUsage, Validity{}, key)
	return &Identity{Pair: trust.Pair{Sign: leaf, Enc: leaf}, sign: key, enc: key}
}

// Swapped is the same identity with its two certificates exchanged, keys and
// all: what an operator does who mixes up two files.
func (i *Identity) Swapped() *Identity {
	return &Identity{Pair: trust.Pair{Sign: i.Pair.Enc, Enc: i.Pair.Sign}, sign: i.enc, enc: i.sign}
}

// WithEnc is i with another member's encryption certificate and key.
func (i *Identity) WithEnc(o *Identity) *Identity {
	return &Identity{Pair: trust.Pair{Sign: i.Pair.Sign, Enc: o.Pair.Enc}, sign: i.sign, enc: o.enc}
}

// do carries out one private-key operation.
func (i *Identity) do(op ike.PrivateOp, random source) ike.PrivateDone {
	done := ike.PrivateDone{ID: op.ID}
	if op.Power != nil {
		done.Opened, done.Err = op.Power.Raise()
	} else if op.Envelope != nil {
		done.Opened, done.Form, done.Err = gm.OpenEnvelopeForm(i.enc, op.Envelope)
	} else {
		done.Signed, done.Err = gm.SignDigest(random, i.sign, op.Digest)
	}
	return done
}

// Open opens an envelope as its holder could: for a malicious legitimate member.
func (i *Identity) Open(envelope []byte) ([]byte, error) {
	sk, err := gm.OpenEnvelope(i.enc, envelope)
	return sk.Bytes(), err
}
