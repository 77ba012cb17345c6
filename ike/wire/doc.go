// Package wire reads and writes ISAKMP messages: header, payloads, and their
// text form (RFC 2408; GB/T 36968 as far as protocol.md sections 1, 2 and 6 give
// it). It refuses to know what a value means for security: no keys, no policy,
// no hashing. A parsed structure aliases the bytes it was read from.
package wire
