// Package daemon builds a gateway and runs it: it reads everything first, then
// touches the machine, then serves until it is told to stop. It is the only place
// that logs and counts, and it refuses to know the protocol.
package daemon

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"yumen/cmd/internal/config"
	"yumen/cmd/internal/keys"
	"yumen/cmd/internal/selftest"
	"yumen/esp/tunnel"
	"yumen/ike"
	"yumen/ike/gm"
	"yumen/ike/server"
	"yumen/policy"
	"yumen/policy/secret"
	"yumen/policy/trust"
)

// Plan is a gateway that has been read and checked whole, and has touched
// nothing yet.
type Plan struct {
	Config    *config.Config
	Policy    *policy.Policy
	Own       trust.Pair
	Clock     string // why the wall clock is implausible; empty: it is not
	Selftests []selftest.Result
	Dialects  error // why nothing that was learned of peers can be used; nil: it can

	verifiers map[string]*trust.Verifier
	files     map[string]ike.PeerFiles
	preShared map[string]secret.Secret
	keys      privateKeys
	engine    *ike.Engine
	learned   []ike.Learned
	build     Build
}

// Build says what this program is and when it was made.
type Build struct {
	Version string
	Time    time.Time // zero: not known
	// Selftest is what must pass before a gateway runs; nil: selftest.Run.
	Selftest func(random io.Reader) []selftest.Result
}

// Prepare reads and checks everything that a gateway needs: self-test, keys,
// certificates, policy, trust anchors, revocation lists. It changes nothing. The
// error joins every fault.
func Prepare(cfg *config.Config, build Build) (*Plan, error) {
	if build.Selftest == nil {
		build.Selftest = selftest.Run
	}
	p := &Plan{Config: cfg, build: build, Selftests: build.Selftest(rand.Reader)}
	now := time.Now()
	faults := []error{selftest.Err(p.Selftests)}
	p.Clock = implausible(now, build.Time, lastTime(cfg.StateDir))
	unfit := p.loadPolicy(now)
	faults = append(faults, checkState(cfg.StateDir), p.loadKeys(now), unfit)
	if err := errors.Join(faults...); err != nil {
		p.wipe()
		return nil, err
	}
	p.learned, p.Dialects = loadDialects(cfg.StateDir)
	var err error
	if p.engine, err = ike.NewEngine(p.engineConfig()); err != nil {
		return nil, err
	}
	return p, nil
}

// EngineConfig is what the engine of the plan was made of, for another one beside it,
// which is where the standard says.
func (p *Plan) EngineConfig() ike.Config {
	c := p.engineConfig()
	c.Ports = ike.Ports{}
	return c
}

// PrivateKeys are the two keys of the gateway.
func (p *Plan) PrivateKeys() server.PrivateKeys { return p.keys }

func (p *Plan) engineConfig() ike.Config {
	return ike.Config{Policy: p.Policy, Own: p.Own, Verifiers: p.verifiers, Files: p.files, PreShared: p.preShared,
		Learned: p.learned, Rand: rand.Reader,
		PathMTU: p.Config.MTU, Ports: ike.Ports{IKE: p.Config.IKEPort, NAT: p.Config.NATPort}}
}

// NonGM lists, for people, the peers that are not GB/T 36968.
func (p *Plan) NonGM() []string {
	var out []string
	for _, peer := range p.Policy.Peers {
		if line := nonStandard(peer); line != "" {
			out = append(out, line)
		}
	}
	return out
}

func nonStandard(peer policy.Peer) string {
	word := peer.NonGM()
	if word == "" {
		return ""
	}
	return fmt.Sprintf("peer %s is NOT GB/T 36968 (%s): nothing with it counts as protected by the standard", peer.Name, word)
}

// remark is what NonGM says of the peer of a tunnel.
func (p *Plan) remark(tunnel string) string { return nonStandard(p.peerOf(tunnel)) }

// profile is that of the peer of a tunnel, where it is not GB/T 36968.
func (p *Plan) profile(tunnel string) string { return p.peerOf(tunnel).NonGM() }

func (p *Plan) peerOf(tunnel string) (peer policy.Peer) {
	if t, ok := p.Policy.Tunnel(tunnel); ok {
		peer, _ = p.Policy.Peer(t.Peer)
	}
	return peer
}

// Outdated lists, for people, whose CA or CRL keeps a peer from being believed now.
func (p *Plan) Outdated(now time.Time) []string {
	var out []string
	for _, peer := range p.Policy.Peers {
		if v := p.verifiers[peer.Name]; v != nil {
			for _, line := range v.Outdated(now) {
				out = append(out, fmt.Sprintf("peer %s: %s", peer.Name, line))
			}
		}
	}
	return out
}

// wipe overwrites the pre-shared keys. The plan is of no use afterwards.
func (p *Plan) wipe() {
	for _, key := range p.preShared {
		key.Wipe()
	}
}

// loadKeys reads our own certificates and keys, where some peer wants to see them.
func (p *Plan) loadKeys(now time.Time) error {
	c := p.Config
	if p.Policy != nil && !p.Policy.NeedsCertificates() {
		return nil
	}
	passphrase, err := keys.Passphrase(c.PassphraseFile, "")
	if err != nil {
		return err
	}
	defer clear(passphrase)
	own, private, err := keys.LoadPair(keys.CertKeyPaths{Cert: c.SignCert, Key: c.SignKey},
		keys.CertKeyPaths{Cert: c.EncCert, Key: c.EncKey}, passphrase)
	if err != nil {
		return err
	}
	if err := trust.CheckOwnPair(own, now); err != nil {
		return fmt.Errorf("own certificates %s and %s: %w (get new ones, or set the clock)", c.SignCert, c.EncCert, err)
	}
	p.Own, p.keys = own, privateKeys{private}
	return nil
}

