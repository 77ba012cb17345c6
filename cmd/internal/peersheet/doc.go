// Package peersheet writes the sheet of parameters for the engineer at the far end
// of a tunnel (对接参数表): every value that both ends must agree on, as seen from
// there, and what has to come back.
//
// It reads configuration, policy and certificates, never a private key, and asks
// no daemon. It refuses to know what a box of another maker wants to be told:
// package foreign does.
package peersheet

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"time"

	"yumen/cmd/internal/config"
	"yumen/cmd/internal/foreign"
	"yumen/cmd/internal/pki"
	"yumen/policy"
)

// Lang is a language of a sheet.
type Lang uint8

const (
	Chinese Lang = iota
	English
)

// ParseLang reads zh or en.
func ParseLang(word string) (Lang, error) {
	switch strings.ToLower(word) {
	case "zh":
		return Chinese, nil
	case "en":
		return English, nil
	}
	return 0, fmt.Errorf("%q is no language of a sheet; write zh or en", word)
}

// Facts is what a sheet is made of.
type Facts struct {
	Site   string
	Peer   policy.Peer
	Tunnel policy.Tunnel
	Others []string // names of the other tunnels to the same peer
	// Our is the address at which the far end reaches us; not valid: not known.
	Our       netip.Addr
	Sign, Enc pki.Info   // our certificates
	Strings   [2]string  // ASN.1 types of the strings in their subjects
	Chain     []pki.Info // intermediates that we send with them
	Theirs    []pki.Info // their certificates, where a file of ours names them
	Anchors   []pki.Info // the CA that we trust for them; none: its file cannot be read
	MTU       int        // of the path outside, in bytes
	IKEPort   uint16
	NATPort   uint16
	Now       time.Time
}

// Gather reads what a sheet of a tunnel needs. our is the address of this gateway as
// the far end sees it; where it is not valid the policy's is taken. A certificate
// authority that has not come yet is no error.
func Gather(cfg *config.Config, tunnel string, our netip.Addr, now time.Time) (Facts, error) {
	f := Facts{Our: our, MTU: cfg.MTU, IKEPort: cfg.IKEPort, NATPort: cfg.NATPort, Now: now}
	pol, err := policy.Load(cfg.Policy)
	if err != nil {
		return f, err
	}
	if err := f.find(pol, tunnel); err != nil {
		return f, fmt.Errorf("%s: %w", cfg.Policy, err)
	}
	if f.Sign, err = one(cfg.SignCert, now); err != nil {
		return f, err
	}
	if f.Enc, err = one(cfg.EncCert, now); err != nil {
		return f, err
	}
	f.Strings = [2]string{stringTypes(cfg.SignCert), stringTypes(cfg.EncCert)}
	if f.Peer.Chain != "" {
		b, err := os.ReadFile(pol.Resolve(f.Peer.Chain))
		if err == nil {
			f.Chain, err = pki.Show(b, now)
		}
		if err != nil {
			return f, fmt.Errorf("%s: %w", pol.Resolve(f.Peer.Chain), err)
		}
	}
	if c := f.Peer.Certs; c != (policy.PeerCerts{}) {
		for _, path := range []string{c.Sign, c.Enc} {
			info, err := one(pol.Resolve(path), now)
			if err != nil {
				return f, err
			}
			f.Theirs = append(f.Theirs, info)
		}
	}
	if b, err := os.ReadFile(pol.Resolve(f.Peer.CA)); err == nil {
		if f.Anchors, err = pki.Show(b, now); err != nil {
			return f, fmt.Errorf("%s: %w", pol.Resolve(f.Peer.CA), err)
		}
	}
	return f, nil
}

// find takes the tunnel, its peer and the peer's other tunnels from a policy.
func (f *Facts) find(pol *policy.Policy, name string) error {
	var names []string
	for _, t := range pol.Tunnels {
		names = append(names, t.Name)
	}
	var ok bool
	if f.Tunnel, ok = pol.Tunnel(name); !ok {
		return fmt.Errorf("no tunnel is called %q; there are %s", name, strings.Join(names, ", "))
	}
	f.Peer, _ = pol.Peer(f.Tunnel.Peer)
	if word := f.Peer.NonGM(); word != "" {
		return fmt.Errorf("peer %q has profile %s, which is not GB/T 36968; there is no sheet for it", f.Peer.Name, word)
	}
	f.Site = pol.Site
	for _, t := range pol.TunnelsOf(f.Peer.Name) {
		if t.Name != name {
			f.Others = append(f.Others, t.Name)
		}
	}
	if !f.Our.IsValid() {
		f.Our = f.Peer.Local.Addr
	}
	return nil
}

// one reads a file that holds one certificate. Whatever else it holds is refused, so
// that no key ever comes near a sheet.
func one(path string, now time.Time) (pki.Info, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return pki.Info{}, err
	}
	if bytes.Contains(b, []byte("PRIVATE KEY")) {
		return pki.Info{}, fmt.Errorf("%s: holds a private key where a certificate is expected", path)
	}
	list, err := pki.Show(b, now)
	if err == nil && (len(list) != 1 || list[0].Type != "certificate") {
		err = errors.New("is not one certificate")
	}
	if err != nil {
		return pki.Info{}, fmt.Errorf("%s: %w", path, err)
	}
	return list[0], nil
}

// link is what package foreign turns into commands.
func (f *Facts) link() foreign.Link {
	return foreign.Link{Peer: f.Peer, Tunnel: f.Tunnel, Our: f.Our, OurSign: f.Sign.Subject, OurEnc: f.Enc.Subject}
}

// Write writes the sheet in a language; with vendors, also the commands for each.
func (f *Facts) Write(w io.Writer, lang Lang, vendors ...foreign.Vendor) error {
	p := &page{lang: lang}
	p.head(f)
	for _, s := range f.sections() {
		p.section(s)
	}
	for _, v := range vendors {
		script, err := foreign.Commands(v, f.link())
		if err != nil {
			return err
		}
		p.commands(v, script)
	}
	if _, err := io.WriteString(w, p.String()); err != nil {
		return fmt.Errorf("write the sheet: %w", err)
	}
	return nil
}
