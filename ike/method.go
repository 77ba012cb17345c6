package ike

import (
	"net/netip"

	"yumen/ike/gm"
	"yumen/ike/wire"
	"yumen/policy"
	"yumen/policy/trust"
)

// method is how phase 1 is done with a peer, up to the moment that a session
// exists.
type method interface {
	// version is that of the ISAKMP header; speaks tells which are answered.
	version(policy.Dialect) uint8
	speaks(version uint8, p policy.Peer) bool
	// offer is the SA of M1, choose the answer to one, check reads the answer.
	offer(policy.Peer, policy.Dialect) wire.SA
	choose(sa wire.SA, p policy.Peer) (agreed, error)
	check(d *dial, answer wire.SA) (agreed, error)
	// second is what stands in M2 behind its SA, arrange reads an M2.
	second(*Engine, policy.Peer) []wire.Payload
	arrange(*peer, []wire.Payload) (parts, error)
	// trust judges the certificates of M2; nil where there are none.
	trust(*peer, certificates) (*trust.Pair, Reason, error)
	// begin gives a session that M2 (initiator) or M3 (responder) opened its phase 1.
	begin(*session) phase
}

// phase is phase 1 of one session from M3 on. It ends in session.establish.
type phase interface {
	third()                            // the initiator's M3
	fields(d Datagram)                 // M3 or M4 came in
	proof(d Datagram, h wire.Header)   // M5 or M6
	verdict(d Datagram, h wire.Header) // informational under keys that are not proven
	// natd is the body of a NAT-D payload (RFC 3947 3.2); the hash is that of the
	// negotiated suite where a dialect says nothing about it.
	natd(at netip.AddrPort, with policy.NATDHash) []byte
	isNATD([]byte, netip.AddrPort) bool // whether a body stands for that address
	ownName() string                    // as status shows it
	done()                              // phase 1 is over: what only it needed is wiped
	wipe()                              // so is the session
}

// agreed is what the two SA payloads of phase 1 come to.
type agreed struct {
	answer     wire.SA
	seconds    uint64 // lifetime; 0: none was named
	deviations []string
	offered    phaseOne       // by envelope: what the peer's transform said
	heard      policy.Dialect // the dialect that it shows
}

// methodOf is how phase 1 is done with p.
func methodOf(p policy.Peer) method {
	if p.PreShared.Used {
		return preShared{}
	}
	return envelope{}
}

// envelope is the digital envelope of GB/T 36968.
type envelope struct{}

func (envelope) version(d policy.Dialect) uint8 {
	if d.GMVersion0 {
		return wire.Version10
	}
	return wire.Version11
}

func (envelope) speaks(version uint8, p policy.Peer) bool {
	if version == wire.Version10 {
		return p.Dialect.GMVersion0
	}
	return version == wire.Version11 && !(p.Dialect.GMVersion0 && p.Dialect.Exact)
}

func (envelope) offer(p policy.Peer, d policy.Dialect) wire.SA {
	return phaseOneOffer(p.IKELifetime, d)
}

func (envelope) choose(sa wire.SA, p policy.Peer) (agreed, error) {
	answer, x, err := choosePhaseOne(sa, p.Dialect)
	if err != nil {
		return agreed{}, err
	}
	return agreed{answer, x.life.seconds, x.deviations(), x, x.heard(p.Dialect)}, nil
}

func (envelope) check(d *dial, answer wire.SA) (agreed, error) {
	x, err := checkPhaseOneAnswer(d.offer, answer, d.attempt.dialect)
	if err != nil {
		return agreed{}, err
	}
	return agreed{answer, x.life.seconds, x.deviations(), x, x.heard(d.peer.entry.Dialect)}, nil
}

func (envelope) second(e *Engine, p policy.Peer) []wire.Payload {
	if p.Dialect.SendCerts != policy.CertsBoth {
		return nil
	}
	return e.cfg.ownCerts(p, p.Dialect)
}

func (envelope) arrange(p *peer, ps []wire.Payload) (parts, error) {
	return layoutM2.arrangeMain(ps, p.e.cfg.Files[p.entry.Name].Sign != nil)
}

func (envelope) trust(p *peer, c certificates) (*trust.Pair, Reason, error) {
	certs, err := p.withKnown(c)
	if err != nil {
		return nil, PayloadOrder, err
	}
	pair, err := p.e.verify(p, certs)
	if err != nil {
		reason, _ := refusal(err)
		return nil, reason, err
	}
	return pair, "", nil
}

func (envelope) begin(s *session) phase { return enveloped{s} }

// enveloped is phase 1 by envelope. Its files are mainmode, fields and proof.
type enveloped struct{ s *session }

func (p enveloped) third() {
	s := p.s
	s.own = s.e.newHalf(s.ownID(s.dialect), s.dialect)
	s.sign(s.own, s.dialect, func(sig []byte) { s.third(sig) })
}

func (p enveloped) fields(d Datagram)                 { p.s.fields(d) }
func (p enveloped) proof(d Datagram, h wire.Header)   { p.s.proof(d, h) }
func (p enveloped) verdict(d Datagram, h wire.Header) { p.s.verdict(d, h) }

func (p enveloped) natd(at netip.AddrPort, with policy.NATDHash) []byte {
	return gm.NATD(p.s.cki, p.s.ckr, at, with)
}

func (p enveloped) isNATD(body []byte, at netip.AddrPort) bool {
	return gm.MatchNATD(body, p.s.cki, p.s.ckr, at)
}

func (p enveloped) ownName() string { return p.s.e.cfg.Own.Sign.Name }

func (p enveloped) done() {
	s := p.s
	for _, c := range s.claims {
		c.ours.wipe()
		c.theirs.wipe()
		if c != s.proven {
			c.keys.Wipe()
		}
	}
	s.claims, s.reading = nil, nil
}

func (p enveloped) wipe() {
	s := p.s
	s.own.wipe()
	for _, c := range s.claims {
		c.wipe()
	}
	if s.proven != nil {
		s.proven.wipe()
	}
}
