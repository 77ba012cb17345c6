package lanes

import (
	"crypto/cipher"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/emmansun/gmsm/sm3"
)

// compare runs two ways of doing the same in turn and returns the median of how
// many times as fast the first is, and its median throughput. Both sides of a
// round see the same neighbours on a shared machine, so only ratios mean much.
func compare(size, rounds int, ours, theirs func()) (ratio, megabytes float64) {
	var ratios, speeds []float64
	timed := func(f func()) time.Duration {
		start := time.Now()
		f()
		return time.Since(start)
	}
	ours()
	theirs()
	for range rounds {
		a, b := timed(ours), timed(theirs)
		ratios = append(ratios, float64(b)/float64(a))
		speeds = append(speeds, float64(size)/a.Seconds()/1e6)
	}
	slices.Sort(ratios)
	slices.Sort(speeds)
	return ratios[rounds/2], speeds[rounds/2]
}

// BenchmarkRatios prints each kernel against gmsm, interleaved; run it with
// -benchtime 1x. The figures are ratios (x) and MB/s of the kernel.
func BenchmarkRatios(b *testing.B) {
	const packet, rounds = 1408, 201
	r := dice(10)
	plain := random(r, packet+16)
	run := func(name string, size int, ours, theirs func()) {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
			}
			ratio, speed := compare(size, rounds, ours, theirs)
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(ratio, "x")
			b.ReportMetric(speed, "MB/s")
		})
	}
	soft := newKey(b, Generic, plain[:16])
	theirGCM, err := cipher.NewGCM(block(b, plain[:16]))
	if err != nil {
		b.Fatal(err)
	}
	for _, p := range Paths()[1:] {
		var l Lanes
		for _, count := range []int{1, 2, 8, 16, 24, 32, 48, 64} {
			jobs, _ := cbcJobs(b, r, p, repeat(count, func() int { return packet / 16 }))
			run(fmt.Sprintf("%v/SM4-CBC-encrypt/%d", p, count), count*packet,
				func() { l.EncryptCBC(jobs) },
				func() {
					for i := range jobs {
						soft.soft.encrypt(jobs[i].IV, jobs[i].Data)
					}
				})
		}
		for _, count := range []int{1, 2, 8, 24} {
			macs, _ := macJobs(b, r, p, repeat(count, func() int { return packet + 24 }))
			h := sm3.New()
			var sum [32]byte
			run(fmt.Sprintf("%v/HMAC-SM3/%d", p, count), count*packet,
				func() { l.HMAC(macs) },
				func() {
					for i := range macs {
						h.Reset()
						h.Write(macs[i].Data)
						h.Sum(sum[:0])
					}
				})
		}
		k := newKey(b, p, plain[:16])
		run(fmt.Sprintf("%v/SM4-CBC-decrypt", p), packet,
			func() { k.DecryptCBC(plain[16:], plain) },
			func() { soft.soft.decrypt(plain[16:], plain) })
		g, err := NewGCM(p, plain[:16])
		if err != nil {
			b.Fatal(err)
		}
		buf := make([]byte, packet+16)
		run(fmt.Sprintf("%v/SM4-GCM-seal", p), packet,
			func() { g.Seal(buf[:0], plain[:12], buf[:packet], plain[:8]) },
			func() { theirGCM.Seal(buf[:0], plain[:12], buf[:packet], plain[:8]) })
	}
}
