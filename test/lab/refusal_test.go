package lab

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"yumen/ike"
	"yumen/ike/wire"
	"yumen/policy"
	"yumen/policy/trust"
)

// refused is one way in which two ends do not fit, and what the end that notices
// says of it.
type refused struct {
	name   string
	change func(i, r *Site)
	by     string // who notices
	want   ike.Reason
}

// bad are the identities that no gateway accepts; SubjectI and SubjectR are the
// names that they should have.
type bad struct {
	name string
	of   func(m *Members, good *Identity, subject string) *Identity
	crl  bool // the good one is on the revocation list
	want ike.Reason
}

func badIdentities() []bad {
	ago, soon := Epoch.AddDate(0, -2, 0), Epoch.AddDate(0, 0, 1)
	return []bad{
		{"wrong CA", func(m *Members, _ *Identity, s string) *Identity { return m.Foreign.Issue(s, Validity{}) }, false, ike.CertUnknownCA},
		{"expired", func(m *Members, _ *Identity, s string) *Identity {
			return m.Root.Issue(s, Validity{ago, Epoch.Add(-6 * time.Minute)})
		}, false, ike.CertExpired},
		{"not yet valid", func(m *Members, _ *Identity, s string) *Identity {
			return m.Root.Issue(s, Validity{soon, Epoch.AddDate(1, 0, 0)})
		}, false, ike.CertNotYetValid},
		{"revoked", func(_ *Members, good *Identity, _ string) *Identity { return good }, true, ike.CertRevoked},
		{"swapped", func(_ *Members, good *Identity, _ string) *Identity { return good.Swapped() }, false, ike.CertUsage},
		{"another's encryption certificate", func(m *Members, good *Identity, _ string) *Identity { return good.WithEnc(m.Third) }, false, ike.CertPair},
		{"wrong identity", func(m *Members, _ *Identity, _ string) *Identity { return m.Third }, false, ike.CertIdentity},
	}
}

// refusals are all mismatches, each in both roles.
func refusals(m *Members) (list []refused) {
	for _, b := range badIdentities() {
		list = append(list,
			refused{b.name + ", initiator", func(i, r *Site) {
				i.Own = b.of(m, m.I, SubjectI)
				if b.crl {
					r.CRL = m.Root.CRL(m.I.Pair.Sign)
				}
			}, "r", b.want},
			refused{b.name + ", responder", func(i, r *Site) {
				r.Own = b.of(m, m.R, SubjectR)
				if b.crl {
					i.CRL = m.Root.CRL(m.R.Pair.Enc)
				}
			}, "i", b.want})
	}
	other := policy.NetOf(netip.MustParsePrefix("10.9.0.0/16"))
	return append(list,
		refused{"selector", func(_, r *Site) { r.Tunnel().Selector.Local = other }, "r", ike.NoSelector},
		refused{"selector, told", func(_, r *Site) { r.Tunnel().Selector.Remote = other }, "i", ike.PeerRefused},
		refused{"protocol of the selector", func(_, r *Site) { r.Tunnel().Selector.Protocol = 6 }, "r", ike.NoSelector},
		refused{"suite", func(_, r *Site) { r.Tunnel().Suites = []policy.Suite{policy.SM4GCM128} }, "r", ike.NoSuite},
		refused{"suite, told", func(_, r *Site) { r.Tunnel().Suites = []policy.Suite{policy.SM4GCM128} }, "i", ike.PeerRefused},
		refused{"strict lifetime of phase 1", func(i, r *Site) {
			i.Peer().IKELifetime = 48 * time.Hour
			r.Peer().Dialect.StrictLifetime = true
		}, "r", ike.NoProposal},
		refused{"strict lifetime of phase 2", func(i, r *Site) {
			i.Tunnel().Lifetime = 2 * time.Hour
			r.Peer().Dialect.StrictLifetime = true
		}, "r", ike.NoSuite},
		refused{"unknown address", func(_, r *Site) { r.Peer().Remote.Addr = netip.MustParseAddr("203.0.113.5") }, "r", ike.UnknownPeer},
		refused{"no name", func(i, _ *Site) { i.Peer().Remote = policy.Remote{FQDN: "nowhere.example"} }, "i", ike.Unresolved},
		refused{"other user ID of SM2", func(i, _ *Site) { i.Peer().Dialect.SM2ID = "someone@example.cn" }, "r", ike.BadSignature},
		refused{"header 1.0", func(i, _ *Site) { i.Peer().Dialect.GMVersion0 = true }, "r", ike.BadVersion},
	)
}

