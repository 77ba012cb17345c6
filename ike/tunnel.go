package ike

import (
	"cmp"
	"slices"
	"time"

	"yumen/esp"
	"yumen/policy"
)

// tunnel is one tunnel of the policy and its children.
type tunnel struct {
	e        *Engine
	lane     uint8
	head     *tunnel   // lane 0: itself
	lanes    []*tunnel // of lane 0: all, itself too
	laned    bool      // of lane 0: the peer has lanes
	peer     *peer
	entry    policy.Tunnel
	want     bool // to be up without being asked for
	stopped  bool // the operator took it down
	quick    *exchange
	queued   bool
	held     bool // a quick mode of ours waits for the peer's
	icv      int  // bits of ICV that a child told, with icv_bits: auto; 0: none yet
	current  *child
	children []*child // newest first
	failures int
	retry    alarm
	reason   Reason
	detail   string
}

// begin acts on the start mode.
func (t *tunnel) begin() {
	t.want = t.isLane0() && t.entry.Start == policy.StartNow && !t.peer.entry.Remote.Any
	t.ensure()
}

// lacking reports whether t is to be up and is not.
func (t *tunnel) lacking() bool {
	if h := t.head; !t.isLane0() && (!h.laned || h.current == nil) {
		return false
	}
	return t.head.want && !t.stopped && t.current == nil
}

// ensure does what is missing for t to come up.
func (t *tunnel) ensure() {
	if !t.lacking() || t.quick != nil || t.queued || t.e.ending || t.retry.pending() {
		return
	}
	if s := t.peer.session(); s != nil {
		s.enqueue(t)
		return
	}
	t.peer.connect()
}

// follow renews a child whose outer addresses are not those of the session that
// now leads to its peer, because ours or the peer's changed, or that an engine before
// us negotiated.
func (t *tunnel) follow(s *session) {
	c := t.current
	if c == nil || t.stopped || t.quick != nil || t.queued ||
		!c.adopted && c.Path.Local.Addr() == s.local.Addr() && c.Path.Remote.Addr() == s.remote.Addr() {
		return
	}
	s.enqueue(t)
}

// failed notes why a quick mode came to nothing and tries again later.
func (t *tunnel) failed(reason Reason, detail string) {
	t.note(reason, detail)
	wait := min(firstRetry<<min(t.failures, 8), lastRetry)
	t.failures++
	if t.lacking() && !t.e.ending {
		t.e.clock.set(&t.retry, t.e.now.Add(t.e.jitter(wait)), t.ensure)
	}
}

func (t *tunnel) note(reason Reason, detail string) { t.reason, t.detail = reason, detail }

func (e *Engine) tunnelNamed(name string) *tunnel {
	i := slices.IndexFunc(e.tunnels, func(t *tunnel) bool { return t.entry.Name == name })
	if i < 0 {
		return nil
	}
	return e.tunnels[i]
}

// operatorUp makes a tunnel wanted, whatever its start mode, and tries at once.
func (e *Engine) operatorUp(name string) {
	t := e.tunnelNamed(name)
	if t == nil || e.ending {
		return
	}
	for _, l := range t.lanes {
		l.stopped = false
	}
	t.want = true
	t.failures, t.peer.failures, t.peer.leaves, t.peer.search = 0, 0, 0, search{}
	e.clock.stop(&t.retry)
	e.clock.stop(&t.peer.retry)
	t.ensure()
}

// operatorDown takes one tunnel down, or everything.
func (e *Engine) operatorDown(name string) {
	if name == "" {
		e.endAll()
		return
	}
	if t := e.tunnelNamed(name); t != nil {
		for _, l := range t.lanes {
			l.stop(Operator)
		}
	}
}

// operatorRekey renews keys before their time.
func (e *Engine) operatorRekey(in Rekey) {
	t := e.tunnelNamed(in.Tunnel)
	switch {
	case t == nil || e.ending:
	case in.Session:
		t.peer.connect()
	default:
		for _, l := range t.lanes {
			if l.current != nil {
				l.current.rekey()
			}
		}
	}
}

// stop ends every child of t and tells the peer.
func (t *tunnel) stop(reason Reason) {
	t.stopped = true
	t.e.clock.stop(&t.retry)
	if t.quick != nil {
		t.quick.abandon(reason, "")
	}
	for _, c := range slices.Clone(t.children) {
		c.end(reason, tellPeer)
	}
}

// endAll deletes every child and every session and starts nothing more.
func (e *Engine) endAll() {
	e.ending = true
	for _, t := range e.tunnels {
		t.stop(ShutDown)
	}
	for _, p := range e.peers {
		p.rest()
		if p.dial != nil {
			p.dial.close()
		}
		for _, s := range slices.Clone(p.live) {
			s.finish(ShutDown, "")
		}
	}
	for _, s := range e.sessionList() {
		s.end()
	}
}

// plane acts on what a data plane saw.
func (e *Engine) plane(v esp.Event) {
	c := e.children[v.Child]
	switch v.Kind {
	case esp.FirstPacket:
		if c != nil {
			c.foundICV(v.ICVBits)
			c.firstPacket()
		}
	case esp.SoftLimit:
		if c != nil {
			c.rekey()
		}
	case esp.HardLimit:
		if c != nil {
			c.end(Expired, tellPeer)
		}
	case esp.Acquire:
		if t := e.tunnelNamed(v.Tunnel); t != nil && !t.stopped && t.current == nil {
			t.want = true
			t.ensure()
		}
	case esp.Moved:
		if c != nil {
			e.childMoved(c, v.Remote, v.Newest)
		}
	case esp.HostChanged:
		e.readdressed()
	case esp.UnknownSPI:
		e.unknownSPI(v)
	case esp.GuardMended:
		e.tell(Event{Kind: PlaneFailed, Reason: GuardGone, Detail: "others removed policies of the guard, or its ip rules or routes; they are set again, " +
			"and what left in between was not protected"})
	}
}

