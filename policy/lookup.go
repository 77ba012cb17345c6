package policy

// Peer finds a peer by name.
func (p *Policy) Peer(name string) (Peer, bool) {
	for i := range p.Peers {
		if p.Peers[i].Name == name {
			return p.Peers[i], true
		}
	}
	return Peer{}, false
}

// Tunnel finds a tunnel by name.
func (p *Policy) Tunnel(name string) (Tunnel, bool) {
	for i := range p.Tunnels {
		if p.Tunnels[i].Name == name {
			return p.Tunnels[i], true
		}
	}
	return Tunnel{}, false
}

// TunnelsOf lists the tunnels to a peer, in the order of the file.
func (p *Policy) TunnelsOf(peer string) []Tunnel {
	var out []Tunnel
	for _, t := range p.Tunnels {
		if t.Peer == peer {
			out = append(out, t)
		}
	}
	return out
}
