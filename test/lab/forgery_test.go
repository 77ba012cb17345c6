package lab

import (
	"bytes"
	"encoding/asn1"
	"encoding/binary"
	"fmt"
	"math/big"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"yumen/ike"
	"yumen/ike/gm"
	"yumen/ike/wire"
	"yumen/policy"
)

// forgery is a datagram of an attacker in place of a genuine one.
type forgery struct {
	name   string
	source netip.AddrPort // zero: that of the genuine one
	data   []byte
	// may: nothing in it is authenticated yet, so it may be answered and make one
	// session that is not proven; it must still change nothing else.
	may bool
}

// stage is a lab that has come to the point where one message is on its way.
type stage struct {
	*Lab
	genuine  Packet
	victim   *Gateway
	released bool
}

// hold runs two gateways until the first message with that label is sent, and
// keeps it.
func hold(t *testing.T, l *Lab, label string) *stage {
	t.Helper()
	s := &stage{Lab: l}
	l.Story.Off = true
	l.Hook = func(p Packet) []Packet {
		if p.Label == label && s.victim == nil {
			s.genuine, s.victim = p, l.Gateway(p.To)
			return nil
		}
		if p.Label == "esp" && !s.released { // it would stand in for a quick 3
			return nil
		}
		return []Packet{p}
	}
	if !l.RunUntil(time.Minute, func() bool { return s.victim != nil }) {
		t.Fatalf("%s was never sent", label)
	}
	l.Run(20 * time.Millisecond) // what was sent beside it
	return s
}

func plain(seed uint64) *Lab {
	i, r := members().Pair()
	i.Verifiers, r.Verifiers = members().verifiers(&i), members().verifiers(&r)
	return New(seed, i, r)
}

// attack injects f, checks that nothing has changed, then lets the genuine
// message through and checks that the exchange completes.
func (s *stage) attack(t *testing.T, f forgery) {
	t.Helper()
	before, at := s.picture(f.may), s.victim.Wake
	open := s.unproven()
	packets, events := 0, []ike.Event(nil)
	hook := s.Hook
	s.Hook = func(p Packet) []Packet {
		// What was refused before anything was believed may be said so, in clear.
		if p.From == s.victim.Name && (p.Label != "info" || wire.Flags(p.Data[19])&wire.FlagEncrypted != 0) {
			packets++
			if f.may { // else both ends would go on with what nobody vouches for
				return nil
			}
		}
		return hook(p)
	}
	s.victim.Told = func(v ike.Event) { events = append(events, v) }
	source := s.genuine.Source
	if f.source.IsValid() {
		source = f.source
	}
	s.Inject(source, s.genuine.Dest, f.data)
	s.Run(50 * time.Millisecond)
	after := s.picture(f.may)
	s.victim.Told, s.Hook = nil, hook
	most, moved := 0, !s.victim.Wake.Equal(at)
	if f.may {
		most, moved = 1, false
	}
	if packets > most || before != after || moved || s.unproven() > open+most {
		t.Errorf("%s: %d packets, %d sessions more, alarm moved %v, state\n%s\nwas\n%s", f.name, packets, s.unproven()-open,
			s.victim.Wake.Sub(at), after, before)
	}
	if len(events) == 0 && !f.may {
		t.Errorf("%s: nobody was told", f.name)
	}
	for _, v := range events {
		if !harmless(v.Kind) && !(f.may && begins(v.Kind)) {
			t.Errorf("%s: told %s %s %s", f.name, KindName(v.Kind), v.Reason, v.Detail)
		}
	}
	s.complete(t, f.name)
}

func harmless(k ike.EventKind) bool {
	return slices.Contains([]ike.EventKind{ike.Dropped, ike.Repeated, ike.Refused, ike.NotifyIn, ike.NotifyOut, ike.Limited}, k)
}

// begins are the events of a session that is not proven.
func begins(k ike.EventKind) bool { return k == ike.IKEStarted || k == ike.Deviation }