// Each refusal has its own local reason, and nothing is set up.
func TestEachRefusalHasItsOwnReasonAndSetsNothingUp(t *testing.T) {
	m := NewMembers() // of our own: it goes on issuing
	for _, c := range refusals(m) {
		t.Run(c.name, func(t *testing.T) {
			i, r := m.Pair()
			c.change(&i, &r)
			l := New(1, i, r)
			reasons := l.listen(c.by)
			l.Run(100 * time.Second)
			if !slices.Contains(*reasons, c.want) {
				t.Errorf("%s gave the reasons %v, want %s", c.by, *reasons, c.want)
			}
			l.nothingSetUp(t)
		})
	}
}

// listen collects the reasons that a gateway gives.
func (l *Lab) listen(name string) *[]ike.Reason {
	l.Story.Off = true
	var list []ike.Reason
	l.Gateway(name).Told = func(v ike.Event) {
		if v.Reason != "" && v.Kind != ike.Repeated {
			list = append(list, v.Reason)
		}
	}
	return &list
}

func (l *Lab) nothingSetUp(t *testing.T) {
	t.Helper()
	for _, g := range l.gateways {
		if n := len(g.Plane.Installed()); n != 0 {
			t.Errorf("%s: %d children are installed", g.Name, n)
		}
	}
	for _, f := range l.Faults {
		t.Error(f)
	}
}

// A certificate that is refused in message 2 shows in the state of the tunnel.
func TestReasonOfARefusedAnswerStandsInTheStatus(t *testing.T) {
	i, r := members().Pair()
	i.Anchor = members().Foreign.PEM()
	l := New(1, i, r)
	l.Run(70 * time.Second)
	if got := l.Gateway("i").Engine.Status().Tunnels[0].LastFailure; got != ike.CertUnknownCA {
		t.Errorf("last failure is %q, want %q", got, ike.CertUnknownCA)
	}
}

// flips says which reason a flipped bit in each payload must give. Where the
// place of the bit decides, several are possible.
var flips = map[string]map[wire.PayloadType][]ike.Reason{
	"main 1": { // what suits though it is another offer is answered, and its maker sees that
		wire.TypeSA: {ike.NoProposal, ike.Malformed, ike.AnswerMismatch},
	},
	"main 2": {
		wire.TypeSA:   {ike.AnswerMismatch, ike.Malformed},
		wire.TypeCert: {ike.CertMalformed, ike.CertUnknownCA, ike.PayloadOrder},
	},
	"main 3": {
		wire.TypeSK:    {ike.BadEnvelope},
		wire.TypeNonce: {ike.BadSignature, ike.BadPadding},
		wire.TypeID:    {ike.BadSignature, ike.BadPadding, ike.BadID},
		wire.TypeCert:  {ike.CertMalformed, ike.CertUnknownCA, ike.PayloadOrder},
		wire.TypeSig:   {ike.BadSignature},
	},
	"main 4": {
		wire.TypeSK:    {ike.BadEnvelope},
		wire.TypeNonce: {ike.BadSignature, ike.BadPadding},
		wire.TypeID:    {ike.BadSignature, ike.BadPadding, ike.BadID},
		wire.TypeSig:   {ike.BadSignature},
	},
}

// A bit flipped in any payload, all the way through, is refused with a reason of
// its own and nothing is set up.
func TestFlippedBitInAnyPayloadIsRefusedWithItsReason(t *testing.T) {
	for label, payloads := range flips {
		for typ, want := range payloads {
			t.Run(label+" "+typ.String(), func(t *testing.T) {
				for _, part := range []int{0, 1, 2, 3} {
					flipAlways(t, label, typ, part, want)
				}
			})
		}
	}
}

func flipAlways(t *testing.T, label string, typ wire.PayloadType, part int, want []ike.Reason) {
	l := plain(1)
	victim := "r"
	if label != "main 3" {
		victim = "i"
	}
	reasons, maker := l.listen(victim), &[]ike.Reason{}
	if label == "main 1" {
		reasons, maker = l.listen("r"), reasons
	}
	l.Hook = func(p Packet) []Packet {
		if p.Label == label {
			m := must(wire.Parse(p.Data))
			n := slices.IndexFunc(m.Payloads, func(x wire.Payload) bool { return x.Type == typ })
			m.Payloads[n].Body = flip(bytes.Clone(m.Payloads[n].Body), part*(len(m.Payloads[n].Body)-1)/3)
			p.Data = m.Append(nil)
		}
		return []Packet{p}
	}
	l.Run(100 * time.Second)
	if !slices.ContainsFunc(append(*reasons, *maker...), func(r ike.Reason) bool { return slices.Contains(want, r) }) {
		t.Errorf("part %d: reasons %v, want one of %v", part, *reasons, want)
	}
	l.nothingSetUp(t)
}

