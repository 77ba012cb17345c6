package probe

import (
	"slices"
	"time"

	"yumen/ike"
	"yumen/ike/wire"
	"yumen/policy"
)

// Limits of the handshakes of a Dialer.
const (
	fewHandshakes = 12
	proofWait     = 8 * time.Second // from message 1 to message 4, and again to message 6
	quickWait     = 8 * time.Second // from there to the end of quick mode
)

// Dialer calls the far end: first with messages 1 that ask for nothing but an
// answer, then, with credentials, with whole handshakes in ranked forms, until one
// is understood. What it built it deletes.
type Dialer struct {
	cfg   Config
	rep   *Report
	knock *knocks
	host  host

	forms  []combo // of message 3, that were not tried
	quick  []policy.Dialect
	speak  policy.Dialect // of the handshake under way
	peerID string
	stage  stage
	ends   time.Time // of the stage
	bare   bool      // no tunnel is known: quick mode is left out
	done   bool
}

// stage is how far a handshake has come.
type stage uint8

const (
	idle      stage = iota // before the first, and between two
	called                 // message 1 was sent
	answering              // message 2 came, or 4
	standing               // M6 was good
	through                // so was a quick mode
)

// NewDialer returns a Dialer for the first peer of the policy.
func NewDialer(cfg Config) *Dialer {
	r := newReport("only who opens message 3 or sends message 4 shows it, and that needs credentials (--peer)")
	d := &Dialer{cfg: cfg, rep: r, knock: newKnocks(cfg.Engine.Rand, cfg.Remote, r)}
	r.untold("initiate", "nothing was answered")
	return d
}

// Step is that of Machine.
func (d *Dialer) Step(now time.Time, in ike.Input) ike.Output {
	if d.done {
		return ike.Output{}
	}
	var out ike.Output
	switch x := in.(type) {
	case ike.Stop:
		return d.finish(now, "stopped")
	case ike.Datagram:
		if x.Remote.Addr() != d.cfg.Remote {
			return ike.Output{Wake: d.wake()}
		}
		d.knock.hear(now, x)
	}
	if !d.knock.over {
		out.Packets = d.knock.step(now)
		if d.knock.over {
			out = join(out, d.afterKnocks(now))
		}
		out.Wake = d.wake()
		return out
	}
	out = d.feed(now, in)
	if !d.done && !d.ends.IsZero() && !now.Before(d.ends) {
		out = join(out, d.timeUp(now))
	}
	out.Wake = d.wake()
	return out
}

func (d *Dialer) wake() time.Time {
	if d.done {
		return time.Time{}
	}
	return earlier(earlier(d.knock.wake(), d.host.wake), d.ends)
}

// afterKnocks begins the handshakes, or ends.
func (d *Dialer) afterKnocks(now time.Time) ike.Output {
	switch {
	case d.knock.base == nil:
		return d.finish(now, "")
	case !d.cfg.Credentials:
		return d.finish(now, "")
	case d.rep.Of("send_certs").Values[0] == "m3" && d.cfg.Engine.Files[d.cfg.peer().Name].Sign == nil:
		return d.finish(now, "message 2 has no certificates: copy them from the far end and name them in peer_certs")
	}
	base := d.knock.dialect(d.cfg.peer().Dialect)
	base.Exact, base.ZeroPad, base.AllowNarrowing, base.StrictLifetime = false, true, true, false
	base.Initiate, base.AnyTransform, base.SendCerts = policy.InitiateEither, false, policy.CertsBoth
	d.forms = combos(base, d.cfg.Engine.Own, d.cfg.UserIDs, d.rep.Of("cert_order").Standing != Seen)
	d.bare = len(d.tunnels()) == 0
	for _, knob := range []string{"sk_encoding", "field_pad", "id_iv", "id_type", "id", "id_cert", "sig_encoding", "sig_cert_body", "sm2_id",
		"hashr_sa"} {
		d.rep.Of(knob).Because = "no message 3 was understood"
	}
	for _, knob := range []string{"qm_hash", "esp_sm4_id", "esp_gcm_id", "dpd_spi", "dpd_order"} {
		d.rep.Of(knob).Because = "no session stood"
	}
	return d.handshake(now)
}

// tunnels are those to the peer. One is enough.
func (d *Dialer) tunnels() (out []policy.Tunnel) {
	for _, t := range d.cfg.Engine.Policy.Tunnels {
		if t.Peer == d.cfg.peer().Name && len(out) == 0 {
			t.Start, t.Suites = policy.StartNow, []policy.Suite{policy.SM4CBCHMACSM3, policy.SM4GCM128}
			out = append(out, t)
		}
	}
	return out
}