func (p *Plan) loadPolicy(now time.Time) error {
	pol, err := policy.Load(p.Config.Policy)
	if err != nil {
		return err
	}
	p.Policy, p.verifiers, p.files = pol, map[string]*trust.Verifier{}, map[string]ike.PeerFiles{}
	var faults []error
	p.preShared = map[string]secret.Secret{}
	for _, left := range pol.Unfilled() {
		faults = append(faults, fmt.Errorf("%s: %w", p.Config.Policy, left))
	}
	if p.Config.Dataplane == kernel {
		if err := icvKnown(pol); err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", p.Config.Policy, err))
		} else {
			for _, fault := range kernelFaults(pol) {
				faults = append(faults, fmt.Errorf("%s: %w (dataplane: kernel; or choose dataplane: auto)", p.Config.Policy, fault))
			}
		}
	}
	if p.Config.Dataplane == "user" {
		if spd, err := policy.Compile(pol); err == nil {
			if err := tunnel.Guardable(spd.Rules()); err != nil {
				faults = append(faults, fmt.Errorf("%s: %w", p.Config.Policy, err))
			}
		}
	}
	for _, peer := range pol.Peers {
		if peer.PreShared.Used {
			key, err := keys.PreShared(pol.Resolve(peer.PreShared.File))
			if err != nil {
				faults = append(faults, pol.PeerFault(peer.Name, "psk_file", err))
			}
			p.preShared[peer.Name] = key
			continue
		}
		v, wrong := verifier(pol, peer)
		files, more := peerFiles(pol, peer, v, now)
		for _, f := range append(wrong, more...) {
			faults = append(faults, pol.PeerFault(peer.Name, f.Key, f.Err))
		}
		p.files[peer.Name], p.verifiers[peer.Name] = files, v
	}
	return errors.Join(faults...)
}

// verifier makes what a peer is judged by; nil where there is a fault. One file that
// cannot be read does not hide what is wrong with the rest of the entry.
func verifier(pol *policy.Policy, peer policy.Peer) (*trust.Verifier, trust.Faults) {
	var faults trust.Faults
	read := func(key, path string) []byte {
		b, err := readFile(pol.Resolve(path))
		if err != nil {
			faults = append(faults, &trust.Fault{Key: key, Err: err})
			return nil
		}
		return b
	}
	anchor := read("ca", peer.CA)
	if len(faults) > 0 {
		faults = append(faults, trust.CheckIdentity(peer.Identity)...)
	}
	var crl []byte
	if peer.CRL != "" {
		crl = read("crl", peer.CRL)
	}
	if anchor == nil {
		return nil, faults
	}
	v, err := trust.NewVerifier(peer, anchor, crl)
	var wrong trust.Faults
	if errors.As(err, &wrong) {
		for _, f := range wrong {
			if f.File != "" {
				f.Err = fmt.Errorf("%s: %w", f.File, f.Err)
			}
		}
		faults = append(faults, wrong...)
	}
	if len(faults) > 0 {
		return nil, faults
	}
	return v, nil
}

// peerFiles reads the certificates that the entry of a peer names. The peer's own
// are judged at once, where its verifier could be made: a gateway that starts with
// others would fail without a word from the peer.
func peerFiles(pol *policy.Policy, peer policy.Peer, v *trust.Verifier, now time.Time) (out ike.PeerFiles, faults trust.Faults) {
	fault := func(key string, err error) {
		if err != nil {
			faults = append(faults, &trust.Fault{Key: key, Err: err})
		}
	}
	if peer.Chain != "" {
		b, err := readFile(pol.Resolve(peer.Chain))
		if err == nil {
			if out.Chain, err = trust.Bundle(b); err != nil {
				err = fmt.Errorf("%s: %w", peer.Chain, err)
			}
		}
		fault("send_chain", err)
	}
	if peer.Certs == (policy.PeerCerts{}) {
		return out, faults
	}
	for _, one := range []struct {
		path string
		to   *[]byte
	}{{peer.Certs.Sign, &out.Sign}, {peer.Certs.Enc, &out.Enc}} {
		c, err := keys.LoadCertificate(pol.Resolve(one.path))
		fault("peer_certs", err)
		*one.to = c.DER
	}
	if v != nil && out.Sign != nil && out.Enc != nil {
		_, err := v.Verify(now, out.Sign, out.Enc, nil)
		fault("peer_certs", err)
	}
	return out, faults
}

// maxTrustFile bounds a bundle of anchors or a revocation list.
const maxTrustFile = 16 << 20

func readFile(path string) ([]byte, error) {
	// Opening a pipe that nobody writes to would wait for ever.
	if i, err := os.Stat(path); err == nil && !i.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: is not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxTrustFile+1))
	if err == nil && len(b) > maxTrustFile {
		err = fmt.Errorf("%s: longer than %d bytes", path, maxTrustFile)
	}
	return b, err
}

// privateKeys are our two keys as the server asks for them.
type privateKeys struct{ keys keys.Keys }

var errNoKeys = errors.New("this gateway has no certificates: no peer of its policy needs them")

func (k privateKeys) Sign(digest []byte) ([]byte, error) {
	if k.keys.Sign == nil {
		return nil, errNoKeys
	}
	return gm.SignDigest(rand.Reader, k.keys.Sign, digest)
}

func (k privateKeys) Open(envelope []byte) (secret.Secret, policy.SKEncoding, error) {
	if k.keys.Enc == nil {
		return secret.Secret{}, 0, errNoKeys
	}
	return gm.OpenEnvelopeForm(k.keys.Enc, envelope)
}
