package policy

import (
	"fmt"
	"strings"
)

// Placeholder stands in drafts where only people know the value. A policy with
// one reads well, so that an editor may go on with it, but is not fit to run.
const Placeholder = "FILL-IN"

// Unfilled lists the values of p that still hold Placeholder, each with the entry
// and key where it stands.
func (p *Policy) Unfilled() []error {
	var out []error
	look := func(entry, key, value string) {
		if strings.Contains(strings.ToUpper(value), Placeholder) {
			out = append(out, fmt.Errorf("%s: %s: %q is a placeholder; write the real value", entry, key, value))
		}
	}
	look("policy", "site", p.Site)
	for _, one := range p.Peers {
		entry := fmt.Sprintf("peer %q", one.Name)
		for _, f := range []struct{ key, value string }{
			{"name", one.Name}, {"remote", one.Remote.FQDN}, {"ca", one.CA}, {"crl", one.CRL},
			{"subject", one.Identity.Subject}, {"sign_subject", one.Identity.SignSubject}, {"enc_subject", one.Identity.EncSubject},
			{"peer_certs.sign", one.Certs.Sign}, {"peer_certs.enc", one.Certs.Enc}, {"send_chain", one.Chain},
			{"dialect.id", one.Dialect.ID}, {"dialect.peer_id", one.Dialect.PeerID},
		} {
			look(entry, f.key, f.value)
		}
	}
	for _, t := range p.Tunnels {
		look(fmt.Sprintf("tunnel %q", t.Name), "name, local, remote", t.Name)
	}
	return out
}
