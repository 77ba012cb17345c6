package foreign

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"yumen/policy"
)

// ends is who the two gateways of an entry are, from that box's side.
type ends struct {
	view         *view // ike profile or ike peer
	local        netip.Addr
	localFrom    *line
	remote       string
	remoteFrom   *line
	proposal     *view
	proposalFrom *line
}

// peer finds or makes the peer of an entry: the box itself; nil where there are too
// many.
func (im *importer) peer(p *view) *item {
	e := im.ends(p)
	name := ""
	if e.view != nil {
		name = cleanName(e.view.open.at(2))
	}
	key := fmt.Sprint(name, e.local, e.remote)
	for _, old := range im.peers {
		if old.key == key {
			return old
		}
	}
	if len(im.peers) == maxPeers {
		return nil
	}
	if name == "" {
		name = cleanName(im.dump.sysname())
	}
	if name == "" {
		name = "peer"
	}
	out := &item{name: im.free(name), key: key}
	im.peers = append(im.peers, out)
	im.addresses(out, e)
	out.set("ca", policy.Placeholder+"-ca.crt", nil, "the CA of their certificates: ask for it")
	im.subject(out, e)
	life := im.proposal(e.proposal)
	im.profile(out, e)
	if life != nil {
		text, note := span(life.words[len(life.words)-1], 86400)
		out.set("ike_lifetime", text, life, note)
	}
	im.dpd(out, e)
	return out
}

// free makes a name that no other peer has.
func (im *importer) free(name string) string {
	for n := 1; ; n++ {
		try := name
		if n > 1 {
			try = fmt.Sprintf("%s-%d", name, n)
		}
		taken := false
		for _, p := range im.peers {
			taken = taken || p.name == try
		}
		if !taken {
			return try
		}
	}
}

func (im *importer) ends(p *view) ends {
	e := ends{}
	ref, kind, remote, local := "ike-profile", "profile", "remote-address", []string{"local-address"}
	if im.vendor == Huawei {
		ref, kind, local = "ike-peer", "peer", []string{"tunnel", "local"}
	}
	from := p
	if l := p.find(ref); l == nil {
		im.missing(p, "it names no %s, so how it proves who it is is not known", ref)
	} else if e.view = im.dump.find("ike", kind, l.at(1)); e.view == nil {
		l.conflict(fmt.Sprintf("ike %s %s is not in the dump", kind, l.at(1)))
	} else {
		l.take()
		e.view.open.take()
		if im.vendor == Huawei {
			from = e.view
		}
	}
	if l := from.find(remote); l != nil {
		e.remote, e.remoteFrom = lastAddress(l), l
	}
	if l := p.find(local...); l != nil {
		if a, err := netip.ParseAddr(lastAddress(l)); err == nil && usable(a) {
			e.local, e.localFrom = a, l
		}
	}
	if !e.local.IsValid() {
		e.local, e.localFrom = im.applied(p.open.at(2))
	} else {
		im.applied(p.open.at(2))
	}
	for _, l := range e.view.all("keychain") {
		if k := im.dump.find("ike", "keychain", l.at(1)); k != nil {
			k.open.conflict(noSharedKey)
		}
	}
	im.findProposal(&e)
	return e
}

// lastAddress is the word of a line that is an address, or else what stands where
// one is expected.
func lastAddress(l *line) string {
	for _, w := range l.words[1:] {
		if _, err := netip.ParseAddr(w); err == nil {
			return w
		}
	}
	for _, w := range l.words[1:] {
		if !oneOf(w, "ipv6", "local", "host-name", "authentication-address", "primary") {
			return w
		}
	}
	return ""
}

// findProposal is the IKE proposal of the profile; without a word the box offers
// all of them.
func (im *importer) findProposal(e *ends) {
	key := "proposal"
	if im.vendor == Huawei {
		key = "ike-proposal"
	}
	if l := e.view.find(key); l != nil {
		if e.proposal = im.dump.find("ike", "proposal", l.at(1)); e.proposal == nil {
			l.conflict(fmt.Sprintf("ike proposal %s is not in the dump", l.at(1)))
			return
		}
		l.take()
	} else if all := im.dump.all("ike", "proposal"); len(all) > 0 {
		e.proposal = all[0]
	} else if e.view != nil {
		im.missing(e.view, "no ike proposal is in the dump, and the box's default is not GB/T 36968")
	}
}