// complete lets the genuine message arrive and waits for both ends to be up.
func (s *stage) complete(t *testing.T, name string) {
	t.Helper()
	s.released = true
	s.Inject(s.genuine.Source, s.genuine.Dest, s.genuine.Data)
	up := func() bool {
		a, okA := s.Gateway("i").Plane.InUse("office")
		b, okB := s.Gateway("r").Plane.InUse("office")
		return okA && okB && a.In.SPI == b.Out.SPI && b.In.SPI == a.Out.SPI
	}
	patience := 10 * time.Second
	if s.genuine.Label == "main 1" { // another message 1 under the same cookie came first: a new attempt
		patience = 2 * time.Minute
	}
	if !s.RunUntil(patience, up) {
		t.Errorf("%s: the exchange did not complete", name)
	}
	for _, f := range s.Faults {
		t.Errorf("%s: %s", name, f)
	}
}

// picture is everything of the victim that can be seen from outside. Its half-open
// sessions as a responder are no more than their number; proven leaves out all that
// are not.
func (s *stage) picture(proven bool) string {
	st := s.victim.Engine.Status()
	st.Sessions = slices.DeleteFunc(st.Sessions, func(x ike.SessionStatus) bool {
		return (x.Role == ike.Responder || proven) && x.State == "connecting"
	})
	if proven {
		st.HalfOpen = 0
	}
	return fmt.Sprintf("%+v %+v", st, s.victim.Plane.Installed())
}

// unproven counts the victim's sessions, in both roles, that are not proven.
func (s *stage) unproven() int {
	st := s.victim.Engine.Status()
	n := st.HalfOpen
	for _, x := range st.Sessions {
		if x.Role == ike.Initiator && x.State == "connecting" {
			n++
		}
	}
	return n
}

// forgeries are mutations of one genuine message.
func forgeries(p Packet) []forgery {
	list := headers(p)
	b := p.Data
	for _, n := range []int{0, 1, wire.HeaderLen - 1, wire.HeaderLen, len(b) / 2, len(b) - 1} {
		list = append(list, forgery{name: fmt.Sprintf("cut to %d", n), data: b[:n]},
			forgery{name: fmt.Sprintf("cut to %d, length right", n), data: relength(b[:n])})
	}
	list = append(list, forgery{name: "one byte more", data: append(bytes.Clone(b), 0)},
		forgery{name: "one byte more, length right", data: relength(append(bytes.Clone(b), 0))},
		forgery{name: "a block more, length right", data: relength(append(bytes.Clone(b), make([]byte, 16)...))},
		forgery{name: "stranger", source: netip.MustParseAddrPort("203.0.113.66:500"), data: b})
	if m, err := wire.Parse(b); err == nil {
		return append(list, payloads(p, m)...)
	}
	for at := wire.HeaderLen; at < len(b); at += 8 {
		list = append(list, forgery{name: fmt.Sprintf("bit of byte %d", at), data: flip(b, at)})
	}
	return list
}

// headers change each byte of the header.
func headers(p Packet) (list []forgery) {
	for at := range wire.HeaderLen {
		f := forgery{name: fmt.Sprintf("header byte %d", at), data: flip(p.Data, at)}
		// Cookies of an unproven session are anybody's: a new M1, or an M2 of
		// another responder, opens a session of its own.
		f.may = p.Label == "main 1" && (at < 8 || at == 17) || p.Label == "main 2" && (at >= 8 && at < 16 || at == 17)
		list = append(list, f)
	}
	return list
}

// payloads change each payload of a message in the clear.
func payloads(p Packet, m wire.Message) (list []forgery) {
	add := func(name string, typ wire.PayloadType, ps []wire.Payload) {
		f := forgery{name: name, data: wire.Message{Header: m.Header, Payloads: ps}.Append(nil)}
		switch typ { // not covered by any signature
		case wire.TypeVendorID, wire.TypeNATD:
			f.may = true
		case wire.TypeSA: // an offer is anybody's; an answer must be one to ours
			f.may = p.Label == "main 1"
		case wire.TypeCert: // more certificates are intermediates
			f.may = strings.HasSuffix(name, "twice")
		}
		list = append(list, f)
	}
	for n, x := range m.Payloads {
		for _, at := range []int{0, len(x.Body) / 2, len(x.Body) - 1} {
			ps := slices.Clone(m.Payloads)
			ps[n].Body = flip(x.Body, at)
			add(fmt.Sprintf("payload %d (%v): bit of byte %d", n+1, x.Type, at), x.Type, ps)
		}
		add(fmt.Sprintf("payload %d (%v): left out", n+1, x.Type), x.Type, slices.Delete(slices.Clone(m.Payloads), n, n+1))
		add(fmt.Sprintf("payload %d (%v): twice", n+1, x.Type), x.Type, slices.Insert(slices.Clone(m.Payloads), n, x))
		empty := slices.Clone(m.Payloads)
		empty[n].Body = nil
		add(fmt.Sprintf("payload %d (%v): empty", n+1, x.Type), x.Type, empty)
	}
	return list
}