// handshake begins the next one, or ends.
func (d *Dialer) handshake(now time.Time) ike.Output {
	d.stage, d.ends = idle, time.Time{}
	switch {
	case d.rep.Handshakes >= fewHandshakes && !d.cfg.Exhaustive:
		return d.finish(now, "12 handshakes came to nothing; --exhaustive tries the rest")
	case len(d.quick) > 0:
		d.speak, d.quick = d.quick[0], d.quick[1:]
	case len(d.forms) > 0 && !d.rep.Session:
		d.speak, d.forms = d.forms[0].dialect, d.forms[1:]
	default:
		return d.finish(now, "every form was tried")
	}
	d.rep.Handshakes++
	if err := d.host.begin(d.config()); err != nil {
		return d.finish(now, err.Error())
	}
	d.stage, d.ends = called, now.Add(proofWait)
	return d.feed(now, ike.Tick{})
}

// config is that of the engine for one handshake.
func (d *Dialer) config() ike.Config {
	c := d.cfg.Engine
	p, entry := *c.Policy, d.cfg.peer()
	entry.Remote, entry.Profile, entry.Dialect = policy.Remote{Addr: d.cfg.Remote}, policy.GBT36968, d.speak
	entry.Dialect.PeerID = d.peerID
	entry.Dialect.Initiate = policy.InitiateUs // a call of its own would be taken for the answer to ours
	entry.DPD, entry.PathProbe = policy.DPD{Interval: askEvery, Tries: askTries}, policy.ProbeOff
	p.Peers, p.Tunnels = []policy.Peer{entry}, d.tunnels()
	if d.bare {
		any4 := policy.Net{First: d.cfg.Remote, Last: d.cfg.Remote}
		p.Tunnels = []policy.Tunnel{{Name: "probe", Peer: entry.Name, Selector: policy.Selector{Local: any4, Remote: any4},
			Suites: []policy.Suite{policy.SM4CBCHMACSM3}, ICVBits: 96, Start: policy.StartNow, Lifetime: time.Hour, Window: 64}}
	}
	c.Policy, c.Learned = &p, nil
	c.Hear = &ike.Hearing{UserIDs: d.cfg.UserIDs}
	return c
}

// feed gives the engine an input and follows what it says.
func (d *Dialer) feed(now time.Time, in ike.Input) ike.Output {
	if d.stage == idle {
		return ike.Output{}
	}
	out := d.host.step(now, in)
	if d.bare { // never asked for: it would protect something
		out.Packets = withoutQuick(out.Packets)
	}
	for _, h := range out.Heard {
		d.hear(now, h)
	}
	next := false
	for _, v := range out.Events {
		next = d.event(now, v) || next
	}
	if !next && d.stage == through && d.rep.Of("dpd_order").Standing == Seen {
		return join(out, d.finish(now, ""))
	}
	if next {
		out = join(out, d.giveUp(now))
	}
	return out
}

func withoutQuick(ps []ike.Datagram) (out []ike.Datagram) {
	for _, p := range ps {
		if h, err := wire.ParseHeader(p.Data); err == nil && h.Exchange != wire.QuickMode {
			out = append(out, p)
		}
	}
	return out
}

// hear takes over what the engine heard.
func (d *Dialer) hear(now time.Time, h ike.Heard) {
	if h.In == ike.InQuick && h.Accent.QMHash == d.speak.QMHash { // perhaps in kind
		d.rep.tried("qm_hash", h.Accent.QMHash.String(), true)
		return
	}
	d.rep.heard(h)
	if h.In != ike.InFields {
		return
	}
	d.understood()
	d.ends = now.Add(proofWait)
	if id := strange(h); id != "" && d.peerID == "" && h.Refused != "" {
		// Say who it is and call once more in the same form.
		d.peerID = id
		d.quick = append([]policy.Dialect{d.speak}, d.quick...)
		d.ends = now
	}
}

// understood notes that message 3 was: an answer came that only the holder of the
// key could write. What it takes beside, nobody knows.
func (d *Dialer) understood() {
	if d.stage == called {
		d.stage = answering
	}
}

// tolerance notes that the far end took a message 3 in a form that is not that of its
// message 4. That of message 1 it can do and be strict in all else.
func (d *Dialer) tolerance() {
	for _, k := range d.speak.Words() {
		f := d.rep.Of(k.Name)
		switch k.Name {
		case "sk_encoding", "field_pad", "id_iv", "sig_encoding", "sig_cert_body":
			if f.Standing == Seen && !slices.Contains(f.Values, k.Value) {
				d.rep.tried("accept", "any", true)
				d.rep.Of("accept").Because = "it took " + k.String() + ", which is not its own form; what else it takes is not known"
			}
		}
	}
}

