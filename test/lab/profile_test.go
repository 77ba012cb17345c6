package lab

import (
	"slices"
	"strings"
	"testing"
	"time"

	"yumen/ike"
	"yumen/ike/wire"
	"yumen/policy"
)

// as gives a site a profile and what belongs to it.
func as(s *Site, p policy.Profile) {
	s.Peer().Profile, s.Peer().Dialect = p, p.Dialect()
	if p == policy.Hillstone10 {
		onFile(s)
	}
}

// deviations collects what a gateway says of its peer's dialect.
func (l *Lab) deviations(name string) *[]string {
	var list []string
	l.Gateway(name).Told = func(v ike.Event) {
		if v.Kind == ike.Deviation {
			list = append(list, v.Detail)
		}
	}
	return &list
}

func (l *Lab) bothUp() bool {
	for _, g := range l.gateways {
		if _, up := g.Plane.InUse("office"); !up {
			return false
		}
	}
	return len(l.Faults) == 0
}

// The old header speaks to its like alone; what else differs is told and gets
// through, also between two ends that both insist on their own form.
func TestEveryProfileAgainstEveryProfile(t *testing.T) {
	for _, a := range policy.Profiles() {
		for _, b := range policy.Profiles() {
			i, r := members().Pair()
			as(&i, a)
			as(&r, b)
			l := New(1, i, r)
			reasons := l.listen("r")
			l.Run(100 * time.Second)
			old := a == policy.Hillstone10
			want := old == (b == policy.Hillstone10)
			switch {
			case want != l.bothUp():
				t.Errorf("%v calls %v: up %v, want %v, reasons %v", a, b, l.bothUp(), want, *reasons)
			case !want && old && !slices.Contains(*reasons, ike.BadVersion):
				t.Errorf("%v calls %v: reasons %v", a, b, *reasons)
			}
			if !want {
				l.nothingSetUp(t)
			}
		}
	}
}

// A peer of the old header that we call with 1.1 answers without certificates,
// which we do not have.
func TestAnswerWithoutCertificatesNeedsThemOnFile(t *testing.T) {
	i, r := members().Pair()
	as(&r, policy.Hillstone10)
	l := New(1, i, r)
	reasons := l.listen("i")
	l.Run(100 * time.Second)
	if !slices.Contains(*reasons, ike.PayloadOrder) {
		t.Errorf("reasons %v", *reasons)
	}
	l.nothingSetUp(t)
}

// Where both ends take nothing but their own form, the profiles that say the same
// connect, and each of the others fails with its reason.
func TestExactProfilesConnectWhereTheySayTheSame(t *testing.T) {
	for _, a := range policy.Profiles() {
		for _, b := range policy.Profiles() {
			if a == policy.Auto || b == policy.Auto {
				continue
			}
			i, r := members().Pair()
			as(&i, a)
			as(&r, b)
			i.Peer().Dialect.Exact, r.Peer().Dialect.Exact = true, true
			l := New(1, i, r)
			reasons := l.listen("r")
			l.Run(100 * time.Second)
			x, y := i.Peer().Dialect, r.Peer().Dialect
			why := ike.Reason("")
			switch {
			case x.GMVersion0 != y.GMVersion0:
				why = ike.BadVersion
			case x.IKESM4 != y.IKESM4:
				why = ike.NoProposal
			case x.ESPSM4 != y.ESPSM4 && x.ESPSM4 != policy.ESPBoth && y.ESPSM4 != policy.ESPBoth:
				why = ike.NoSuite
			}
			if (why == "") != l.bothUp() || why != "" && !slices.Contains(*reasons, why) {
				t.Errorf("%v calls %v: up %v, reasons %v, want %q", a, b, l.bothUp(), *reasons, why)
			}
		}
	}
}

