package ike

import "time"

// renewAgain is the wait after a main mode was begun, or could not be, before an
// ISAKMP SA near its limit asks for the next: the first may come to nothing.
const renewAgain = 30 * time.Second

// limit sets when a proven session is renewed and when it ends.
func (s *session) limit() {
	e, life := s.e, s.peer.entry.IKELifetime
	if s.lifetime > 0 && s.lifetime < life {
		life = s.lifetime
	}
	at := func(d time.Duration) time.Time { // of a session taken back, perhaps at once
		if t := s.up.Add(d); t.After(e.now) {
			return t
		}
		return e.now
	}
	e.clock.set(&s.life, at(life), func() { s.finish(Expired, "working key lifetime") })
	e.clock.set(&s.soft, at(e.jitter(life*9/10)), s.renew)
}

// replaced ends a session that lost to another, unless that one has ended: the
// two ends may have seen their sessions in different orders.
func (s *session) replaced() {
	if len(s.peer.live) > 1 {
		s.finish(Replaced, "")
		return
	}
	s.crossed = false
	s.limit()
}

// renew begins a new main mode before the working key reaches its limit, and again
// until another session took the place of this one.
func (s *session) renew() {
	s.e.clock.set(&s.soft, s.e.now.Add(s.e.jitter(renewAgain)), s.renew)
	if s.peer.session() == s && s.peer.keeps() {
		s.peer.connect()
	}
}
