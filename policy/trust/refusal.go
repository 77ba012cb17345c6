package trust

import "fmt"

// Reason is a word of the closed set that metrics and logs use. None is ever
// renamed.
type Reason string

// Why a certificate, a pair or an identity was refused.
const (
	Malformed    Reason = "certificate-malformed"
	UnknownCA    Reason = "certificate-unknown-ca"
	Expired      Reason = "certificate-expired"
	NotYetValid  Reason = "certificate-not-yet-valid"
	Revoked      Reason = "certificate-revoked"
	KeyUsage     Reason = "certificate-key-usage"
	PairMismatch Reason = "certificate-pair-mismatch"
	BadIdentity  Reason = "certificate-identity"
	StaleCRL     Reason = "crl-stale"
	BadID        Reason = "bad-id"
)

// Refusal is the error of everything that is refused here: a reason for
// machines and an error for people.
type Refusal struct {
	Reason Reason
	Err    error
}

// Error gives the reason and the detail.
func (r Refusal) Error() string { return string(r.Reason) + ": " + r.Err.Error() }

// Unwrap gives the detail.
func (r Refusal) Unwrap() error { return r.Err }

// As lets errors.As find a Refusal by value too; what this package returns is a
// *Refusal.
func (r *Refusal) As(target any) bool {
	v, ok := target.(*Refusal)
	if ok {
		*v = *r
	}
	return ok
}

func refuse(reason Reason, format string, args ...any) *Refusal {
	return &Refusal{reason, fmt.Errorf(format, args...)}
}

// about puts what the refusal is about before its text and keeps its reason.
func (r *Refusal) about(what string) *Refusal {
	return &Refusal{r.Reason, fmt.Errorf("%s: %w", what, r.Err)}
}
