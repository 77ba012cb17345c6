package lab

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"yumen/ike"
	"yumen/ike/wire"
	"yumen/policy"
)

// Whatever happens, auto offers SM4, SM3 and the envelope under header 1.1, sends
// certificates, and tries six forms an hour, the standard one first.
func TestAutoNeverOffersAnythingWeaker(t *testing.T) {
	i, r := members().Pair()
	as(&i, policy.Auto)
	r.Peer().Dialect.PeerID = "x"
	l := New(1, i, r)
	l.Story.Off = true
	x := l.tries("i")
	thirds := map[string]bool{}
	l.Hook = func(p Packet) []Packet {
		if p.From != "i" {
			return []Packet{p}
		}
		m := must(wire.Parse(p.Data))
		switch p.Label {
		case "main 1":
			onlySM(t, m)
		case "main 3":
			thirds[fmt.Sprint(len(m.Payloads), len(m.Payloads[0].Body), m.Payloads[0].Body[0] == 0x30)] = true
			if n := len(slices.DeleteFunc(m.Payloads, func(p wire.Payload) bool { return p.Type != wire.TypeCert })); n != 2 {
				t.Errorf("message 3 with %d certificates", n)
			}
			return nil
		}
		return []Packet{p}
	}
	l.Run(150 * time.Minute)
	for n := range 2 {
		from := time.Duration(n) * (time.Hour + 2*time.Minute)
		forms := x.forms(from, from+55*time.Minute)
		if len(forms) > 6 || len(forms) < 3 {
			t.Errorf("period %d: %d forms %q", n, len(forms), forms)
		}
	}
	if len(thirds) < 2 || len(x.at) < 20 {
		t.Errorf("the search did not search: %v, %d attempts", thirds, len(x.at))
	}
	if got := l.Gateway("i").Engine.Status().Learned; len(got) != 0 {
		t.Errorf("learned from nothing: %v", got)
	}
	again := 0
	for n, at := range x.at {
		if at >= time.Hour && at < 64*time.Minute && x.dialect[n] == "" {
			again++
		}
	}
	if again == 0 {
		t.Errorf("after an hour the standard form did not come first: %v %q", x.at, x.dialect)
	}
}

func onlySM(t *testing.T, m wire.Message) {
	t.Helper()
	sa := must(wire.ParseSA(m.Payloads[0].Body))
	if m.Version != wire.Version11 || len(sa.Proposals) != 1 || len(sa.Proposals[0].Transforms) != 1 {
		t.Errorf("%v", m)
	}
	for _, a := range sa.Proposals[0].Transforms[0].Attributes {
		v, _ := a.Uint()
		ok := map[uint16][]uint64{1: {127, 129}, 2: {20}, 3: {10}, 20: {2}}[a.Type]
		if ok != nil && !slices.Contains(ok, v) {
			t.Errorf("attribute %d is %d", a.Type, v)
		}
	}
}

// Forged notifications of every kind, and answers made of what was recorded,
// change which of the same forms comes next, and nothing else.
func TestForgedHintsChangeNothingButTheOrder(t *testing.T) {
	all := map[string]bool{}
	for _, forge := range []bool{false, true} {
		i, r := members().Pair()
		as(&i, policy.Auto)
		exactly(&r, func(d *policy.Dialect) { d.SigNoByte = true })
		l := New(1, i, r)
		l.Story.Off = true
		x := l.tries("i")
		if forge {
			l.Hook = hints(l)
		}
		if !l.RunUntil(3*time.Hour, l.bothUp) {
			t.Fatalf("forged %v: not up: %q", forge, x.dialect)
		}
		if forms := x.forms(0, time.Hour); len(forms) > 6 || forms[0] != "" {
			t.Errorf("forged %v: %q", forge, forms)
		}
		for _, d := range x.dialect {
			all[d] = true
		}
		got := l.Gateway("i").Engine.Status().Learned
		if len(got) != 1 || got[0].Dialect != "{sig_cert_body: without}" {
			t.Errorf("forged %v: learned %v", forge, got)
		}
	}
	for d := range all {
		if _, err := policy.Relearn(policy.Auto.Dialect(), d); d != "" && err != nil {
			t.Errorf("a form of its own: %v", err)
		}
	}
}

// hints answers each message of i with notifications that nobody vouches for, and
// doubles each message 2 under other cookies, as who hears it can.
func hints(l *Lab) func(Packet) []Packet {
	kinds := []wire.NotifyType{wire.NoProposalChosen, wire.InvalidMinorVersion, wire.InvalidCertificate, wire.AuthenticationFailed}
	return func(p Packet) []Packet {
		if p.From == "i" && (p.Label == "main 1" || p.Label == "main 3") {
			h := must(wire.ParseHeader(p.Data))
			for _, k := range kinds {
				n := wire.Notification{DOI: 1, Protocol: wire.ProtoISAKMP, Type: k, SPI: make([]byte, 16)}
				m := wire.Message{Header: wire.Header{Initiator: h.Initiator, Responder: wire.Cookie{9}, Version: wire.Version11,
					Exchange: wire.Informational, MessageID: 7}, Payloads: []wire.Payload{{Type: wire.TypeNotify, Body: n.Append(nil)}}}
				l.After(time.Millisecond, func() {
					l.Gateway("i").Feed(ike.Datagram{Local: p.Source, Remote: p.Dest, Data: m.Append(nil)})
				})
			}
		}
		if p.From == "r" && p.Label == "main 2" { // as who hears it can make
			forged := p
			forged.Data = slices.Clone(p.Data)
			forged.Data[8] ^= 0xff
			return []Packet{forged, p}
		}
		return []Packet{p}
	}
}
