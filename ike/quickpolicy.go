package ike

import (
	"errors"
	"fmt"

	"yumen/ike/wire"
	"yumen/policy"
)

// errNoPFS answers a KE payload in quick mode.
var errNoPFS = errors.New("a KE payload: there is no PFS here; switch it off at the peer")

// refuseQuick answers an authentic QM1 that cannot be served.
func (s *session) refuseQuick(n wire.NotifyType, reason Reason, t *tunnel, sa wire.SA, err error) {
	v := s.event(Refused, reason, err.Error())
	if t != nil {
		v.Tunnel = t.entry.Name
		t.note(reason, err.Error())
	}
	s.e.tell(v)
	s.refusal(n, sa)
}

// refuseAnswer ends a quick mode of ours whose QM2 cannot be taken, and tells the
// responder, who would repeat it else.
func (x *exchange) refuseAnswer(n wire.NotifyType, reason Reason, sa wire.SA, err error) {
	x.s.refusal(n, sa)
	x.abandon(reason, err.Error())
}

// refusal sends an error about an SA of the peer's. It names the SPI that the peer
// drew, so that it knows which quick mode is meant; 0 where none can be read.
func (s *session) refusal(n wire.NotifyType, sa wire.SA) {
	spi := make([]byte, 4)
	for _, p := range sa.Proposals {
		if p.Protocol == wire.ProtoESP && len(p.SPI) == len(spi) {
			spi = p.SPI
			break
		}
	}
	s.notify(wire.Notification{DOI: doiIPsec, Protocol: wire.ProtoESP, SPI: spi, Type: n})
}

// refused acts on an authentic error. One that names an SPI of ours which was not
// answered or proven yet is about that quick mode. Others have useless SPIs; they can
// only be about the one that we started.
func (s *session) refused(n wire.Notification) {
	x := s.quick
	for _, o := range s.exchangeList() {
		if !o.closed && o.resend.alarm.pending() && string(spiBytes(o.spi)) == string(n.SPI) {
			x = o
		}
	}
	detail := fmt.Sprintf("the peer refused: %v", n.Type)
	switch {
	case x == nil:
	case x.role == Responder:
		t := x.tunnel
		x.child.end(PeerRefused, quietly)
		x.close()
		t.failed(PeerRefused, detail)
	default:
		if n.Type != wire.InvalidIDInformation { // of which another form says the same
			s.varyQuick()
		}
		x.abandon(PeerRefused, detail)
	}
}

// tunnelFor finds the tunnel with exactly this selector, or, where narrowing is
// allowed, one that holds it.
func (p *peer) tunnelFor(sel policy.Selector, narrow bool) *tunnel {
	for _, t := range p.e.tunnels {
		if t.peer == p && t.entry.Selector == sel && !t.stopped {
			return t
		}
	}
	for _, t := range p.e.tunnels {
		if narrow && t.peer == p && !t.stopped && sel.Within(t.entry.Selector) {
			return t
		}
	}
	return nil
}

// compareIDs accepts the IDs that we sent, or narrower ones if the peer entry
// allows that. An answer without IDs means the addresses of the two ends (5.1).
func (x *exchange) compareIDs(ids [][]byte) (Reason, error) {
	got, err := x.s.selectorOf(ids, Initiator)
	if err != nil {
		return NoSelector, err
	}
	switch {
	case got == x.selector:
		return "", nil
	case x.s.dialect.AllowNarrowing && got.Within(x.selector):
		x.selector = got
		x.s.deviate("the responder narrows selectors")
		return "", nil
	}
	return Narrowed, fmt.Errorf("the peer answers with the selector %v, we offered %v (allow_narrowing is off)", got, x.selector)
}

// heed acts on the status notifications that stood in QM1 or QM2, as on those that
// come by themselves, once the child that they may be about is there. Only where the
// HASH covers them: in the other forms anybody could have put them there.
func (x *exchange) heed(notes [][]byte, h wire.Header, d Datagram) {
	s := x.s
	for _, body := range notes {
		switch n, err := wire.ParseNotification(body); {
		case err != nil:
			s.deviate("a notification in quick mode that cannot be read skipped")
		case s.quickForm != policy.HashRFC2409:
			s.deviate(fmt.Sprintf("%v in quick mode skipped: no HASH covers it", n.Type))
		case n.Type == wire.ResponderLifetime, n.Type == wire.InitialContact, n.Type == wire.ReplayStatus:
			s.notified(body, h, d)
		default:
			s.deviate(fmt.Sprintf("%v in quick mode skipped", n.Type))
		}
	}
}

// idsToSend echoes the IDs; where the peer sent none, it gets those they mean.
func (x *exchange) idsToSend(ids [][]byte) [][]byte {
	if len(ids) == 2 {
		return ids
	}
	sel := x.selector
	return [][]byte{clientID(sel.Remote, sel.Protocol, sel.RemotePort).Append(nil),
		clientID(sel.Local, sel.Protocol, sel.LocalPort).Append(nil)}
}
