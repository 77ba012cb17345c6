package policy

import (
	"fmt"
	"slices"
)

// keyLines are the lines of the keys of a mapping, and its own.
func (n *node) keyLines() map[string]int {
	lines := map[string]int{"": n.line}
	for _, x := range n.pairs {
		lines[x.key] = x.line
	}
	return lines
}

// PeerFault is a fault of one key of a peer's entry that only what the entry names
// showed: a file, or a name that somebody else reads.
func (p *Policy) PeerFault(peer, key string, cause error) *Error {
	e := &Error{File: p.source.file, Problem: fmt.Sprintf("peer %q: %v", peer, cause)}
	i := slices.IndexFunc(p.Peers, func(x Peer) bool { return x.Name == peer })
	if i < 0 {
		return e
	}
	e.Path = join(fmt.Sprintf("peers[%d]", i), key)
	if i < len(p.source.peers) {
		lines := p.source.peers[i]
		if e.Line = lines[key]; e.Line == 0 {
			e.Line = lines[""]
		}
	}
	return e
}
