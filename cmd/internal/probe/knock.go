package probe

import (
	"io"
	"net/netip"
	"time"

	"yumen/ike"
	"yumen/ike/wire"
	"yumen/policy"
)

// Times of a message 1 that is tried: it is sent twice.
const (
	knockAgain = 2 * time.Second
	knockEnd   = 5 * time.Second
	pause      = 700 * time.Millisecond // between two, so that no limit of the far end holds
)

// answer is what came to a message 1.
type answer uint8

const (
	silence answer = iota
	taken
	refused
)

// knocks tries openings one by one: they ask for nothing but an answer, need no
// key, and leave a half-open entry behind that ends by itself.
type knocks struct {
	random io.Reader
	remote netip.Addr
	rep    *Report

	now    opening
	cookie wire.Cookie
	sent   time.Time // of the first copy; zero: none is under way
	again  bool
	next   time.Time // when the next may begin
	search []opening // until one is taken
	tried  map[opening]answer
	turns  []turn // then, each one change of base
	base   *opening
	shown  showing // of the first message 2
	spoke  bool    // something answered
	over   bool
}

// turn is an opening and what its answer says.
type turn struct {
	opening     opening
	knob, value string
}

func newKnocks(random io.Reader, remote netip.Addr, rep *Report) *knocks {
	k := &knocks{random: random, remote: remote, rep: rep, tried: map[opening]answer{}}
	for _, version := range []uint8{wire.Version11, wire.Version10} {
		for _, length := range []bool{false, true} {
			for _, cipher := range []uint16{129, 127} {
				o := standardOpening()
				o.version, o.keyLength, o.cipher = version, length, cipher
				k.search = append(k.search, o)
			}
		}
	}
	mute := standardOpening()
	mute.mute = true
	k.search = append(k.search, mute)
	return k
}

// changes are what is tried once an opening was taken.
func (k *knocks) changes() {
	b := *k.base
	with := func(knob, value string, change func(o *opening)) {
		o := b
		change(&o)
		if a, known := k.tried[o]; known {
			k.judge(turn{o, knob, value}, a)
			return
		}
		k.turns = append(k.turns, turn{o, knob, value})
	}
	if b.cipher == 129 {
		with("ike_sm4_id", "127", func(o *opening) { o.cipher = 127 })
	} else {
		with("ike_sm4_id", "129", func(o *opening) { o.cipher = 129 })
	}
	if !b.keyLength {
		with("key_length", "send", func(o *opening) { o.keyLength = true })
	} else {
		with("key_length", "omit", func(o *opening) { o.keyLength = false })
	}
	if b.version == wire.Version11 {
		with("gm_version", "1.0", func(o *opening) { o.version = wire.Version10 })
	} else {
		with("gm_version", "1.1", func(o *opening) { o.version = wire.Version11 })
	}
	with("transform_id", "ignore", func(o *opening) { o.transform = wrongTransform })
	with("strict_lifetime", "false", func(o *opening) { o.life = 48 * time.Hour })
}

// step goes on by the clock; packets are to be sent.
func (k *knocks) step(now time.Time) []ike.Datagram {
	switch {
	case k.over:
		return nil
	case k.sent.IsZero() && !now.Before(k.next):
		return k.begin(now)
	case k.sent.IsZero():
		return nil
	case !now.Before(k.sent.Add(knockEnd)):
		k.result(now, silence, 0, showing{})
		return k.step(now)
	case !k.again && !now.Before(k.sent.Add(knockAgain)):
		k.again = true
		return k.packet()
	}
	return nil
}

func (k *knocks) begin(now time.Time) []ike.Datagram {
	switch {
	case k.base == nil && len(k.search) > 0:
		k.now = k.search[0]
	case k.base != nil && len(k.turns) > 0:
		k.now = k.turns[0].opening
	default:
		k.over = true
		k.conclude()
		return nil
	}
	if _, err := io.ReadFull(k.random, k.cookie[:]); err != nil {
		k.over = true
		k.rep.note("the random source failed: %v", err)
		return nil
	}
	k.sent, k.again = now, false
	return k.packet()
}

func (k *knocks) packet() []ike.Datagram {
	return []ike.Datagram{{Local: netip.AddrPortFrom(netip.Addr{}, portIKE), Remote: netip.AddrPortFrom(k.remote, portIKE),
		Data: k.now.message(k.cookie)}}
}

const portIKE = 500

// statusTypes is where notifications begin that are no errors (RFC 2408 3.14.1).
const statusTypes = 16384

// wake is when step has something to do.
func (k *knocks) wake() time.Time {
	switch {
	case k.over:
		return time.Time{}
	case k.sent.IsZero():
		return k.next
	case k.again:
		return k.sent.Add(knockEnd)
	}
	return k.sent.Add(knockAgain)
}

