package ike

import (
	"slices"
	"time"

	"yumen/policy"
)

// Status returns a reading of every session and tunnel.
func (e *Engine) Status() Status {
	st := Status{HalfOpen: e.halfOpen.count()}
	for _, s := range e.sessionList() {
		st.Sessions = append(st.Sessions, s.status())
	}
	for _, t := range e.tunnels {
		if t.isLane0() {
			st.Tunnels = append(st.Tunnels, t.status())
		}
	}
	st.Learned = slices.Clone(e.learned)
	return st
}

// sessionList returns the sessions in the order in which they were made.
func (e *Engine) sessionList() []*session {
	list := make([]*session, 0, len(e.sessions))
	for _, s := range e.sessions {
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b *session) int {
		if c := a.created.Compare(b.created); c != 0 {
			return c
		}
		return slices.Compare(a.cookies(), b.cookies())
	})
	return list
}

func (s *session) status() SessionStatus {
	st := SessionStatus{Role: s.role, State: "connecting", CookieI: s.cki, CookieR: s.ckr, Version: s.version,
		Local: s.local, Remote: s.remote, LocalName: s.phase.ownName(), Created: s.created,
		NAT: s.nat.String(), Deviations: slices.Clone(s.deviations), Explicit: s.explicit()}
	if entry := s.peerEntry(); entry.NonGM() != "" {
		st.NonGM, st.Suite = entry.NonGM(), entry.PreShared.Suite.Describe()
	}
	if s.peer != nil {
		st.Peer = s.peer.entry.Name
	}
	if s.state != established {
		return st
	}
	st.State, st.Established, st.RemoteName = "established", s.up, s.name
	st.Expires, st.Rekey = when(&s.life), when(&s.soft)
	if s.proven != nil {
		pair := s.proven.pair
		st.CertExpires = pair.Sign.NotAfter
		if pair.Enc.NotAfter.Before(st.CertExpires) {
			st.CertExpires = pair.Enc.NotAfter
		}
	}
	if s.crossed {
		st.State = "closing"
	}
	return st
}

func when(a *alarm) time.Time {
	if a.pending() {
		return a.at
	}
	return time.Time{}
}

// equalTunnels compares two tunnels that have no suites.
func equalTunnels(a, b policy.Tunnel) bool {
	return a.Name == b.Name && a.Peer == b.Peer && a.Selector == b.Selector && a.ICVBits == b.ICVBits &&
		a.ESN == b.ESN && a.Start == b.Start && a.Lifetime == b.Lifetime && a.Bytes == b.Bytes &&
		a.Children == b.Children && a.Packets == b.Packets && a.Window == b.Window && a.Outer == b.Outer
}