func (im *importer) addresses(out *item, e ends) {
	if e.local.IsValid() {
		out.set("remote", e.local.String(), e.localFrom, "")
	} else {
		out.set("remote", "fill-in.invalid", nil, "the far end's address is not in the dump")
	}
	if e.remoteFrom == nil {
		return
	}
	a, err := netip.ParseAddr(e.remote)
	switch {
	case err != nil || !usable(a):
		e.remoteFrom.leave("they call us by a name or a range: see that it leads to this gateway")
	case e.local.IsValid() && e.local.Is4() != a.Is4():
		e.remoteFrom.conflict("is of another family than the box's own address")
	default:
		out.set("local", a.String(), e.remoteFrom, "whom they call; any, where NAT stands between")
	}
}

// subject reads the name that the box asks certificates for.
func (im *importer) subject(out *item, e ends) {
	var entity *view
	if l := e.view.find("certificate", "domain"); l != nil {
		d := im.dump.find("pki", "domain", l.take().at(2))
		entity = im.entity(d, d.find("certificate", "request", "entity"), 3)
	}
	if l := e.view.find("pki", "realm"); l != nil {
		d := im.dump.find("pki", "realm", l.take().at(2))
		entity = im.entity(d, d.find("entity"), 1)
	}
	for _, l := range e.view.all("certificate") {
		l.leave("a file of that box: ask for the certificate itself")
	}
	text, from := dn(entity)
	if text == "" {
		out.set("subject", "CN="+policy.Placeholder, nil, "of both of their certificates: `yumen pki show` prints it")
		return
	}
	out.set("subject", text, from, "of the request, their order: compare with `yumen pki show`")
}

func (im *importer) entity(d *view, ref *line, at int) *view {
	if d == nil {
		return nil
	}
	d.open.take()
	if ref == nil {
		return nil
	}
	v := im.dump.find("pki", "entity", ref.take().at(at))
	if v != nil {
		v.open.take()
	}
	return v
}

// dn puts a name together from a PKI entity (RFC 4514).
func dn(v *view) (text string, first *line) {
	if l := v.find("subject-dn"); l != nil && strings.Contains(l.at(1), "=") {
		return strings.TrimSpace(strings.TrimPrefix(l.take().text, l.words[0])), l
	}
	var parts []string
	for _, p := range [][2]string{{"common-name", "CN"}, {"organization-unit", "OU"}, {"organization", "O"},
		{"locality", "L"}, {"state", "ST"}, {"country", "C"}} {
		if l := v.find(p[0]); l != nil && len(l.words) == 2 {
			parts = append(parts, p[1]+"="+escapeDN(l.take().words[1]))
			if first == nil {
				first = l
			}
		}
	}
	return strings.Join(parts, ","), first
}