// A bit flipped in any payload under the protection of a HASH, wherever it stands, is
// a bad hash and nothing else, whatever the rest of the message says.
func TestFlippedBitInAnyProtectedPayloadIsABadHash(t *testing.T) {
	for n, victim := range []string{1: "r", 2: "i", 3: "r"} {
		payloads := 5 // HASH, SA, NONCE, ID, ID
		if n == 3 {
			payloads = 1
		}
		for at := range 3 * payloads * min(n, 1) {
			i, r := members().Pair()
			l := New(1, i, r)
			m := &meddler{t: t, l: l, spoil: func(message int, ps []wire.Payload) []wire.Payload {
				if message == n {
					if len(ps) != payloads {
						t.Fatalf("quick %d has %d payloads", n, len(ps))
					}
					body := ps[at/3].Body
					ps[at/3].Body = flip(body, at%3*(len(body)-1)/2)
				}
				return ps
			}}
			l.onlyBadHash(t, fmt.Sprintf("quick %d, payload %d, part %d", n, at/3+1, at%3), victim, m.hook)
		}
	}
	for label, victim := range map[string]string{"main 5": "r", "main 6": "i"} {
		for at := range 3 * 16 { // one HASH of 32 bytes behind its header
			l := plain(1)
			l.onlyBadHash(t, fmt.Sprintf("%s, byte %d", label, at), victim, func(p Packet) []Packet {
				if p.Label == label {
					p.Data = flip(p.Data, wire.HeaderLen+at)
				}
				return []Packet{p}
			})
		}
	}
}

// onlyBadHash runs a lab and checks that the victim says bad hash, and nothing else.
func (l *Lab) onlyBadHash(t *testing.T, name, victim string, hook func(Packet) []Packet) {
	t.Helper()
	l.Hook = func(p Packet) []Packet {
		if p.Label == "esp" { // it would stand in for a quick 3
			return nil
		}
		return hook(p)
	}
	var reasons []ike.Reason
	g := l.Gateway(victim)
	g.Told = func(v ike.Event) {
		if v.Reason != "" && v.Kind != ike.Repeated {
			reasons = append(reasons, v.Reason)
		}
	}
	l.Run(5 * time.Second)
	if len(reasons) == 0 || slices.ContainsFunc(reasons, func(r ike.Reason) bool { return r != ike.BadHash }) {
		t.Errorf("%s: %s says %v, want %s alone", name, victim, reasons, ike.BadHash)
	}
	if carries(g) {
		t.Errorf("%s: %s uses a child", name, victim)
	}
}

// A bit flipped in any protected message is refused: as a bad hash, or before,
// when the decrypted payloads make no sense.
func TestFlippedBitUnderEncryptionIsRefused(t *testing.T) {
	for label, victim := range map[string]string{"main 5": "r", "main 6": "i", "quick 1": "r", "quick 2": "i", "quick 3": "r"} {
		l := plain(1)
		reasons := l.listen(victim)
		l.Hook = func(p Packet) []Packet {
			if p.Label == label {
				p.Data = flip(p.Data, wire.HeaderLen+20)
			}
			if p.Label == "esp" { // it would stand in for a quick 3
				return nil
			}
			return []Packet{p}
		}
		l.Run(100 * time.Second)
		if !slices.Contains(*reasons, ike.BadHash) && !slices.Contains(*reasons, ike.PayloadOrder) {
			t.Errorf("%s: reasons %v, want %s or %s", label, *reasons, ike.BadHash, ike.PayloadOrder)
		}
		if _, used := l.Gateway(victim).Plane.InUse("office"); used {
			t.Errorf("%s: %s uses a child", label, victim)
		}
	}
}

// What Verify refuses stands in the engine under the same word.
func TestReasonsOfTheEngineAreThoseOfTheVerifier(t *testing.T) {
	for want, got := range map[trust.Reason]ike.Reason{trust.Malformed: ike.CertMalformed, trust.UnknownCA: ike.CertUnknownCA,
		trust.Expired: ike.CertExpired, trust.NotYetValid: ike.CertNotYetValid, trust.Revoked: ike.CertRevoked,
		trust.KeyUsage: ike.CertUsage, trust.PairMismatch: ike.CertPair, trust.BadIdentity: ike.CertIdentity,
		trust.StaleCRL: ike.CRLStale, trust.BadID: ike.BadID} {
		if string(want) != string(got) {
			t.Errorf("%q against %q", want, got)
		}
	}
}
