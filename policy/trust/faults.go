package trust

import (
	"errors"
	"strings"

	"yumen/policy"
)

// Fault is what is wrong with one key of a peer's entry, or with the file that it
// names.
type Fault struct {
	Key  string // as in the policy file
	File string // empty: the value itself is wrong
	Err  error
}

// Error says what is wrong with what.
func (f *Fault) Error() string {
	if f.File == "" {
		return f.Key + ": " + f.Err.Error()
	}
	return f.Key + " " + f.File + ": " + f.Err.Error()
}

// Unwrap returns the cause.
func (f *Fault) Unwrap() error { return f.Err }

// Faults are all of an entry. It is never empty when returned.
type Faults []*Fault

// Error writes all in one line.
func (f Faults) Error() string {
	texts := make([]string, len(f))
	for i, one := range f {
		texts[i] = one.Error()
	}
	return strings.Join(texts, "; ")
}

// Unwrap lets errors.As and errors.Is look at each fault.
func (f Faults) Unwrap() []error {
	all := make([]error, len(f))
	for i, one := range f {
		all[i] = one
	}
	return all
}

// add notes a fault, if there is one.
func (f *Faults) add(key, file string, err error) {
	if err != nil {
		*f = append(*f, &Fault{key, file, err})
	}
}

// CheckIdentity judges the names or fingerprints of an entry alone.
func CheckIdentity(in policy.Identity) Faults {
	_, err := newIdentity(in)
	var faults Faults
	errors.As(err, &faults)
	return faults
}