// hear reads an answer.
func (k *knocks) hear(now time.Time, d ike.Datagram) {
	h, err := wire.ParseHeader(d.Data)
	if err != nil || k.over || k.sent.IsZero() || h.Initiator != k.cookie || d.Remote.Addr() != k.remote {
		return
	}
	switch {
	case h.Exchange == wire.MainMode && h.Next == wire.TypeSA:
		switch x, err := show(h, d.Data); {
		case err != nil:
			k.rep.once("%v: the answer is not read: %v", k.now, err)
		case x.version != k.now.version || x.cipher != uint64(k.now.cipher) || x.transform != k.now.transform:
			k.rep.once("%v: the answer takes something else, which nobody offered: header %s, encryption algorithm %d, transform ID %d",
				k.now, versionWord(x.version), x.cipher, x.transform)
		default:
			k.result(now, taken, 0, x)
		}
	case h.Exchange == wire.Informational && h.Flags&wire.FlagEncrypted == 0:
		if m, err := wire.Parse(d.Data); err == nil {
			for _, p := range m.Payloads {
				n, err := wire.ParseNotification(p.Body)
				if err == nil && p.Type == wire.TypeNotify && n.Type < statusTypes {
					k.result(now, refused, n.Type, showing{})
					return
				}
			}
		}
	}
}

// result notes what came of the opening under way.
func (k *knocks) result(now time.Time, a answer, why wire.NotifyType, x showing) {
	k.sent, k.next = time.Time{}, now.Add(pause)
	switch a {
	case taken:
		k.rep.note("message 1 (%v): answered", k.now)
	case refused:
		k.rep.note("message 1 (%v): refused, %v", k.now, why)
	default:
		k.rep.note("message 1 (%v): no answer", k.now)
	}
	k.spoke = k.spoke || a != silence
	if k.base == nil {
		k.search = k.search[1:]
		k.tried[k.now] = a
		if a == taken {
			o := k.now
			k.base, k.shown = &o, x
			k.standing()
			k.changes()
		}
		return
	}
	t := k.turns[0]
	k.turns = k.turns[1:]
	k.judge(t, a)
}

// judge says what the answer to one change means. Silence says nothing: a packet
// may be lost.
func (k *knocks) judge(t turn, a answer) {
	switch {
	case a == silence:
		if t.knob == "gm_version" || t.knob == "ike_sm4_id" || t.knob == "key_length" {
			return
		}
		k.rep.untold(t.knob, "the message that would show it was not answered")
	case t.knob == "strict_lifetime" && a == refused:
		k.rep.tried(t.knob, "true", true)
	case t.knob == "transform_id" && a == refused:
		k.rep.tried(t.knob, "check", true)
	default:
		k.rep.tried(t.knob, t.value, a == taken)
	}
}

// standing notes what the first message 2 shows.
func (k *knocks) standing() {
	r, x := k.rep, k.shown
	r.oneOf("initiate", "that it answers does not say whether it calls", "either", "us")
	r.tried("gm_version", versionWord(k.base.version), true)
	r.tried("ike_sm4_id", numberWord(k.base.cipher), true)
	if k.base.keyLength {
		r.tried("key_length", "send", true)
	} else {
		r.tried("key_length", "omit", true)
	}
	r.vendors(x)
	if len(x.certs) > 0 {
		r.seen("send_certs", "both")
		r.certOrder(x.certs)
	} else {
		r.oneOf("send_certs", "message 2 has none, and message 3 is sent only by who calls", "m3", "none")
		r.untold("cert_order", "message 2 has no certificates")
	}
}

func numberWord(cipher uint16) string {
	if cipher == 127 {
		return policy.SM4Draft.String()
	}
	return policy.SM4Standard.String()
}

// conclude says of openings that nobody took why nothing is known.
func (k *knocks) conclude() {
	if k.base != nil {
		return
	}
	why := "no message 1 was answered: it may be off, filtered, calling only, or knows our address not"
	if k.spoke {
		why = "every message 1 was refused"
	}
	for _, f := range k.rep.Findings {
		k.rep.untold(f.Knob, why)
	}
}

// dialect is d with what the openings showed of how message 1 is to be written.
func (k *knocks) dialect(d policy.Dialect) policy.Dialect {
	d.GMVersion0 = k.base.version == wire.Version10
	d.IKESM4 = policy.SM4Standard
	if k.base.cipher == 127 {
		d.IKESM4 = policy.SM4Draft
	}
	d.KeyLength = policy.KeyLengthOmit
	if k.base.keyLength {
		d.KeyLength = policy.KeyLengthSend
	}
	if k.base.mute {
		d.NoDPDVID, d.NoOwnVID, d.NoNATT = true, true, true
	}
	if f := k.rep.Of("cert_order"); f.Standing == Seen {
		d.EncFirst = f.Values[0] == "enc-sign"
	}
	return d
}
