package probe

import (
	"fmt"
	"net/netip"
	"slices"

	"yumen/ike"
	"yumen/ike/wire"
	"yumen/policy"
)

// Whoever reaches UDP 500 can call: messages 1 and 3 say of the far end nothing until
// the certificates and the signature of message 3 do. So what stands in clear is kept
// for each caller, and is a finding once that caller is known.

// maxCallers is how many callers are kept; the oldest goes first.
const maxCallers = 64

// caller is who sent a message 1, and what stood in clear in it and in its message 3.
type caller struct {
	from   netip.Addr
	cookie wire.Cookie
	first  showing
	third  bool // a message 3 came
	certs  []wire.CertEncoding
}

// callers are those of a Listener, the oldest first.
type callers []*caller

// of is the caller at an address under a cookie; nil: none.
func (c callers) of(from netip.Addr, cookie wire.Cookie) *caller {
	i := slices.IndexFunc(c, func(o *caller) bool { return o.from == from && o.cookie == cookie })
	if i < 0 {
		return nil
	}
	return c[i]
}

// note keeps what a message 1 shows.
func (c *callers) note(from netip.Addr, cookie wire.Cookie, x showing) {
	if c.of(from, cookie) != nil {
		return
	}
	if len(*c) >= maxCallers {
		*c = (*c)[1:]
	}
	*c = append(*c, &caller{from: from, cookie: cookie, first: x})
}

// String says what a caller that is not known showed.
func (c *caller) String() string {
	x := c.first
	s := fmt.Sprintf("a caller at %v, which nothing proves to be the far end, offers header %s, encryption algorithm %d, key length %v",
		c.from, versionWord(x.version), x.cipher, x.keyLength)
	if c.third {
		s += fmt.Sprintf(", and sends %d certificates", len(c.certs))
	}
	return s
}

// from is where the far end calls from: the address given, else that of its entry,
// else any.
func (c Config) from() policy.Remote {
	switch r := c.peer().Remote; {
	case c.Remote.IsValid() && !c.Remote.IsUnspecified():
		return policy.Remote{Addr: c.Remote}
	case r.Addr.IsValid():
		return policy.Remote{Addr: r.Addr}
	}
	return policy.Remote{Any: true} // also for a name, which only who calls looks up
}

// identified takes over what a caller showed whose message 3 was read: its signature
// verified, or, where no user ID fits, the certificates in it are those of the entry.
// The latter says less, and nothing against the former.
func (l *Listener) identified(h ike.Heard) (believed bool) {
	l.met = true
	c := l.callers.of(h.Remote.Addr(), h.CookieI)
	switch {
	case h.Known:
		l.known = true
	case l.known || h.Refused == ike.BadEnvelope || c == nil || len(c.certs) == 0:
		return false
	}
	if c != nil {
		l.first(c.first)
		l.third(c)
	}
	return true
}

// third notes which certificates stood in a message 3.
func (l *Listener) third(c *caller) {
	switch {
	case !c.third: // it came in pieces
	case len(c.certs) == 0:
		l.rep.seen("send_certs", "none")
		l.rep.untold("cert_order", "it sends no certificates")
	default:
		l.rep.oneOf("send_certs", "only message 2 shows which", "both", "m3")
		l.rep.certOrder(c.certs)
	}
}

// strangers notes, where nobody was identified, who called.
func (l *Listener) strangers() {
	if l.known || len(l.callers) == 0 {
		return
	}
	for _, knob := range []string{"initiate", "gm_version", "ike_sm4_id", "key_length", "nat_t", "send_dpd_vid", "send_own_vid", "send_certs", "cert_order"} {
		l.rep.untold(knob, "nothing proves that a caller was the far end")
	}
	if l.rep.Of("gm_version").Standing == Untold {
		for _, c := range l.callers {
			l.rep.once("%v", c)
		}
	}
}
