package lab

import (
	"testing"
	"time"

	"yumen/ike"
	"yumen/ike/gm"
	"yumen/policy"
)

// BenchmarkHandshake counts main modes with a quick mode each, both ends on one
// core, beside what SM2 alone would allow: two signatures, two verifications, two
// seals and two openings of an envelope. Both ends know each other's chains.
func BenchmarkHandshake(b *testing.B) {
	bound := sm2Bound(b)
	i, r := members().Pair()
	i.Verifiers, r.Verifiers = members().verifiers(&i), members().verifiers(&r)
	i.Tunnel().Start = policy.StartNone
	l := New(1, i, r)
	l.Story.Off = true
	l.Run(time.Second)
	a := l.Gateway("i")
	a.Start("office")
	l.Run(time.Second)
	used, up := a.Plane.InUse("office")
	if !up {
		b.Fatal("no child")
	}
	for b.Loop() {
		a.Feed(ike.Rekey{Tunnel: "office", Session: true})
		l.Run(time.Second)
		a.Feed(ike.Rekey{Tunnel: "office"})
		l.Run(15 * time.Second)
		before := used
		if used, _ = a.Plane.InUse("office"); used == before {
			b.Fatal("no new child")
		}
	}
	rate := float64(b.N) / b.Elapsed().Seconds()
	b.ReportMetric(rate, "handshakes/s")
	b.ReportMetric(bound, "sm2-bound/s")
	b.ReportMetric(100*rate/bound, "%-of-bound")
}

// sm2Bound is how often a second the operations on private and public keys of
// one handshake can be done here, now.
func sm2Bound(b *testing.B) float64 {
	b.Helper()
	id, random := members().I, newSource(1, "bound")
	body := must(gm.SealEnvelope(random, &id.enc.PublicKey, make([]byte, gm.KeyLen), policy.SKDER))
	digest := make([]byte, 32)
	sig := must(gm.SignDigest(random, id.sign, digest))
	const rounds = 200
	start := time.Now()
	for range rounds {
		for range 2 {
			must(gm.SealEnvelope(random, &id.enc.PublicKey, make([]byte, gm.KeyLen), policy.SKDER))
			must(gm.OpenEnvelope(id.enc, body))
			must(gm.SignDigest(random, id.sign, digest))
			if !gm.VerifyDigest(&id.sign.PublicKey, digest, sig) {
				b.Fatal("signature")
			}
		}
	}
	return rounds / time.Since(start).Seconds()
}
