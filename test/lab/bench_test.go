package lab

import (
	"runtime"
	"testing"
	"time"

	"yumen/ike"
	"yumen/ike/gm"
	"yumen/policy"
	"yumen/test/ratio"
)

// BenchmarkHandshake counts main modes with a quick mode each, both ends on one
// core, beside what SM2 alone would allow: two signatures, two verifications, two
// seals and two openings of an envelope. Both ends know each other's chains.
func BenchmarkHandshake(b *testing.B) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
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
	handshake := func() time.Duration {
		start := time.Now()
		a.Feed(ike.Rekey{Tunnel: "office", Session: true})
		l.Run(100 * time.Millisecond)
		a.Feed(ike.Rekey{Tunnel: "office"})
		l.Run(100 * time.Millisecond)
		took := time.Since(start)
		before := used
		if used, _ = a.Plane.InUse("office"); used == before {
			b.Fatal("no new child")
		}
		l.Run(15 * time.Second) // what was replaced goes: no part of a handshake
		return took
	}
	for b.Loop() {
		handshake()
	}
	b.StopTimer()
	// The ratio comes from runs that take turns: on a machine that is shared two
	// seconds of one and then two of the other are two different machines.
	const several = 10
	times, one := ratio.OfTimed(func() (sum time.Duration) {
		for range several {
			sum += handshake()
		}
		return sum
	}, func() time.Duration {
		start := time.Now()
		for range several {
			bound()
		}
		return time.Since(start)
	})
	b.ReportMetric(several/one.Seconds(), "handshakes/s")
	b.ReportMetric(several/one.Seconds()/times, "sm2-bound/s")
	b.ReportMetric(times, "x-of-bound")
	b.ReportMetric(0.6, "must")
	b.ReportMetric(0.8, "aim")
}

// sm2Bound does the operations on private and public keys of one handshake, and
// nothing else.
func sm2Bound(b *testing.B) func() {
	b.Helper()
	id, random := members().I, newSource(1, "bound")
	body := must(gm.SealEnvelope(random, &id.enc.PublicKey, make([]byte, gm.KeyLen), policy.SKDER))
	digest := make([]byte, 32)
	sig := must(gm.SignDigest(random, id.sign, digest))
	return func() {
		for range 2 {
			must(gm.SealEnvelope(random, &id.enc.PublicKey, make([]byte, gm.KeyLen), policy.SKDER))
			must(gm.OpenEnvelope(id.enc, body))
			must(gm.SignDigest(random, id.sign, digest))
			if !gm.VerifyDigest(&id.sign.PublicKey, digest, sig) {
				b.Fatal("signature")
			}
		}
	}
}
