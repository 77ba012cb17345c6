package probe

import (
	"slices"
	"time"

	"yumen/ike"
	"yumen/ike/wire"
	"yumen/policy"
)

// patience is how long a caller may take from message 1 to message 5.
const patience = 90 * time.Second

// Listener waits for the far end to call once, answers in kind and notes what it
// shows. Of all that it takes nothing stays: sessions and tunnels are deleted.
type Listener struct {
	cfg   Config
	host  host
	entry policy.Peer // as the engine has it
	rep   *Report

	callers callers
	met     bool      // a message 3 came that is to be of the far end
	known   bool      // and its signature verified
	until   time.Time // when listening ends; zero: nobody called yet
	quick   bool      // a quick mode showed itself and ended
	done    bool
}

// NewListener returns a Listener for the first peer of the policy.
func NewListener(cfg Config) (*Listener, error) {
	l := &Listener{cfg: cfg, entry: cfg.peer(), rep: newReport("no message showed it")}
	l.entry.Remote = cfg.from()
	l.entry.Profile, l.entry.PathProbe = policy.Auto, policy.ProbeOff
	l.entry.DPD = policy.DPD{Interval: cfg.wait(), Tries: askTries}
	d := &l.entry.Dialect
	d.GMVersion0, d.AnyTransform, d.ZeroPad, d.AllowNarrowing = true, true, true, true
	d.Exact, d.StrictLifetime, d.KeyLength, d.Initiate = false, false, policy.KeyLengthOmit, policy.InitiateThem
	d.PeerID, d.SendCerts = "", policy.CertsBoth
	l.rep.untold("initiate", "it did not call")
	l.rep.untold("hashr_sa", "only who is called sends HASH_R")
	return l, l.host.begin(l.config())
}

// How often a Dialer asks whether the far end lives, for the answer shows how it
// writes. A Listener is silent first: who hears something does not ask (RFC 3706
// 5.5), and a question shows more. It is never given up.
const (
	askEvery = 3 * time.Second
	askTries = 1 << 20
	askLast  = 4 * time.Second // that a Listener waits for the answer
)

// config is that of the engine, for the entry as it is now.
func (l *Listener) config() ike.Config {
	c := l.cfg.Engine
	p := *c.Policy
	p.Peers, p.Tunnels = []policy.Peer{l.entry}, slices.Clone(p.Tunnels)
	p.Tunnels = slices.DeleteFunc(p.Tunnels, func(t policy.Tunnel) bool { return t.Peer != l.entry.Name })
	for i := range p.Tunnels {
		p.Tunnels[i].Start = policy.StartNone
		p.Tunnels[i].Suites = []policy.Suite{policy.SM4CBCHMACSM3, policy.SM4GCM128}
	}
	c.Policy, c.Learned = &p, nil
	c.Hear = &ike.Hearing{UserIDs: l.cfg.UserIDs}
	return c
}

// Step is that of Machine.
func (l *Listener) Step(now time.Time, in ike.Input) ike.Output {
	if l.done {
		return ike.Output{}
	}
	switch in := in.(type) {
	case ike.Stop:
		return l.finish(now)
	case ike.Datagram:
		if r := l.entry.Remote; r.Addr.IsValid() && in.Remote.Addr() != r.Addr {
			l.rep.once("%v is not read: the far end is to call from %v", in.Remote.Addr(), r.Addr)
			return ike.Output{Wake: earlier(l.host.wake, l.until)}
		}
		l.watch(now, in)
	case ike.Tick:
		switch {
		case l.until.IsZero() || now.Before(l.until):
		case l.met || !l.entry.Remote.Any:
			return l.finish(now)
		default: // somebody else called: the far end may yet
			l.until = time.Time{}
		}
	}
	out := l.host.step(now, in)
	changed := false
	for _, h := range out.Heard {
		changed = l.hear(h) || changed
	}
	for _, v := range out.Events {
		l.event(now, v)
	}
	if changed { // the far end repeats what was refused
		out = join(out, l.host.step(now, ike.Reload{Config: l.config()}))
	}
	out.Wake = earlier(l.host.wake, l.until)
	return out
}

