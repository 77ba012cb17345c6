package atomicfile

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
)

// ErrDamaged is wrapped by every refusal of a sealed content.
var ErrDamaged = errors.New("the file is damaged")

// Seal puts one line before body: a word for what it is, its version, its length and
// its checksum. That finds damage, not malice: who may write the file may seal it.
func Seal(kind string, version int, body []byte) []byte {
	return append(head(kind, version, body), body...)
}

func head(kind string, version int, body []byte) []byte {
	return fmt.Appendf(nil, "%s %d %d %x\n", kind, version, len(body), sha256.Sum256(body))
}

// Open returns the body of what Seal made with that kind and version; anything else
// is refused.
func Open(kind string, version int, b []byte) (body []byte, err error) {
	first, body, _ := bytes.Cut(b, []byte("\n"))
	var v int
	switch n, _ := fmt.Sscanf(string(first), kind+" %d ", &v); {
	case n != 1:
		return nil, fmt.Errorf("%w: it does not begin as one of kind %s", ErrDamaged, kind)
	case v != version:
		return nil, fmt.Errorf("%w, or of another release: version %d, this program reads %d", ErrDamaged, v, version)
	case !bytes.Equal(head(kind, version, body), b[:len(b)-len(body)]):
		return nil, fmt.Errorf("%w: its checksum does not match", ErrDamaged)
	}
	return body, nil
}
