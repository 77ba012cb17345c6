package keys

import (
	"bytes"
	"encoding/hex"
	"fmt"

	"yumen/policy/secret"
)

// leastPreShared is the shortest pre-shared key in bytes: who answers message 1 in
// the peer's place may try words at leisure afterwards.
const leastPreShared = 8

// PreShared reads a pre-shared key: the first line of a file that only its owner
// may read, as text, or as hexadecimal digits behind 0x. The caller wipes it.
func PreShared(path string) (secret.Secret, error) {
	line, err := Passphrase(path, "")
	if err != nil {
		return secret.Secret{}, fmt.Errorf("pre-shared key: %w", err)
	}
	if digits, ok := bytes.CutPrefix(line, []byte("0x")); ok {
		n, err := hex.Decode(line, digits) // in place: it writes behind what it reads
		clear(line[max(n, 0):])
		if err != nil {
			clear(line)
			return secret.Secret{}, fmt.Errorf("pre-shared key %s: behind 0x stand hexadecimal digits", path)
		}
		line = line[:n]
	}
	if len(line) < leastPreShared {
		clear(line)
		return secret.Secret{}, fmt.Errorf("pre-shared key %s: %d bytes, at least %d are needed", path, len(line), leastPreShared)
	}
	return secret.Take(line), nil
}
