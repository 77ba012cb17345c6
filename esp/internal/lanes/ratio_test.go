package lanes

import (
	"crypto/cipher"
	"fmt"
	"testing"

	"github.com/emmansun/gmsm/sm3"

	"yumen/test/ratio"
)

// BenchmarkRatios holds each kernel against gmsm on the same machine, with what
// gmsm finds there, GFNI too (the environment variable DISABLE_GFNI=1 takes that
// away from it). Run it with -benchtime 1x. Packets have 1408 bytes.
func BenchmarkRatios(b *testing.B) {
	const packet = 1408
	r := dice(10)
	plain, buf := random(r, packet+16), make([]byte, packet+16)
	soft := newKey(b, Generic, plain[:16]).soft
	theirs, err := cipher.NewGCM(block(b, plain[:16]))
	if err != nil {
		b.Fatal(err)
	}
	for _, p := range Paths()[1:] {
		var l Lanes
		for _, count := range []int{1, 2, 8, 16, 24, 48} {
			jobs, _ := cbcJobs(b, r, p, repeat(count, func() int { return packet / BlockSize }))
			row := ratio.Row{Name: fmt.Sprintf("%v/SM4-CBC-encrypt/%d", p, count), Bytes: count * packet}
			if count == 24 {
				row.Must, row.Aim = 8, 12
			}
			ratio.Report(b, row, func() { l.EncryptCBC(jobs) }, func() {
				for i := range jobs {
					soft.encrypt(jobs[i].IV, jobs[i].Data)
				}
			})
		}
		for _, count := range []int{1, 2, 8, 24} {
			macs, _ := macJobs(b, r, p, repeat(count, func() int { return packet + 24 }))
			h := sm3.New()
			row := ratio.Row{Name: fmt.Sprintf("%v/HMAC-SM3-vs-SM3/%d", p, count), Bytes: count * packet}
			if count == 8 {
				row.Must, row.Aim = 4, 5
			}
			ratio.Report(b, row, func() { l.HMAC(macs) }, func() {
				for i := range macs {
					h.Reset()
					h.Write(macs[i].Data)
					h.Sum(buf[:0])
				}
			})
		}
		k := newKey(b, p, plain[:16])
		ratio.Report(b, ratio.Row{Name: fmt.Sprintf("%v/SM4-CBC-decrypt", p), Bytes: packet},
			func() { k.DecryptCBC(plain[16:], plain) }, func() { soft.decrypt(plain[16:], plain) })
		g, err := NewGCM(p, plain[:16])
		if err != nil {
			b.Fatal(err)
		}
		ratio.Report(b, ratio.Row{Name: fmt.Sprintf("%v/SM4-GCM-seal", p), Bytes: packet, Must: 2.5, Aim: 4},
			func() { g.Seal(buf[:0], plain[:12], buf[:packet], plain[:8]) },
			func() { theirs.Seal(buf[:0], plain[:12], buf[:packet], plain[:8]) })
	}
}
