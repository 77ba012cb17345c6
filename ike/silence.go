package ike

import "fmt"

// smallestPath is the least that every IPv6 path carries in one packet, less the
// headers: a message above it may travel in fragments.
const smallestPath = 1280 - 48

// silenceAfter names why a large message may have met silence although smaller
// ones get through: many firewalls drop fragments.
func silenceAfter(message string, size int) (Reason, string) {
	if size <= smallestPath {
		return Timeout, "no answer to " + message
	}
	return FragmentsBlocked, fragmentsAdvice(message, size, "small messages get through")
}

func fragmentsAdvice(message string, size int, seen string) string {
	return fmt.Sprintf("%s has %d bytes and seems not to arrive although %s: fragments blocked on the path? "+
		"Let UDP fragments pass, use smaller certificates, or set ike_fragmentation at both ends; "+
		"or the peer refused it silently, which its log says", message, size, seen)
}