// watch reads what stands in clear.
func (l *Listener) watch(now time.Time, d ike.Datagram) {
	h, err := wire.ParseHeader(d.Data)
	if err != nil || h.Exchange != wire.MainMode || h.Flags != 0 {
		return
	}
	x, err := show(h, d.Data)
	switch {
	case h.Next == wire.TypeSA && h.Responder == (wire.Cookie{}) && err != nil:
		l.rep.once("message 1 of %v: %v", d.Remote.Addr(), err)
	case h.Next == wire.TypeSA && h.Responder == (wire.Cookie{}):
		if l.until.IsZero() {
			l.until = now.Add(patience)
		}
		l.rep.once("a call from %v", d.Remote.Addr())
		l.callers.note(d.Remote.Addr(), h.Initiator, x)
	case h.Next == wire.TypeSK && err == nil:
		if c := l.callers.of(d.Remote.Addr(), h.Initiator); c != nil {
			c.third, c.certs = true, x.certs
		}
	}
}

// first notes what message 1 shows.
func (l *Listener) first(x showing) {
	l.rep.oneOf("initiate", "that it calls does not say whether it answers", "either", "them")
	l.rep.seen("gm_version", versionWord(x.version))
	switch x.cipher {
	case 129:
		l.rep.seen("ike_sm4_id", "129")
	case 127:
		l.rep.seen("ike_sm4_id", "127")
	default:
		l.rep.untold("ike_sm4_id", "it offers an encryption algorithm that is no number of SM4")
		l.rep.note("message 1 offers the encryption algorithm %d, which no profile has", x.cipher)
	}
	if x.keyLength {
		l.rep.seen("key_length", "send")
	} else {
		l.rep.oneOf("key_length", "only who is called can refuse one", "omit", "refuse")
	}
	l.rep.vendors(x)
}

// hear takes over what the engine heard, and reports whether the entry has changed
// so that the next copy of the message will pass.
func (l *Listener) hear(h ike.Heard) (changed bool) {
	if h.In != ike.InFields || l.identified(h) {
		l.rep.heard(h)
	}
	switch {
	case h.In == ike.InFields:
		d := l.entry.Dialect
		if h.Known {
			d.SM2ID = h.Accent.SM2ID
		}
		if id := strange(h); id != "" && h.Refused != "" {
			d.PeerID = id
		}
		changed = h.Refused != "" && d != l.entry.Dialect
		l.entry.Dialect = d
	case h.In == ike.InQuick:
		l.rep.offer(h.SA)
	}
	return changed
}

// event follows how far the far end comes.
func (l *Listener) event(now time.Time, v ike.Event) {
	switch v.Kind {
	case ike.IKEUp:
		if l.rep.Session {
			break // the first counts: one that comes again and again shall not keep us
		}
		l.rep.Session = true
		l.rep.note("session established with %s", v.Detail)
		l.until = now.Add(l.cfg.wait() + askLast)
		l.rep.untold("dpd_spi", "it did not ask whether we live while it was listened to (--wait)")
		l.rep.untold("dpd_order", "it neither asked whether we live nor answered while it was listened to (--wait)")
		l.rep.untold("qm_hash", "it began no quick mode")
		l.rep.untold("esp_sm4_id", "it began no quick mode")
		l.rep.untold("esp_gcm_id", "it began no quick mode")
	case ike.ChildUp, ike.ChildRekeyed:
		l.rep.Child, l.quick = true, true
		l.rep.note("tunnel %s came up", v.Tunnel)
	case ike.Refused:
		l.quick = l.quick || l.rep.Session && v.Peer != "" && !v.Claimed
		l.rep.once("refused: %s: %s", v.Reason, v.Detail)
	case ike.Dropped:
		l.rep.once("dropped: %s: %s", v.Reason, v.Detail)
	}
	if l.quick && l.rep.Of("dpd_spi").Standing == Seen {
		l.until = earlier(l.until, now.Add(time.Second))
	}
}

// finish deletes what was built and ends.
func (l *Listener) finish(now time.Time) ike.Output {
	out := l.host.step(now, ike.Stop{})
	l.done = true
	l.strangers()
	entry := l.cfg.peer()
	entry.Dialect.PeerID, entry.Dialect.SM2ID = l.entry.Dialect.PeerID, l.entry.Dialect.SM2ID
	l.rep.finish(entry)
	return ike.Output{Packets: out.Packets, Events: out.Events}
}

// Status is that of Machine.
func (l *Listener) Status() ike.Status { return l.host.status() }

// Done is that of Machine.
func (l *Listener) Done() bool { return l.done }

// Report is what was found out; whole once Done.
func (l *Listener) Report() *Report { return l.rep }

var _ Machine = (*Listener)(nil)

// once notes a line that was not noted before, and no flood of them.
func (r *Report) once(format string, args ...any) {
	before := len(r.Notes)
	r.note(format, args...)
	last := r.Notes[before]
	if before >= maxNotes || slices.Contains(r.Notes[:before], last) {
		r.Notes = r.Notes[:before]
	}
}

const maxNotes = 60