func escapeDN(s string) string {
	return strings.NewReplacer(`\`, `\\`, ",", `\,`, "+", `\+`, `"`, `\"`, "<", `\<`, ">", `\>`, ";", `\;`, "=", `\=`).Replace(s)
}

// profile chooses the profile of the peer and the knobs that differ from it.
func (im *importer) profile(out *item, e ends) {
	if im.vendor == Huawei {
		out.set("profile", policy.Huawei.String(), nil, "")
		im.huaweiKnobs(out, e)
		return
	}
	sm4 := im.dump.find("ike", "gm-main", "sm4-version")
	if sm4 == nil {
		out.set("profile", policy.H3C.String(), nil, "")
	} else if oneOf(sm4.open.at(3), "draft") {
		out.set("profile", policy.H3CDraft.String(), sm4.open, "")
	} else {
		out.set("profile", policy.H3C.String(), sm4.open, "")
	}
	if l := e.view.find("exchange-mode"); l != nil {
		expect(l, l.at(1), "gm-main")
	} else if e.view != nil {
		im.missing(e.view, "exchange-mode is not there, so it is main; set gm-main")
	}
	im.h3cIdentities(out, e)
}

// h3cIdentities reads what the ends call themselves in messages 3 and 4.
func (im *importer) h3cIdentities(out *item, e ends) {
	own := e.view.find("local-identity")
	if own == nil {
		if g := im.dump.find("ike", "identity"); g != nil {
			own = &line{number: g.open.number, text: g.open.text, words: g.open.words[1:]}
			g.open.take()
		}
	}
	if own != nil && oneOf(own.at(1), "fqdn", "user-fqdn") && own.at(2) != "" {
		out.knob("peer_id", quote(own.at(2)), own)
	} else if own != nil {
		own.take()
	}
	for _, l := range e.view.all("match", "remote", "certificate") {
		for _, v := range im.dump.all("pki", "certificate", "access-control-policy", l.take().at(3)) {
			v.open.leave("it says which names they accept: ours must be among them")
		}
	}
	if l := e.view.find("match", "remote", "identity"); l != nil {
		im.calledUs(out, l, l.at(3), l.at(4))
	}
}

// calledUs sets what we must call ourselves because they look for it.
func (im *importer) calledUs(out *item, l *line, kind, id string) {
	switch a, err := netip.ParseAddr(id); {
	case oneOf(kind, "dn"):
		l.take()
	case oneOf(kind, "address", "ip") && err == nil && usable(a):
		out.knob("id_type", "ip", l)
		out.knob("id", quote(id), l)
	case oneOf(kind, "fqdn", "user-fqdn", "key-id") && id != "":
		out.knob("id_type", strings.ToLower(kind), l)
		out.knob("id", quote(id), l)
	default:
		l.leave("it says which gateways they accept: ours must be among them")
	}
}

func (im *importer) huaweiKnobs(out *item, e ends) {
	if l := e.view.find("exchange-mode"); l != nil {
		expect(l, l.at(1), "main", "auto")
	}
	if l := e.view.find("version"); l != nil {
		expect(l, l.at(1), "1")
	}
	if l := e.view.find("undo", "version"); l != nil {
		expect(l, l.at(2), "2")
	}
	if l := e.view.find("nat", "traversal"); l != nil {
		out.knob("nat_t", "true", l)
	}
	if l := e.view.find("undo", "nat", "traversal"); l != nil {
		l.take() // what the profile says
	}
	if l := e.view.find("dpd", "msg"); l != nil {
		order := "hash-first"
		if oneOf(l.at(2), "seq-notify-hash") {
			order = "notify-first"
		}
		out.knob("dpd_order", order, l)
	}
	kind, id := e.view.find("local-id-type"), e.view.find("local-id")
	if kind != nil {
		kind.take()
	}
	if id != nil && kind != nil && oneOf(kind.at(1), "fqdn", "user-fqdn", "key-id") && id.at(1) != "" {
		out.knob("peer_id", quote(id.at(1)), id)
	}
	kind, id = e.view.find("remote-id-type"), e.view.find("remote-id")
	if kind == nil {
		return
	}
	kind.take()
	if oneOf(kind.at(1), "dn", "any", "none") {
		if id != nil {
			id.leave("the name that they expect in our signing certificate")
		}
	} else if id != nil {
		im.calledUs(out, id, kind.at(1), id.at(1))
	}
}

// dpd reads dead peer detection. The tries of the boxes count differently, so ours
// stay.
func (im *importer) dpd(out *item, e ends) {
	var l *line
	at := 0
	if im.vendor == Huawei {
		if l = e.view.find("dpd", "idle-time"); l != nil {
			at = 2
		}
	} else {
		if l = e.view.find("dpd", "interval"); l == nil {
			if g := im.dump.find("ike", "dpd", "interval"); g != nil {
				l = g.open
				at = 1
			}
		}
		at += 2
	}
	if l == nil {
		return
	}
	n := number(l.at(at))
	if n == 0 || time.Duration(n)*time.Second > time.Hour {
		l.leave("its time is not one of ours")
		return
	}
	tries, note := 3, ""
	if r := e.view.find("dpd", "retry-limit"); r != nil {
		if t := number(r.at(2)); t >= 1 && t <= 100 {
			tries = int(t)
			r.take()
		}
	}
	if im.vendor == H3C && oneOf(l.words[len(l.words)-1], "on-demand") {
		note = "they probe on demand only"
	}
	out.set("dpd", fmt.Sprintf("{interval: %ds, tries: %d}", n, tries), l, note)
}
