package lab

import (
	"slices"
	"strings"
	"testing"
	"time"

	"yumen/ike"
	"yumen/policy"
)

// exactly is a peer that speaks and takes one form only.
func exactly(s *Site, turn func(*policy.Dialect)) {
	turn(&s.Peer().Dialect)
	s.Peer().Dialect.Exact = true
}

// tries collects how each main mode of a gateway began, and when.
type tries struct {
	at      []time.Duration
	dialect []string
}

func (l *Lab) tries(name string) *tries {
	x := &tries{}
	l.Gateway(name).Told = func(v ike.Event) {
		if v.Kind == ike.IKEStarted && v.Role == ike.Initiator {
			x.at, x.dialect = append(x.at, l.Now().Sub(Epoch)), append(x.dialect, v.Detail)
		}
	}
	return x
}

// forms is how many forms were tried from one moment to another.
func (x *tries) forms(from, to time.Duration) []string {
	var out []string
	for n, at := range x.at {
		if at >= from && at < to && !slices.Contains(out, x.dialect[n]) {
			out = append(out, x.dialect[n])
		}
	}
	return out
}

// A peer that shows its form first is answered in it, whatever it is.
func TestAutoAnswersEachDeviationInKind(t *testing.T) {
	for line, turn := range shows {
		i, r := members().Pair()
		asks(&i)
		exactly(&i, turn)
		as(&r, policy.Auto)
		l := New(1, i, r)
		l.Story.Off = true
		l.Run(30 * time.Second)
		want := "{" + line + "}"
		if line == "key_length: send" || free(line) {
			want = "" // of use to nobody but an initiator, or no affair of ours
		}
		got := ""
		for _, x := range l.Gateway("r").Engine.Status().Learned {
			got += x.Dialect
		}
		if !l.bothUp() || got != want {
			t.Errorf("%s: up %v, learned %q", line, l.bothUp(), got)
		}
		if s := l.Gateway("r").Engine.Status().Sessions[0]; !strings.Contains(s.Explicit, line) {
			t.Errorf("%s: status says %q %q", line, s.Deviations, s.Explicit)
		}
	}
}

// Zeros without a count are ambiguous alone; the signature says what is meant.
func TestAutoReadsNoncesPaddedWithZeros(t *testing.T) {
	i, r := members().Pair()
	i.Peer().Dialect.FieldPad, i.Peer().Dialect.ZeroPad, i.Peer().Dialect.Exact = policy.PadZeros, true, true
	as(&r, policy.Auto)
	l := New(1, i, r)
	l.Run(30 * time.Second)
	s := l.Gateway("r").Engine.Status()
	if !l.bothUp() || len(s.Learned) != 1 || s.Learned[0].Dialect != "{field_pad: zeros}" ||
		s.Sessions[0].Explicit != "profile: gbt36968-2018, dialect: {field_pad: zeros, accept_zero_pad: true}" {
		t.Errorf("%+v", s)
	}
}

// found are peers that a search finds, and what it says of them then.
var found = map[string]func(*policy.Dialect){
	"":                  func(*policy.Dialect) {},
	"{ike_sm4_id: 127}": func(d *policy.Dialect) { d.IKESM4 = policy.SM4Draft },
	"{sk_encoding: c1c3c2, sig_encoding: raw}": func(d *policy.Dialect) { d.SKEncoding, d.SigRaw = policy.SKC1C3C2, true },
	"{sig_cert_body: without}":                 func(d *policy.Dialect) { d.SigNoByte = true },
	"{field_pad: pkcs7}":                       func(d *policy.Dialect) { d.FieldPad = policy.PadPKCS7 },
	"{sk_encoding: c1c3c2}":                    func(d *policy.Dialect) { d.SKEncoding = policy.SKC1C3C2 },
	"{sk_encoding: c1c2c3}":                    func(d *policy.Dialect) { d.SKEncoding = policy.SKC1C2C3 },
	"{id_iv: zero}":                            func(d *policy.Dialect) { d.IDZeroIV = true },
	"{field_pad: zeros}":                       func(d *policy.Dialect) { d.FieldPad, d.ZeroPad = policy.PadZeros, true },
	"{sig_encoding: raw}":                      func(d *policy.Dialect) { d.SigRaw = true },
	"{qm_hash: std-full}":                      func(d *policy.Dialect) { d.QMHash = policy.HashStdFull },
	"{qm_hash: std-body}":                      func(d *policy.Dialect) { d.QMHash = policy.HashStdBody },
	"{ike_sm4_id: 127, qm_hash: std-body}":     func(d *policy.Dialect) { d.IKESM4, d.QMHash = policy.SM4Draft, policy.HashStdBody },
	"{ike_sm4_id: 127, sk_encoding: c1c3c2, sig_encoding: raw}": func(d *policy.Dialect) {
		d.IKESM4, d.SKEncoding, d.SigRaw = policy.SM4Draft, policy.SKC1C3C2, true
	},
}

