// Package wire reads and writes ISAKMP messages: header, payloads, and their
// text form (RFC 2407, RFC 2408; GB/T 36968 where it adds to them). It refuses to
// know what a value means for security: no keys, no policy, no hashing, and no
// opinion on which payload may stand in which message. A parsed structure aliases
// the bytes it was read from; what parses is written back to the same bytes.
package wire
