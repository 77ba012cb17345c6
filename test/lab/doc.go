// Package lab runs gateways in memory: real engines with real SM2 keys under a
// virtual clock, on a network that loses, repeats, delays and changes packets as
// a test asks, over a data plane that checks what it is told to do.
//
// One thread, one queue ordered by time and then by the order of arrival, and
// every random number from one seed: the same seed gives the same run, byte for
// byte. It knows nothing of sockets and nothing of what the engine keeps inside.
package lab
