package wire

import (
	"encoding/binary"
	"fmt"
)

// reader is a cursor over received bytes. It remembers its first failure, and
// after that every read gives zeros, so that a parser reads straight down and
// asks for the error once.
type reader struct {
	b   []byte // what is left
	err error
}

// fail keeps the first failure only: later ones are its consequences.
func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
}

// bytes returns the next n bytes, aliasing the input, or nil.
func (r *reader) bytes(n int, field string) []byte {
	if r.err != nil {
		return nil
	}
	if n > len(r.b) {
		r.fail("%s: %d bytes wanted, %d left", field, n, len(r.b))
		return nil
	}
	v := r.b[:n:n] // the capacity ends here: an append must not write into the next field
	r.b = r.b[n:]
	return v
}

func (r *reader) u8(field string) uint8 {
	if v := r.bytes(1, field); v != nil {
		return v[0]
	}
	return 0
}

func (r *reader) u16(field string) uint16 {
	if v := r.bytes(2, field); v != nil {
		return binary.BigEndian.Uint16(v)
	}
	return 0
}

func (r *reader) u32(field string) uint32 {
	if v := r.bytes(4, field); v != nil {
		return binary.BigEndian.Uint32(v)
	}
	return 0
}

// rest returns everything that is left.
func (r *reader) rest() []byte { return r.bytes(len(r.b), "") }

// zero reads n bytes that RFC 2408 reserves and requires to be zero.
func (r *reader) zero(n int, field string) {
	for _, v := range r.bytes(n, field) {
		if v != 0 {
			r.fail("%s: %#02x, must be zero", field, v)
		}
	}
}

// item reads one generic payload header and its body (RFC 2408 3.2).
func (r *reader) item() (next PayloadType, body []byte) {
	next = PayloadType(r.u8("next payload"))
	r.zero(1, "reserved byte")
	n := int(r.u16("length"))
	if r.err == nil && n < genericLen {
		r.fail("length: %d, less than the %d bytes of its own header", n, genericLen)
	}
	return next, r.bytes(n-genericLen, "body")
}

// done returns the first failure; bytes that nobody read are one.
func (r *reader) done() error {
	if len(r.b) > 0 {
		r.fail("end: %d bytes too many", len(r.b))
	}
	return r.err
}

// genericLen is the length of the generic payload header, which proposals and
// transforms have too.
const genericLen = 4

// appendItem writes a generic header and the body that write appends, and fills
// in the length afterwards.
func appendItem(dst []byte, next PayloadType, write func([]byte) []byte) []byte {
	start := len(dst)
	dst = write(append(dst, byte(next), 0, 0, 0))
	binary.BigEndian.PutUint16(dst[start+2:], uint16(len(dst)-start))
	return dst
}
