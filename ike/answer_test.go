package ike

import (
	"slices"
	"strings"
	"testing"
	"time"

	"yumen/ike/wire"
	"yumen/policy"
)

// A responder may answer with its own lifetimes: the lower of both counts, a longer
// one is a deviation, and a peer that is held to the exact form must not.
func TestAnswerWithALongerLifetimeIsHeldToTheOffer(t *testing.T) {
	usual := policy.GBT36968.Dialect()
	exact := usual
	exact.Exact = true
	tunnel := policy.Tunnel{Suites: []policy.Suite{policy.SM4CBCHMACSM3}, Lifetime: time.Hour, Bytes: 1 << 20}

	check := func(seconds, kilobytes uint64, d policy.Dialect) (lifetimes, []string, error) {
		theirs := tunnel
		theirs.Lifetime, theirs.Bytes = time.Duration(seconds)*time.Second, kilobytes*1024
		answer := phaseTwoOffer(theirs, usual, false, 0x1000)
		answer.Proposals[0].Transforms = answer.Proposals[0].Transforms[:1]
		x, err := checkPhaseTwoAnswer(phaseTwoOffer(tunnel, usual, false, 0x2000), answer, d)
		return x.x.life, x.x.deviations(), err
	}
	for _, c := range []struct {
		name               string
		seconds, kilobytes uint64
		longer             bool
	}{
		{"as offered", 3600, 1024, false},
		{"less", 600, 512, false},
		{"more seconds", 7200, 1024, true},
		{"more kilobytes", 3600, 4096, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			life, deviations, err := check(c.seconds, c.kilobytes, usual)
			if err != nil {
				t.Fatal(err)
			}
			if life.seconds != min(c.seconds, 3600) || life.kilobytes > 1024 {
				t.Errorf("%d s, %d kB count", life.seconds, life.kilobytes)
			}
			told := slices.ContainsFunc(deviations, func(d string) bool { return strings.Contains(d, "offered") })
			if told != c.longer {
				t.Errorf("deviations: %q", deviations)
			}
			if _, _, err = check(c.seconds, c.kilobytes, exact); (err != nil) != c.longer {
				t.Errorf("of a peer held to the exact form: %v", err)
			}
		})
	}
}

// All else in an answer must be what was offered.
func TestAnswerThatChangesTheTransformIsRefused(t *testing.T) {
	d := policy.GBT36968.Dialect()
	offer := phaseTwoOffer(policy.Tunnel{Suites: []policy.Suite{policy.SM4CBCHMACSM3}, Lifetime: time.Hour}, d, false, 0x2000)
	for name, change := range map[string]func(*wire.Transform){
		"mode":    func(tr *wire.Transform) { tr.Attributes[1] = wire.Short(attrMode, 2) },
		"ESN":     func(tr *wire.Transform) { tr.Attributes = append(tr.Attributes, wire.Short(attrESN, 1)) },
		"SM4-GCM": func(tr *wire.Transform) { tr.ID, tr.Attributes = d.GCMNumber(), tr.Attributes[1:] },
		"HMAC":    func(tr *wire.Transform) { tr.Attributes[0] = wire.Short(attrAuthAlg, 2) },
	} {
		answer := offer
		answer.Proposals = slices.Clone(offer.Proposals)
		tr := offer.Proposals[0].Transforms[0]
		tr.Attributes = slices.Clone(tr.Attributes)
		change(&tr)
		answer.Proposals[0].Transforms = []wire.Transform{tr}
		if _, err := checkPhaseTwoAnswer(offer, answer, d); err == nil {
			t.Errorf("%s changed: accepted", name)
		}
	}
}