// event follows how far a handshake comes, and reports whether it is over.
func (d *Dialer) event(now time.Time, v ike.Event) (over bool) {
	switch v.Kind {
	case ike.IKEDown: // by the far end: what follows is for us to begin, and to count
		if d.stage == through {
			d.ends = now
			return false
		}
		return true
	case ike.IKEUp:
		d.stage, d.ends = standing, now.Add(quickWait)
		if !d.rep.Session {
			d.rep.note("session established with %s in the form %v", v.Detail, d.speak.Against(policy.GBT36968.Dialect()))
			d.quick = quickForms(d.speak)[1:]
		}
		d.rep.Session = true
		d.tolerance()
		for _, knob := range []string{"dpd_spi", "dpd_order"} {
			d.rep.Of(knob).Because = "it neither asked nor answered in the few seconds of the session"
		}
		if d.bare {
			d.stage = through
			d.rep.once("no tunnel to this peer is in the policy: quick mode was left out")
		}
		for _, knob := range []string{"qm_hash", "esp_sm4_id", "esp_gcm_id"} {
			d.rep.untold(knob, "no quick mode got through")
		}
	case ike.ChildUp:
		d.stage, d.rep.Child = through, true
		d.rep.note("tunnel %s came up, HASH form %v", v.Tunnel, d.speak.QMHash)
		d.rep.untold("esp_sm4_id", "it chose among what we offered")
		d.rep.untold("esp_gcm_id", "it was not asked for SM4-GCM alone")
		if d.speak.ESPSM4 != policy.ESPBoth {
			d.rep.tried("esp_sm4_id", d.speak.ESPSM4.String(), true)
		}
	case ike.IKEFailed:
		return true
	case ike.NotifyIn:
		if v.Notify < statusTypes {
			d.rep.once("it says %v", v.Notify)
			if v.Notify == wire.InvalidIDInformation && d.stage == standing {
				d.quick = nil // selectors, not forms
			}
		}
	case ike.ChildFailed:
		return d.stage == standing
	case ike.Dropped:
		d.rep.once("dropped: %s: %s", v.Reason, v.Detail)
	}
	return false
}

// timeUp ends a stage that took too long.
func (d *Dialer) timeUp(now time.Time) ike.Output {
	switch d.stage {
	case idle:
		return d.handshake(now)
	case through:
		return d.finish(now, "")
	}
	return d.giveUp(now)
}

// giveUp deletes what stands of a handshake and waits for the next.
func (d *Dialer) giveUp(now time.Time) ike.Output {
	out := d.host.step(now, ike.Stop{})
	d.host.drop()
	d.stage, d.ends = idle, now.Add(pause)
	return ike.Output{Packets: out.Packets}
}

// finish deletes what was built and ends.
func (d *Dialer) finish(now time.Time, why string) ike.Output {
	var out ike.Output
	if d.host.engine != nil {
		out = d.host.step(now, ike.Stop{})
		if d.bare {
			out.Packets = withoutQuick(out.Packets)
		}
	}
	d.done = true
	if why != "" {
		d.rep.note("%s", why)
	}
	entry := d.cfg.peer()
	entry.Remote, entry.Dialect.PeerID = policy.Remote{Addr: d.cfg.Remote}, d.peerID
	if d.rep.Session {
		entry.Dialect = d.proven(entry.Dialect)
	}
	d.rep.finish(entry)
	return ike.Output{Packets: out.Packets, Events: out.Events}
}

// proven is the entry's dialect in the form in which a session stood.
func (d *Dialer) proven(entry policy.Dialect) policy.Dialect {
	s := d.speak
	s.PeerID, s.Exact, s.StrictLifetime, s.AllowNarrowing = d.peerID, entry.Exact, entry.StrictLifetime, entry.AllowNarrowing
	s.Initiate, s.SendCerts, s.ZeroPad = entry.Initiate, entry.SendCerts, s.FieldPad == policy.PadZeros
	return s
}

// Status is that of Machine.
func (d *Dialer) Status() ike.Status { return d.host.status() }

// Done is that of Machine.
func (d *Dialer) Done() bool { return d.done }

// Report is what was found out; whole once Done.
func (d *Dialer) Report() *Report { return d.rep }

var _ Machine = (*Dialer)(nil)
