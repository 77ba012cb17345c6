// Package psk is the arithmetic of plain IKE with a pre-shared key (RFC 2409 5.4):
// group 14, keys, IVs and hashes, with AES-128-CBC and SHA-256 or SM4-CBC and SM3.
// It belongs to the profile rfc2409-psk, which is not GB/T 36968. It knows nothing
// of messages, and package gm knows nothing of it.
package psk
