package policy

import (
	"net/netip"
	"strings"
	"time"
)

func (r *reader) peer(n *node, path string, seen names, before []Peer) Peer {
	o := r.object(n, path)
	p, _ := defaults()
	o.need("name", "give the peer a name").unique(&p.Name, seen)
	o.need("remote", "write the peer's address, its name, or any").remote(&p.Remote)
	local := o.get("local")
	local.local(&p.Local)
	if p.Local.Addr.IsValid() && p.Remote.Addr.IsValid() && p.Local.Addr.Is4() != p.Remote.Addr.Is4() {
		local.fault("%s and the peer's %s are of different families; use one", p.Local.Addr, p.Remote.Addr)
	}
	if plain := o.preShared(&p.PreShared); plain {
		o.oneAnywhere(p, before)
	} else {
		o.need("ca", "name the file of the one trust anchor").text(&p.CA)
		o.get("crl").text(&p.CRL)
		o.identity(&p.Identity)
	}
	encap := o.get("encap")
	choose(encap, &p.Encap, EncapAuto, EncapForce, EncapOff)
	o.lifetime("ike_lifetime", &p.IKELifetime, MaxIKELifetime)
	o.get("clock_skew").duration(&p.ClockSkew, 0, 24*time.Hour)
	if f := o.get("dpd"); f.given() {
		d := r.object(f.node, f.path)
		d.get("interval").duration(&p.DPD.Interval, 0, time.Hour)
		d.get("tries").int(&p.DPD.Tries, 1, 100)
		d.done()
	}
	choose(o.get("path_probe"), &p.PathProbe, ProbeAuto, ProbeOn, ProbeOff)
	o.dropChildren(&p.DropChildren)
	o.get("ike_fragmentation").bool(&p.Fragmentation)
	o.certs(&p.Certs)
	o.get("send_chain").text(&p.Chain)
	o.wire(&p, encap)
	o.done()
	return p
}

// wire reads the profile, and the knobs that differ from it.
func (o *object) wire(p *Peer, encap field) {
	profile, dialect := o.get("profile"), o.get("dialect")
	if p.PreShared.Used {
		return
	}
	o.r.profile(profile, p)
	if dialect.given() {
		o.r.dialect(dialect, &p.Dialect)
	}
	if p.Encap == EncapForce && p.Dialect.NoNATT {
		encap.fault("force needs NAT traversal, which nat_t: false of the profile or dialect switches off; change one")
	}
	if no := p.autoRefuses(); p.Profile == Auto && len(no) > 0 {
		dialect.fault("%s is never part of profile: auto; name another profile", strings.Join(no, ", "))
	}
	if p.Dialect.SendCerts != CertsBoth && p.Certs == (PeerCerts{}) && p.Dialect.GMVersion0 {
		profile.fault("a peer that sends no certificates needs peer_certs: {sign: FILE, enc: FILE}; copy them from it")
	}
	if p.Dialect.Initiate == InitiateUs && p.Remote.Any {
		dialect.fault("initiate: us needs an address to call, and remote is any; change one")
	}
}

// certs reads the files of the peer's certificates, for peers that do not send
// theirs.
func (o *object) certs(dst *PeerCerts) {
	f := o.get("peer_certs")
	if !f.given() {
		return
	}
	x := o.r.object(f.node, f.path)
	x.need("sign", "name the file of the peer's signing certificate").text(&dst.Sign)
	x.need("enc", "name the file of its encryption certificate, the same if it has only one").text(&dst.Enc)
	x.done()
}

// dropChildren reads what becomes of tunnels whose ISAKMP SA the peer deletes.
func (o *object) dropChildren(dst *bool) {
	f := o.get("children_on_ike_delete")
	switch s, ok := f.word(); {
	case !ok:
	case s == "keep", s == "drop":
		*dst = s == "drop"
	default:
		f.fault("%q is neither keep nor drop", s)
	}
}

// remote reads an address, a host name, or any.
func (f field) remote(dst *Remote) {
	var s string
	f.text(&s)
	if s == "" {
		return
	}
	if s == "any" {
		dst.Any = true
		return
	}
	if a, err := netip.ParseAddr(s); err == nil {
		f.unicast(&dst.Addr, a)
		return
	}
	if !isHostName(s) {
		f.fault("%q is no address and no host name; write an address, a host name or any", s)
		return
	}
	dst.FQDN = s
}

