package probe

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"yumen/ike"
	"yumen/ike/wire"
)

// knocking is a first message that was just sent, and how the far end answers it.
func knocking(t *testing.T) (k *knocks, hear func(m wire.Message)) {
	t.Helper()
	now, far := time.Unix(1, 0), netip.MustParseAddr("198.51.100.1")
	k = newKnocks(rand.NewChaCha8([32]byte{1}), far, newReport("nobody asked"))
	if ps := k.step(now); len(ps) != 1 {
		t.Fatalf("%d packets", len(ps))
	}
	return k, func(m wire.Message) {
		m.Initiator, m.Responder = k.cookie, wire.Cookie{7}
		k.hear(now, ike.Datagram{Remote: netip.AddrPortFrom(far, portIKE), Data: m.Append(nil)})
	}
}

// What is no error refuses nothing, and who sends it under our cookie may be anybody.
func TestOnlyAnErrorIsARefusal(t *testing.T) {
	for typ, want := range map[wire.NotifyType]bool{wire.NoProposalChosen: true, 16383: true, 16384: false, wire.InitialContact: false} {
		k, hear := knocking(t)
		n := wire.Notification{DOI: 1, Protocol: wire.ProtoISAKMP, Type: typ, SPI: make([]byte, 16)}
		hear(wire.Message{Header: wire.Header{Version: wire.Version11, Exchange: wire.Informational, MessageID: 9},
			Payloads: []wire.Payload{{Type: wire.TypeNotify, Body: n.Append(nil)}}})
		if got := len(k.tried) == 1 && k.spoke; got != want {
			t.Errorf("%v: refused %v, want %v", typ, got, want)
		}
	}
}

// An answer takes what it repeats and nothing else.
func TestAnAnswerThatTakesSomethingElseIsNoAcceptance(t *testing.T) {
	for name, other := range map[string]func(*opening){
		"":                  func(*opening) {},
		"header version":    func(o *opening) { o.version = wire.Version10 },
		"number of SM4":     func(o *opening) { o.cipher = 127 },
		"transform ID":      func(o *opening) { o.transform = wrongTransform },
		"number of nothing": func(o *opening) { o.cipher = 1 },
	} {
		k, hear := knocking(t)
		o := k.now
		other(&o)
		m, err := wire.Parse(o.message(k.cookie))
		if err != nil {
			t.Fatal(err)
		}
		hear(m)
		if got := k.base != nil; got != (name == "") {
			t.Errorf("another %q: taken %v: %q", name, got, k.rep.Notes)
		}
	}
}
