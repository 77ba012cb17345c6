// Package esp turns IP packets into ESP packets and back (RFC 4303, RFC
// 4106): suites, sealing and opening, the anti-replay window, the SA table,
// and the check of the inner packet against the selector of its SA.
// Outbound and Inbound do it packet by packet, Batch for many at once with the same
// results.
//
// It is pure: it knows no socket, no clock, no TUN device and nothing of how
// keys were agreed.
package esp
