package probe

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"yumen/ike/wire"
	"yumen/policy"
	"yumen/test/lab"
)

// strangers sends a message 1 of somebody else, who differs from the far end in all that
// stands in clear, and after it a message 3 with its certificates that nobody signed.
func strangers(l *lab.Lab, from netip.Addr, cookie byte) {
	at := func(a netip.Addr) netip.AddrPort { return netip.AddrPortFrom(a, portIKE) }
	to := l.Gateway("i").Addr
	o := opening{version: wire.Version10, cipher: 127, keyLength: true, transform: keyIKE, life: time.Hour, mute: true}
	c := wire.Cookie{cookie}
	l.Inject(at(from), at(to), o.message(c))
	far := l.Gateway("r").Own.Pair
	third := wire.Message{Header: wire.Header{Initiator: c, Responder: wire.Cookie{5}, Version: o.version, Exchange: wire.MainMode},
		Payloads: []wire.Payload{{Type: wire.TypeSK, Body: make([]byte, 120)}, {Type: wire.TypeNonce, Body: make([]byte, 32)},
			{Type: wire.TypeID, Body: make([]byte, 32)},
			{Type: wire.TypeCert, Body: wire.Cert{Encoding: wire.CertEnc, Data: far.Enc.DER}.Append(nil)},
			{Type: wire.TypeCert, Body: wire.Cert{Encoding: wire.CertSign, Data: far.Sign.DER}.Append(nil)},
			{Type: wire.TypeSig, Body: make([]byte, 64)}}}
	l.Inject(at(from), at(to), third.Append(nil))
}

// What others send before the far end calls, while it does and after changes nothing
// that is said of it, and does not end the waiting for it.
func TestListenerSaysOfTheFarEndOnlyWhatItShowed(t *testing.T) {
	for _, anywhere := range []bool{true, false} {
		x := newDraw(t, 1, true)
		x.dialect = policy.Dialect{}
		i, r := x.sites()
		if anywhere {
			i.Peer().Remote = policy.Remote{Any: true}
		}
		l := lab.New(1, i, r)
		l.Story.Off = true
		cfg := config(l)
		cfg.Remote = netip.Addr{}
		m, err := NewListener(cfg)
		if err != nil {
			t.Fatal(err)
		}
		other := netip.MustParseAddr("203.0.113.77")
		for n, after := range []time.Duration{time.Second, 5*time.Minute + 200*time.Millisecond, 5*time.Minute + 5*time.Second} {
			l.After(after, func() { strangers(l, other, byte(n+1)) })
		}
		l.After(5*time.Minute, func() { l.Gateway("r").Start("office") })
		run(t, l, m, 10*time.Minute)
		rep := m.Report()
		if wrong := x.wrong(rep); len(wrong) > 0 || !rep.Session || rep.Of("ike_sm4_id").Standing != Seen || rep.Of("send_certs").Standing != Seen {
			t.Errorf("anywhere %v: session %v, %q\n%q", anywhere, rep.Session, wrong, rep.Notes)
		}
	}
}

// Where nobody proves to be the far end its knobs cannot be told; what came is noted.
func TestListenerOnlyNotesACallerThatProvesNothing(t *testing.T) {
	x := newDraw(t, 1, true)
	i, r := x.sites()
	i.Peer().Remote = policy.Remote{Any: true}
	l := lab.New(1, i, r)
	l.Story.Off = true
	cfg := config(l)
	cfg.Remote = netip.Addr{}
	m, err := NewListener(cfg)
	if err != nil {
		t.Fatal(err)
	}
	l.Gateway("i").Driver = m
	l.After(time.Second, func() {
		l.Inject(netip.MustParseAddrPort("203.0.113.77:500"), netip.AddrPortFrom(i.Addr, portIKE), standardOpening().message(wire.Cookie{1}))
	})
	l.Run(5 * time.Minute)
	if m.Done() {
		t.Error("the call of somebody else ended it")
	}
	l.Gateway("i").Stop("")
	rep := m.Report()
	for _, knob := range []string{"gm_version", "ike_sm4_id", "key_length", "nat_t", "send_dpd_vid", "initiate"} {
		if f := rep.Of(knob); f.Standing != Untold || f.Because == "" {
			t.Errorf("%v", f)
		}
	}
	if rep.Block != "" || !strings.Contains(strings.Join(rep.Notes, "\n"), "203.0.113.77, which nothing proves") {
		t.Errorf("%q\n%s", rep.Notes, rep.Block)
	}
}