// shows are the knobs that the other end can see, with the words in which it says
// so.
var shows = map[string]func(*policy.Dialect){
	"ike_sm4_id: 127":         func(d *policy.Dialect) { d.IKESM4 = policy.SM4Draft },
	"key_length: send":        func(d *policy.Dialect) { d.KeyLength = policy.KeyLengthSend },
	"sk_encoding: c1c3c2":     func(d *policy.Dialect) { d.SKEncoding = policy.SKC1C3C2 },
	"sk_encoding: c1c2c3":     func(d *policy.Dialect) { d.SKEncoding = policy.SKC1C2C3 },
	"sig_encoding: raw":       func(d *policy.Dialect) { d.SigRaw = true },
	"sig_cert_body: without":  func(d *policy.Dialect) { d.SigNoByte = true },
	"field_pad: pkcs7":        func(d *policy.Dialect) { d.FieldPad = policy.PadPKCS7 },
	"id_iv: zero":             func(d *policy.Dialect) { d.IDZeroIV = true },
	"qm_hash: std-full":       func(d *policy.Dialect) { d.QMHash = policy.HashStdFull },
	"qm_hash: std-body":       func(d *policy.Dialect) { d.QMHash = policy.HashStdBody },
	"cert_order: enc-sign":    func(d *policy.Dialect) { d.EncFirst = true },
	"dpd_spi: none":           func(d *policy.Dialect) { d.DPDNoSPI = true },
	"dpd_order: notify-first": func(d *policy.Dialect) { d.DPDFirst = true },
	"nonce_length: 32":        func(d *policy.Dialect) { d.Nonce = 32 },
	"natd_hash: sha1":         func(d *policy.Dialect) { d.NATDHash = policy.NATDSHA1 },
}

// free are those of them that are the sender's own affair.
func free(line string) bool {
	return strings.HasPrefix(line, "nonce") || strings.HasPrefix(line, "natd")
}

// What an initiator does otherwise is told by the responder, with the line that
// makes it explicit, and no more once that line is there.
func TestEachDeviationIsToldWithItsLine(t *testing.T) {
	for line, turn := range shows {
		for _, known := range []bool{false, true} {
			i, r := members().Pair()
			asks(&i)
			turn(&i.Peer().Dialect)
			if known {
				turn(&r.Peer().Dialect)
			}
			l := New(1, i, r)
			l.Story.Off = true
			told := l.deviations("r")
			l.Run(30 * time.Second)
			found := slices.ContainsFunc(*told, func(s string) bool { return strings.HasSuffix(s, ": "+line) })
			if !l.bothUp() || found == known || known && len(*told) > 0 {
				t.Errorf("%s, known %v: up %v, told %q", line, known, l.bothUp(), *told)
			}
		}
	}
}

// What shows in an exact responder's messages alone is refused with a reason.
func TestExactPeerRefusesEachDeviation(t *testing.T) {
	for line, turn := range shows {
		dpd := strings.HasPrefix(line, "dpd")
		i, r := members().Pair()
		asks(&i)
		turn(&i.Peer().Dialect)
		r.Peer().Dialect.Exact = true
		l := New(1, i, r)
		l.Story.Off = true
		reasons := l.listen("r")
		l.Run(100 * time.Second)
		if free(line) {
			if !l.bothUp() {
				t.Errorf("%s: refused for %v", line, *reasons)
			}
			continue
		}
		if !slices.ContainsFunc(*reasons, func(x ike.Reason) bool {
			return x == ike.Deviates || x == ike.NoProposal || x == ike.BadHash
		}) {
			t.Errorf("%s: reasons %v", line, *reasons)
		}
		if !dpd { // which comes later
			l.nothingSetUp(t)
		}
	}
}

func TestOnlyTheEndThatMayBeginsMainMode(t *testing.T) {
	i, r := members().Pair()
	r.Peer().Dialect.Initiate = policy.InitiateUs
	l := New(1, i, r)
	reasons := l.listen("r")
	l.Run(70 * time.Second)
	if l.bothUp() || !slices.Contains(*reasons, ike.WrongInitiator) {
		t.Errorf("it answered: %v", *reasons)
	}
	l.Gateway("r").Start("office")
	if !l.RunUntil(10*time.Second, l.bothUp) {
		t.Error("it did not call when asked to")
	}

	i, r = members().Pair()
	i.Peer().Dialect.Initiate = policy.InitiateThem
	l = New(1, i, r)
	l.Run(70 * time.Second)
	if l.Gateway("i").Keys != 0 || l.bothUp() {
		t.Error("an end that only answers called")
	}
	l.Gateway("r").Start("office")
	if !l.RunUntil(10*time.Second, l.bothUp) {
		t.Error("an end that only answers did not answer")
	}
}

