// Package trust decides whether a certificate pair belongs to a configured peer.
//
// The protocol gives each gateway two SM2 certificates, one to sign and one to
// be encrypted to (GM/T 0015). They come over an unsigned message, so a chain to
// the right CA is not enough: whoever holds any pair of that CA could put his
// encryption certificate beside another's signing certificate. A Verifier
// therefore knows one trust anchor and one identity entry, and both
// certificates must fit it.
//
// The package is pure. It opens no file and has no clock: bytes and times come
// in, a verdict with a Reason goes out. It refuses to know private keys and
// ISAKMP.
package trust