// An initiator finds the form of a peer that takes no other, and calls it at once
// in that form after a restart.
func TestAutoFindsTheFormOfAPeerThatTakesNoOther(t *testing.T) {
	for want, turn := range found {
		t.Run(want, func(t *testing.T) {
			i, r := members().Pair()
			as(&i, policy.Auto)
			exactly(&r, turn)
			l := New(1, i, r)
			l.Story.Off = true
			x := l.tries("i")
			if !l.RunUntil(3*time.Hour, l.bothUp) {
				t.Fatalf("not up: %v", x.dialect)
			}
			for h := range 3 {
				from := time.Duration(h) * time.Hour
				if forms := x.forms(from, from+time.Hour); len(forms) > 6 || len(forms) > 0 && forms[0] != "" {
					t.Errorf("in hour %d: %q", h, forms)
				}
			}
			i = l.Gateway("i").Site
			i.Learned = l.Gateway("i").Engine.Status().Learned
			got := ""
			if len(i.Learned) == 1 {
				got = i.Learned[0].Dialect
			}
			if got != want {
				t.Errorf("learned %q", i.Learned)
			}
			l = New(2, i, r)
			if !l.RunUntil(5*time.Second, l.bothUp) {
				t.Errorf("not up at once with what was learned:\n%s", l.Story.String())
			}
		})
	}
}

// Profiles as they are, and as peers that take nothing else, in both roles.
func TestAutoAgainstEveryProfileInBothRoles(t *testing.T) {
	for _, p := range policy.Profiles() {
		for _, exact := range []bool{false, true} {
			for _, role := range []string{"i", "r"} {
				i, r := members().Pair()
				auto, other := &i, &r
				if role == "r" {
					auto, other = &r, &i
				}
				as(auto, policy.Auto)
				as(other, p)
				other.Peer().Dialect.Exact = exact && p != policy.Auto
				l := New(1, i, r)
				l.Story.Off = true
				reasons := l.listen("r")
				up := l.RunUntil(time.Hour, l.bothUp)
				if want := p != policy.Hillstone10; up != want {
					t.Errorf("auto as %s, %v, exact %v: up %v", role, p, exact, up)
				}
				if p == policy.Hillstone10 {
					l.nothingSetUp(t)
					if role == "r" && !slices.Contains(*reasons, ike.BadVersion) {
						t.Errorf("header 1.0 against auto: reasons %v", *reasons)
					}
				}
			}
		}
	}
}

// A session that was not proven teaches nothing: neither an initiator whose M6
// never came nor a responder whose M5 never came.
func TestOnlyAProvenSessionTeaches(t *testing.T) {
	for _, lost := range []string{"main 5", "main 6"} {
		i, r := members().Pair()
		as(&i, policy.Auto)
		as(&r, policy.Auto)
		i.Peer().Dialect.SKEncoding = policy.SKC1C3C2
		l := New(1, i, r)
		l.Story.Off = true
		l.Hook = func(p Packet) []Packet {
			if p.Label == lost {
				return nil
			}
			return []Packet{p}
		}
		l.Run(2 * time.Minute)
		for _, g := range l.gateways {
			n := len(g.Engine.Status().Learned)
			if proven := g.Name == "r" && lost == "main 6"; (n > 0) != proven {
				t.Errorf("%s lost: %s learned %v", lost, g.Name, g.Engine.Status().Learned)
			}
		}
	}
}

// What was learned of one certificate is not believed of another.
func TestWhatWasLearnedHangsOnTheCertificate(t *testing.T) {
	i, r := members().Pair()
	as(&i, policy.Auto)
	i.Learned = []ike.Learned{{Peer: "r", Fingerprint: members().I.Pair.Sign.Fingerprint, Dialect: "{ike_sm4_id: 127, sk_encoding: c1c3c2}"}}
	r.Peer().Dialect.Exact, r.Peer().Dialect.IKESM4 = true, policy.SM4Draft
	l := New(1, i, r)
	if !l.RunUntil(5*time.Second, l.bothUp) {
		t.Errorf("message 3 was not in the standard form:\n%s", l.Story.String())
	}
	// And what fails is not held on to.
	i.Learned[0].Fingerprint = members().R.Pair.Sign.Fingerprint
	r.Peer().Dialect.IKESM4 = policy.SM4Standard
	l = New(1, i, r)
	if !l.RunUntil(5*time.Minute, l.bothUp) || len(l.Gateway("i").Engine.Status().Learned) != 0 {
		t.Errorf("the old form stands in the way: %v", l.Gateway("i").Engine.Status().Learned)
	}
}