// A transform ID that is not KEY_IKE is refused unless the entry says ignore.
func TestTransformIDIsCheckedUnlessToldOtherwise(t *testing.T) {
	for _, ignore := range []bool{false, true} {
		i, r := members().Pair()
		i.Peer().Dialect.AnyTransform, r.Peer().Dialect.AnyTransform = true, ignore
		l := New(1, i, r)
		reasons := l.listen("r")
		l.Hook = otherTransformID
		l.Run(30 * time.Second)
		if refused := slices.Contains(*reasons, ike.NoProposal); refused == ignore {
			t.Errorf("ignore %v: reasons %v", ignore, *reasons)
		}
	}
}

// otherTransformID writes 7 where M1 says KEY_IKE.
func otherTransformID(p Packet) []Packet {
	if p.Label == "main 1" {
		m := must(wire.Parse(p.Data))
		sa := must(wire.ParseSA(m.Payloads[0].Body))
		sa.Proposals[0].Transforms[0].ID = 7
		m.Payloads[0].Body = sa.Append(nil)
		p.Data = m.Append(nil)
	}
	return []Packet{p}
}

// A gateway whose certificates were issued by an intermediate sends that too.
func TestIntermediatesAreSentWhereTheEntrySaysSo(t *testing.T) {
	m := NewMembers()
	sub := m.Root.Sub("intermediate")
	for _, sent := range []bool{false, true} {
		i, r := m.Pair()
		i.Own = sub.Issue(SubjectI, Validity{})
		r.Own = sub.Issue(SubjectR, Validity{})
		if sent {
			i.Files = map[string]ike.PeerFiles{"r": {Chain: [][]byte{sub.DER()}}}
			r.Files = map[string]ike.PeerFiles{"i": {Chain: [][]byte{sub.DER()}}}
		}
		l := New(1, i, r)
		reasons := l.listen("i")
		l.Run(70 * time.Second)
		if l.bothUp() != sent || !sent && !slices.Contains(*reasons, ike.CertUnknownCA) {
			t.Errorf("sent %v: up %v, reasons %v", sent, l.bothUp(), *reasons)
		}
	}
}

// The old profile has one certificate for both uses, sent once, by the initiator.
func TestPeersWithOneCertificateEach(t *testing.T) {
	m := NewMembers()
	i, r := m.Pair()
	i.Own, r.Own = m.Root.IssueOne(SubjectI), m.Root.IssueOne(SubjectR)
	for s, other := range map[*Site]*Identity{&i: r.Own, &r: i.Own} {
		s.Peer().Profile, s.Peer().Dialect = policy.Hillstone10, policy.Hillstone10.Dialect()
		s.Files = map[string]ike.PeerFiles{s.Peer().Name: {Sign: other.Pair.Sign.DER, Enc: other.Pair.Enc.DER}}
	}
	l := New(1, i, r)
	certs := map[string]int{}
	l.Hook = func(p Packet) []Packet {
		if p.Label == "main 2" || p.Label == "main 3" {
			for _, x := range must(wire.Parse(p.Data)).Payloads {
				if x.Type == wire.TypeCert {
					certs[p.Label]++
				}
			}
		}
		return []Packet{p}
	}
	l.Run(10 * time.Second)
	if !l.bothUp() || certs["main 2"] != 0 || certs["main 3"] != 1 {
		t.Errorf("up %v, certificates %v\n%s", l.bothUp(), certs, l.Story.String())
	}
}

// Two entries allow every address. The first does not take the offer, the second
// does, and whose peer it is its certificates say: then the offer counts by that
// entry.
func TestOfferIsJudgedByTheEntryOfItsSender(t *testing.T) {
	for _, strict := range []string{"other", "own"} {
		i, r := members().Pair()
		i.Peer().Dialect.KeyLength = policy.KeyLengthSend
		own := r.Policy.Peers[0]
		own.Remote = policy.Remote{Any: true}
		other := own
		other.Name, other.Identity.Subject = "t", "CN=gw-t,O=Example,C=CN"
		refusing := &other
		if strict == "own" {
			refusing = &own
		}
		refusing.Dialect.KeyLength = policy.KeyLengthRefuse
		r.Policy.Peers = []policy.Peer{*refusing, own}
		if strict == "own" {
			r.Policy.Peers[1] = other
		}
		l := New(1, i, r)
		l.Story.Off = true
		reasons := l.listen("r")
		l.Run(70 * time.Second)
		if up := l.bothUp(); up != (strict == "other") || !up && !slices.Contains(*reasons, ike.NoProposal) {
			t.Errorf("%s entry is strict: up %v, reasons %v", strict, up, *reasons)
		}
	}
}