// reload puts a new configuration in place. Tunnels and peers whose entries did
// not change keep their sessions, children and timers.
func (e *Engine) reload(cfg Config) {
	if err := cfg.check(); err != nil {
		e.tell(Event{Kind: Refused, Reason: Reloaded, Detail: err.Error()})
		return
	}
	peers, tunnels := e.peers, e.tunnels
	e.configure(cfg)
	for _, t := range tunnels {
		if !slices.Contains(e.tunnels, t) {
			t.stop(Reloaded)
		}
	}
	for _, p := range peers {
		if slices.Contains(e.peers, p) {
			continue
		}
		p.rest()
		if p.dial != nil {
			p.dial.close()
		}
		for _, s := range slices.Clone(p.live) {
			s.finish(Reloaded, "")
		}
	}
	e.distrust()
	e.disown()
	for _, t := range e.tunnels {
		if !slices.Contains(tunnels, t) && e.started {
			t.begin()
		}
	}
	for _, p := range e.peers {
		if !slices.Contains(peers, p) && e.started {
			p.look()
			p.seek()
		}
	}
}

// distrust ends what stands on certificates that no longer pass, for instance
// because a new revocation list names them.
func (e *Engine) distrust() {
	for _, p := range e.peers {
		for _, s := range slices.Clone(p.live) {
			if s.proven == nil {
				continue // no certificates
			}
			err := p.verifier.Current(e.now, s.proven.pair)
			if err == nil {
				continue
			}
			for _, t := range e.tunnels {
				for _, c := range slices.Clone(t.children) {
					if t.peer == p {
						reason, _ := refusal(err)
						c.end(reason, tellPeer)
					}
				}
			}
			reason, detail := refusal(err)
			s.finish(reason, detail)
		}
	}
}

// configure takes cfg over, keeping what did not change.
func (e *Engine) configure(cfg Config) {
	peers, tunnels := e.peers, e.tunnels
	e.cfg = cfg
	e.cfg.Ports = cfg.Ports.orStandard()
	e.chains = chainCache{}
	e.peers, e.tunnels = nil, nil
	e.nonGM = slices.ContainsFunc(cfg.Policy.Peers, func(p policy.Peer) bool { return p.NonGM() != "" })
	e.learned.keep(cfg.Policy)
	for _, entry := range cfg.Policy.Peers {
		p := &peer{e: e, entry: entry}
		for _, o := range peers {
			if o.entry == entry && o.key.Equal(cfg.PreShared[entry.Name].Bytes()) {
				p = o
			}
		}
		p.verifier, p.key, p.how = cfg.Verifiers[entry.Name], cfg.PreShared[entry.Name], methodOf(entry)
		e.peers = append(e.peers, p)
	}
	e.tellPlaces()
	for _, entry := range cfg.Policy.Tunnels {
		var head *tunnel
		for lane := range uint8(max(entry.Children, 1)) {
			t := &tunnel{e: e, lane: lane, entry: entry, peer: e.peerNamed(entry.Peer)}
			for _, o := range tunnels {
				if sameTunnel(o.entry, entry) && o.lane == lane && o.peer == t.peer {
					t = o
				}
			}
			if lane == 0 {
				head, t.lanes = t, nil
			}
			t.head, head.lanes = head, append(head.lanes, t)
			e.tunnels = append(e.tunnels, t)
		}
	}
}

func sameTunnel(a, b policy.Tunnel) bool {
	if !slices.Equal(a.Suites, b.Suites) {
		return false
	}
	a.Suites, b.Suites = nil, nil
	return equalTunnels(a, b)
}

// all are the children of all lanes, newest first.
func (t *tunnel) all() (list []*child) {
	if len(t.lanes) == 1 {
		return t.children
	}
	for _, l := range t.lanes {
		list = append(list, l.children...)
	}
	slices.SortStableFunc(list, func(a, b *child) int { return cmp.Compare(b.ID, a.ID) })
	return list
}

// status collects what people ask for.
func (t *tunnel) status() TunnelStatus {
	st := TunnelStatus{Name: t.entry.Name, Peer: t.entry.Peer, LastFailure: t.reason, LastDetail: t.detail,
		Explicit: t.explicit()}
	switch {
	case t.stopped:
		st.State = "stopped"
	case t.peer.home.away:
		st.State = "standby"
	case t.current != nil:
		st.State = "up"
	case t.quick != nil || t.queued || t.peer.dial != nil || t.peer.asked != 0:
		st.State = "connecting"
	default:
		st.State = "down"
	}
	for _, a := range []*alarm{&t.retry, &t.peer.retry} {
		if a.pending() && t.current == nil {
			st.NextTry = a.at
		}
	}
	for _, c := range t.all() {
		shown := c.Child
		shown.In.Keymat, shown.Out.Keymat = none, none
		st.Children = append(st.Children, shown)
		st.Installed = append(st.Installed, c.installed)
		st.Origins = append(st.Origins, c.origin)
		var expires time.Time
		if c.hard.pending() {
			expires = c.hard.at
		}
		st.Expires = append(st.Expires, expires)
	}
	for _, l := range t.lanes {
		switch {
		case l.current == nil:
		case l.isLane0():
			st.InUse = l.current.ID
		default:
			st.Beside = append(st.Beside, l.current.ID)
		}
	}
	return st
}
