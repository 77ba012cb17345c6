// Package secret boxes key material so that it cannot be printed, and wipes it.
//
// It knows nothing of what the bytes mean. Go cannot promise erasure: the
// runtime may have copied a value before it was boxed (stack growth, an append
// by the caller), and a cipher built from a key keeps its own schedule. What
// the box promises is that the bytes it holds are overwritten by Wipe and never
// reach fmt, JSON or a log.
package secret

import (
	"crypto/subtle"
	"log/slog"
)

// Secret is key material behind a pointer. The zero value is empty. Copies of a
// Secret share the same bytes, so one Wipe empties them all.
//
// The pointer leads to another because fmt cannot call the methods of a Secret in
// an unexported field: for a verb like %s it then prints what a pointer to a
// struct points to, but of a pointer to a pointer only the address.
type Secret struct{ p **box }

type box struct{ b []byte }

func hold(b []byte) Secret {
	inner := &box{b}
	return Secret{&inner}
}

const mask = "[secret]"

// New copies b into a new box. The caller still owns, and should wipe, b.
func New(b []byte) Secret { return hold(append([]byte(nil), b...)) }

// Take boxes b itself, without a copy: the caller must not use b afterwards.
func Take(b []byte) Secret { return hold(b) }

// Bytes returns the bytes themselves, nil after Wipe. They must not be kept,
// changed or printed.
func (s Secret) Bytes() []byte {
	if s.p == nil {
		return nil
	}
	return (*s.p).b
}

// Len returns the number of bytes held; 0 after Wipe.
func (s Secret) Len() int { return len(s.Bytes()) }

// Wipe overwrites the bytes with zeros and empties the box. It may be called
// more than once.
func (s Secret) Wipe() {
	if s.p == nil {
		return
	}
	clear((*s.p).b)
	(*s.p).b = nil
}

// Equal compares in constant time (for equal lengths).
func (s Secret) Equal(other []byte) bool {
	return subtle.ConstantTimeCompare(s.Bytes(), other) == 1
}

// String never shows the bytes.
func (Secret) String() string { return mask }

// GoString never shows the bytes.
func (Secret) GoString() string { return mask }

// MarshalText never shows the bytes.
func (Secret) MarshalText() ([]byte, error) { return []byte(mask), nil }

// LogValue never shows the bytes.
func (Secret) LogValue() slog.Value { return slog.StringValue(mask) }