func flip(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 0x04
	return b
}

func relength(b []byte) []byte {
	b = bytes.Clone(b)
	if len(b) >= wire.HeaderLen {
		binary.BigEndian.PutUint32(b[24:], uint32(len(b)))
	}
	return b
}

// A forged message, at any point and in any role, is dropped, and the exchange
// goes on as if it had never come.
func TestForgedMessageAtAnyPointChangesNothing(t *testing.T) {
	for _, label := range phases {
		t.Run(label, func(t *testing.T) {
			t.Parallel()
			for _, f := range forgeries(hold(t, plain(1), label).genuine) {
				hold(t, plain(1), label).attack(t, f)
			}
		})
	}
}

// recorded runs a whole exchange and returns its messages by label.
func recorded(l *Lab) map[string]Packet {
	all := map[string]Packet{}
	hook := l.Hook
	l.Hook = func(p Packet) []Packet {
		if _, known := all[p.Label]; !known && p.Data != nil {
			all[p.Label] = p
		}
		return []Packet{p}
	}
	l.Run(10 * time.Second)
	l.Hook = hook
	return all
}

// Messages of an older session, as they were, are dropped at any point of a new
// one. Only an old message 1 may make a half-open entry, and an old message 5 is
// answered as it was.
func TestOldMessagesAreDroppedAtAnyPoint(t *testing.T) {
	for _, label := range phases {
		t.Run(label, func(t *testing.T) {
			t.Parallel()
			for _, old := range phases {
				l := plain(2)
				was := recorded(l)[old]
				l.Gateway("i").Restart()
				s := hold(t, l, label)
				if was.To != s.victim.Name {
					continue
				}
				s.attack(t, forgery{name: "old " + old, data: was.Data, may: old == "main 1" || old == "main 5"})
			}
		})
	}
}

// under moves a message under the cookies of another.
func under(data []byte, other []byte) []byte { return append(bytes.Clone(other[:16]), data[16:]...) }

// An old message 3 under the cookies of a new session is known by its envelope.
func TestReplayedThirdMessageIsKnownByItsEnvelope(t *testing.T) {
	l := plain(3)
	old := recorded(l)["main 3"]
	l.Gateway("i").Restart()
	s := hold(t, l, "main 3")
	var reasons []ike.Reason
	s.victim.Told = func(v ike.Event) { reasons = append(reasons, v.Reason) }
	s.Inject(s.genuine.Source, s.genuine.Dest, under(old.Data, s.genuine.Data))
	if !slices.Equal(reasons, []ike.Reason{ike.ReplayedEnvelope}) {
		t.Errorf("told %v", reasons)
	}
	s.attack(t, forgery{name: "again", data: under(old.Data, s.genuine.Data)})
}

// Neither the signature nor anything else of message 3 covers how the envelope is
// written: one that was recorded is known in every form that is read.
func TestReplayedEnvelopeIsKnownInEveryForm(t *testing.T) {
	for n := range rewritten(t, recorded(plain(3))["main 3"].Data) {
		l := plain(3)
		old := rewritten(t, recorded(l)["main 3"].Data)[n]
		l.Gateway("i").Restart()
		s := hold(t, l, "main 3")
		var reasons []ike.Reason
		s.victim.Told = func(v ike.Event) { reasons = append(reasons, v.Reason) }
		s.Inject(s.genuine.Source, s.genuine.Dest, under(old, s.genuine.Data))
		if !slices.Equal(reasons, []ike.Reason{ike.ReplayedEnvelope}) {
			t.Errorf("form %d: told %v", n, reasons)
		}
		s.attack(t, forgery{name: fmt.Sprintf("form %d", n), data: under(old, s.genuine.Data)})
	}
}

