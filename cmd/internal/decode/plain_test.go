package decode

import (
	"net/netip"
	"testing"

	"yumen/ike/wire"
	"yumen/policy"
)

// A session of plain RFC 2409 is told apart at its first message, and what cannot
// be opened is no failure.
func TestPlainSessionsAreFlaggedAndFailNothing(t *testing.T) {
	a, b := netip.MustParseAddrPort("192.0.2.1:500"), netip.MustParseAddrPort("192.0.2.2:500")
	sa := wire.SA{DOI: 1, Situation: 1, Proposals: []wire.Proposal{{Number: 1, Protocol: wire.ProtoISAKMP,
		Transforms: []wire.Transform{{Number: 1, ID: 1, Attributes: []wire.Attribute{wire.Short(1, 7), wire.Short(14, 128),
			wire.Short(2, 4), wire.Short(3, 1), wire.Short(4, 14)}}}}}}
	offer := []wire.Payload{{Type: wire.TypeSA, Body: sa.Append(nil)}}
	share := func() []wire.Payload {
		return []wire.Payload{{Type: wire.TypeKE, Body: random(256)}, {Type: wire.TypeNonce, Body: random(32)}}
	}
	h := wire.Header{Initiator: wire.Cookie{1}, Version: wire.Version10, Exchange: wire.MainMode}
	var frames [][]byte
	send := func(from, to netip.AddrPort, data []byte) { frames = append(frames, udpFrame(from, to, data)) }
	clear := func(from, to netip.AddrPort, ps []wire.Payload) {
		send(from, to, wire.Message{Header: h, Payloads: ps}.Append(nil))
		h.Responder = wire.Cookie{2}
	}
	clear(a, b, offer)
	clear(b, a, offer)
	clear(a, b, share())
	clear(b, a, share())
	sealed := func(from, to netip.AddrPort, x wire.ExchangeType, id uint32) {
		h.Exchange, h.MessageID, h.Flags = x, id, wire.FlagEncrypted
		send(from, to, h.Append(nil, wire.TypeHash, random(64)))
	}
	sealed(a, b, wire.MainMode, 0)
	sealed(b, a, wire.MainMode, 0)
	sealed(a, b, wire.QuickMode, 7)
	sealed(b, a, wire.Informational, 8)
	r := decodeBytes(t, record(t, frames...), Options{})
	if len(r.Sessions) != 1 || r.Sessions[0].NonGM != policy.ProfileRFC2409 || len(r.Sessions[0].Deviates) != 0 || r.Failed != 0 {
		t.Errorf("sessions %+v, %d failed", r.Sessions, r.Failed)
	}
	wantText(t, r, notGM, "MODP-2048", "M3", "M4", "M6", "not opened: "+notGM, "  not opened: "+sealedByDH)
}
