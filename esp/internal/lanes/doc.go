// Package lanes computes SM4 and SM3 for many packets at once: SM4-CBC encryption,
// where a packet alone keeps a processor waiting for itself, over 8, 16 or 24
// packets, HMAC-SM3 over 8, and what is parallel within one packet (SM4-CBC
// decryption, SM4-GCM) over its blocks. Lanes may have different keys.
//
// It knows nothing of ESP: no header, sequence number or padding. Its assembly is
// written by gen, which holds the algebra; where a processor lacks the
// instructions gmsm does the work behind the same functions.
package lanes

//go:generate go run ./gen .