// rewritten is a message 3 with its envelope, DER, in each of the raw forms.
func rewritten(t *testing.T, data []byte) (list [][]byte) {
	t.Helper()
	m, err := wire.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	var c struct {
		X, Y   *big.Int
		C3, C2 []byte
	}
	if _, err := asn1.Unmarshal(m.Payloads[0].Body, &c); err != nil {
		t.Fatal(err)
	}
	point := append(c.X.FillBytes(make([]byte, 32)), c.Y.FillBytes(make([]byte, 32))...)
	for _, body := range [][]byte{
		slices.Concat([]byte{4}, point, c.C3, c.C2), slices.Concat(point, c.C3, c.C2),
		slices.Concat([]byte{4}, point, c.C2, c.C3), slices.Concat(point, c.C2, c.C3),
	} {
		m.Payloads[0].Body = body
		list = append(list, m.Append(nil))
	}
	return list
}

// A gateway that was restarted has forgotten the envelope: the replay gets as
// far as message 4, makes one claim and is worth nothing.
func TestReplayedThirdMessageAfterARestartIsOnlyAClaim(t *testing.T) {
	l := plain(4)
	old := recorded(l)["main 3"]
	l.Gateway("i").Restart()
	l.Gateway("r").Restart()
	s := hold(t, l, "main 3")
	s.claim(t, under(old.Data, s.genuine.Data))
}

// claim injects a message 3 that verifies but is not fresh: it may be answered,
// the session stays half open, and the genuine exchange completes.
func (s *stage) claim(t *testing.T, data []byte) {
	t.Helper()
	before := s.picture(false)
	var kinds []ike.EventKind
	sent := 0
	hook := s.Hook
	s.Hook = func(p Packet) []Packet {
		if p.From == s.victim.Name {
			sent++
			return nil
		}
		return hook(p)
	}
	s.victim.Told = func(v ike.Event) { kinds = append(kinds, v.Kind) }
	s.Inject(s.genuine.Source, s.genuine.Dest, data)
	s.Run(50 * time.Millisecond)
	s.Hook, s.victim.Told = hook, nil
	if sent != 1 || len(kinds) != 0 {
		t.Errorf("%d packets and the events %v, want message 4 and none", sent, kinds)
	}
	if after := s.picture(false); after != before {
		t.Errorf("state\n%s\nwas\n%s", after, before)
	}
	s.complete(t, "claim")
}

// A member who was sent a message 3 can put its contents into an envelope for
// somebody else. It verifies, and is worth nothing.
func TestReenvelopedThirdMessageOfAnotherMemberIsOnlyAClaim(t *testing.T) {
	stolen := func() wire.Message {
		i, r := members().Pair() // r's place is held by the third member
		i.Peer().Identity = policy.Identity{Subject: "CN=gw-t,O=Example,C=CN"}
		r.Own = members().Third
		m, err := wire.Parse(hold(t, New(5, i, r), "main 3").genuine.Data)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}()
	sk, err := members().Third.Open(stolen.Payloads[0].Body)
	if err != nil {
		t.Fatal(err)
	}
	body, err := gm.SealEnvelope(newSource(5, "thief"), members().R.Pair.Enc.Key, sk, policy.SKDER)
	if err != nil {
		t.Fatal(err)
	}
	stolen.Payloads[0].Body = body
	data := stolen.Append(nil)

	s := hold(t, plain(6), "main 3")
	s.claim(t, under(data, s.genuine.Data))

	// In a session of the thief's own: one half-open entry that times out.
	l := plain(7)
	l.Run(10 * time.Second)
	r := l.Gateway("r")
	first := recorded(plain(8))["main 1"]
	from := netip.MustParseAddrPort("192.0.2.1:500")
	var ckr []byte
	l.Hook = func(p Packet) []Packet {
		if p.Label == "main 2" {
			ckr = p.Data[8:16]
		}
		return []Packet{p}
	}
	l.Inject(from, first.Dest, first.Data)
	if st := r.Engine.Status(); st.HalfOpen != 1 {
		t.Errorf("%d half-open entries, want 1", st.HalfOpen)
	}
	l.Inject(from, first.Dest, under(data, append(bytes.Clone(first.Data[:8]), ckr...)))
	l.Run(time.Second)
	if st := r.Engine.Status(); st.HalfOpen != 1 || len(r.Plane.Installed()) != 1 || st.Tunnels[0].State != "up" {
		t.Errorf("after the theft: %+v", st)
	}
	l.Run(2 * time.Minute)
	if st := r.Engine.Status(); st.HalfOpen != 0 || len(st.Sessions) != 1 {
		t.Errorf("two minutes later: %+v", st)
	}
}