func TestWhatCannotHaveBeenLearnedIsRefused(t *testing.T) {
	i, r := members().Pair()
	l := New(1, i, r)
	for _, bad := range []string{"{gm_version: 1.0}", "{transform_id: ignore}", "{accept_zero_pad: true}", "ike_sm4_id: 127", "{}", ""} {
		c := l.Gateway("i").Config()
		c.Learned = []ike.Learned{{Peer: "r", Dialect: bad}}
		if _, err := ike.NewEngine(c); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

// At a renewal, when nothing hurries, the standard form is tried again: a form
// that was learned by accident goes, one that the peer needs stays.
func TestRenewalTriesTheStandardFormFirst(t *testing.T) {
	for _, needed := range []bool{false, true} {
		i, r := members().Pair()
		as(&i, policy.Auto)
		i.Peer().IKELifetime, r.Peer().IKELifetime = 3*time.Hour, 3*time.Hour
		i.Learned = []ike.Learned{{Peer: "r", Fingerprint: members().R.Pair.Sign.Fingerprint, Dialect: "{ike_sm4_id: 127, qm_hash: std-full}"}}
		r.Peer().Dialect = policy.Dialect{QMHash: policy.HashStdFull, Initiate: policy.InitiateThem}
		if needed {
			exactly(&r, func(d *policy.Dialect) { d.IKESM4 = policy.SM4Draft })
		}
		l := New(1, i, r)
		l.Story.Off = true
		x := l.tries("i")
		l.Run(5 * time.Second)
		if !l.bothUp() || len(x.dialect) != 1 {
			t.Fatalf("needed %v: not up at once", needed)
		}
		down := 0
		l.Gateway("r").Told = func(v ike.Event) {
			if v.Kind == ike.ChildDown && v.Reason != ike.Replaced && v.Reason != ike.PeerDeleted {
				down++
			}
		}
		l.Run(4 * time.Hour)
		want, forms := "{qm_hash: std-full}", 2
		if needed {
			want, forms = "{ike_sm4_id: 127, qm_hash: std-full}", 3
		}
		got := l.Gateway("i").Engine.Status().Learned
		if !l.bothUp() || down > 0 || len(got) != 1 || got[0].Dialect != want || len(x.dialect) != forms || x.dialect[1] != "{qm_hash: std-full}" {
			t.Errorf("needed %v: down %d, learned %v, tried %q", needed, down, got, x.dialect)
		}
	}
}

// Loss, reordering, restarts and NAT do not make a search lose its way, nor keep
// it from the one tunnel that a storm has to end with.
func TestStormsOfAutoEndWithOneTunnelUp(t *testing.T) {
	profiles := slices.DeleteFunc(policy.Profiles(), func(p policy.Profile) bool { return p == policy.Hillstone10 })
	for seed := range uint64(400) {
		s := NewStorm(members(), seed, func(i, r *Site) {
			as(i, policy.Auto)
			as(r, profiles[seed%uint64(len(profiles))])
			if r.Peer().Dialect.NoNATT { // a NAT needs it on both ends
				r.Peer().Dialect.NoNATT = false
			}
		})
		s.Lab.Story.Off = true
		if wrong := s.Rage(); len(wrong) > 0 {
			t.Errorf("%v: %q", s, wrong)
		}
	}
}

// autos are transcripts of a search and of an answer in kind.
func autos() []scene {
	return []scene{
		{"auto/search", func(i, r *Site) {
			as(i, policy.Auto)
			exactly(r, func(d *policy.Dialect) { d.IKESM4, d.QMHash = policy.SM4Draft, policy.HashStdFull })
		}, minutes(5)},
		{"auto/in-kind", func(i, r *Site) {
			exactly(i, func(d *policy.Dialect) {
				d.IKESM4, d.SKEncoding, d.SigRaw, d.QMHash = policy.SM4Draft, policy.SKC1C2C3, true, policy.HashStdBody
			})
			as(r, policy.Auto)
		}, minutes(1)},
	}
}