// local reads an address, an interface, or any.
func (f field) local(dst *Local) {
	var s string
	f.text(&s)
	if s == "" || s == "any" {
		return
	}
	if a, err := netip.ParseAddr(s); err == nil {
		f.unicast(&dst.Addr, a)
		return
	}
	// Linux: at most 15 bytes, no slash and no colon (dev_valid_name).
	if len(s) > 15 || s == "." || s == ".." || strings.ContainsAny(s, "/: \t") || looksNumeric(s) {
		f.fault("%q is no address and no interface; write an address, an interface name or any", s)
		return
	}
	dst.Interface = s
}

// unicast accepts an address that a host can have beyond one link.
func (f field) unicast(dst *netip.Addr, a netip.Addr) {
	switch {
	case a.Zone() != "" || a.IsLinkLocalUnicast():
		f.fault("%s is valid on one link only; use a routed address", a)
	case a.Is4In6():
		f.fault("%s is IPv4 inside IPv6; write %s", a, a.Unmap())
	case a.IsUnspecified() || a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		f.fault("%s is no address of one host; write the gateway's own address", a)
	default:
		*dst = a
	}
}

// looksNumeric reports whether s was meant as an IPv4 address.
func looksNumeric(s string) bool { return strings.Trim(s, "0123456789.") == "" }

// isHostName follows RFC 1123 2.1: labels of letters, digits and hyphens, and no
// name that consists of digits and dots.
func isHostName(s string) bool {
	if len(s) > 253 || looksNumeric(s) {
		return false
	}
	for _, label := range strings.Split(strings.TrimSuffix(s, "."), ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-') {
				return false
			}
		}
	}
	return true
}

// identity reads exactly one of the three forms.
func (o *object) identity(dst *Identity) {
	const forms = "give subject, or sign_subject and enc_subject, or sign_fingerprint and enc_fingerprint"
	subject := o.get("subject")
	signSubject, encSubject := o.get("sign_subject"), o.get("enc_subject")
	signPrint, encPrint := o.get("sign_fingerprint"), o.get("enc_fingerprint")
	subject.name4514(&dst.Subject)
	signSubject.name4514(&dst.SignSubject)
	encSubject.name4514(&dst.EncSubject)
	signPrint.fingerprint(&dst.SignFingerprint)
	encPrint.fingerprint(&dst.EncFingerprint)

	count := 0
	for _, given := range []bool{
		subject.here, signSubject.here || encSubject.here, signPrint.here || encPrint.here,
	} {
		if given {
			count++
		}
	}
	if o.node.kind == kindBad {
		return
	}
	switch {
	case count == 0:
		o.r.fault(o.node.line, o.path, "the peer's identity is missing; %s", forms)
		return
	case count > 1:
		o.r.fault(o.node.line, o.path, "the peer's identity has more than one form; %s", forms)
		return
	}
	halves(signSubject, encSubject)
	halves(signPrint, encPrint)
	if dst.SignFingerprint != "" && dst.SignFingerprint == dst.EncFingerprint {
		encPrint.fault("equals sign_fingerprint, but the two certificates differ; give that of the encryption certificate")
	}
}

// halves reports the missing half of a pair.
func halves(a, b field) {
	switch {
	case a.here && !b.here:
		a.fault("stands alone; give %s too", lastKey(b.path))
	case b.here && !a.here:
		b.fault("stands alone; give %s too", lastKey(a.path))
	}
}

func lastKey(path string) string { return path[strings.LastIndexByte(path, '.')+1:] }

// name4514 reads a distinguished name. Its attributes are compared by
// policy/trust; what is refused here could never be one.
func (f field) name4514(dst *string) {
	var s string
	f.text(&s)
	if s == "" {
		return
	}
	if at := strings.IndexByte(s, '='); at <= 0 || at == len(s)-1 {
		f.fault("%q is no distinguished name; write it as CN=gw-b,O=Lab,C=CN", s)
		return
	}
	*dst = s
}

// fingerprint reads an SM3 digest.
func (f field) fingerprint(dst *string) {
	s, ok := f.word() // 64 digits alone look like a number to YAML
	if !ok {
		return
	}
	s = strings.ToLower(s)
	if len(s) != 64 || strings.Trim(s, "0123456789abcdef") != "" {
		f.fault("%q is no fingerprint; write the 64 hex digits of the SM3 of the certificate", s)
		return
	}
	*dst = s
}
