package esp

import (
	"fmt"
	"testing"

	"yumen/esp/internal/lanes"
	"yumen/policy"
	"yumen/test/ratio"
)

// run is a batch of packets of one SA that is sealed and opened again and again.
type run struct {
	out    *Outbound
	in     *Inbound
	batch  Batch
	seal   []Sealing
	open   []Opening
	inner  [][]byte
	bufs   [][]byte
	sealed [][]byte
}

func newRun(b *testing.B, v variant, path lanes.Path, lengths []int) *run {
	r := &run{}
	r.out, r.in = v.pairOn(b, path, 1, State{}, Limits{})
	r.seal, r.open = make([]Sealing, len(lengths)), make([]Opening, len(lengths))
	for _, n := range lengths {
		inner := v.packet(n - 20)
		r.inner, r.bufs = append(r.inner, inner), append(r.bufs, make([]byte, 0, n+100))
		r.sealed = append(r.sealed, must(b, r.out, inner))
	}
	return r
}

// sealing is the whole way from an inner packet to an ESP packet in memory: copy,
// header, padding, IV, encryption, ICV.
func (r *run) sealing() {
	for i := range r.seal {
		r.seal[i] = Sealing{SA: r.out, Dst: r.bufs[i], Inner: r.inner[i]}
	}
	r.batch.Seal(r.seal)
}

func (r *run) sealingOneByOne() {
	for i := range r.inner {
		if _, err := r.out.Seal(r.bufs[i], r.inner[i]); err != nil {
			panic(err)
		}
	}
}

func (r *run) opening() {
	r.in.window.Restore(0, nil) // the same packets are new again
	for i := range r.open {
		r.open[i] = Opening{SA: r.in, Dst: r.bufs[i], Packet: r.sealed[i]}
	}
	r.batch.Open(r.open)
	if r.open[0].Err != nil {
		panic(r.open[0].Err)
	}
}

func (r *run) openingOneByOne() {
	r.in.window.Restore(0, nil)
	for i := range r.sealed {
		if _, err := r.in.Open(r.bufs[i], r.sealed[i]); err != nil {
			panic(err)
		}
	}
}

func equal(count, length int) (list []int) {
	for range count {
		list = append(list, length)
	}
	return list
}

// imix is the simple mix of 7, 4 and 1 packets of three lengths, shuffled.
func imix(count int) (list []int) {
	kinds := []int{64, 64, 64, 64, 64, 64, 64, 576, 576, 576, 576, 1400}
	for i := range count {
		list = append(list, kinds[i*5%12])
	}
	return list
}

func total(list []int) (sum int) {
	for _, n := range list {
		sum += n
	}
	return sum
}

// BenchmarkRatios holds batches of whole ESP packets against gmsm packet by packet,
// with modes and hash states used again: what this package did before it had
// lanes. Run it with -benchtime 1x. No I/O; inner packets of 1400 bytes unless
// named; IVs are made inside.
func BenchmarkRatios(b *testing.B) {
	cbc, gcm := variant{suite: policy.SM4CBCHMACSM3, icvBits: 96}, variant{suite: policy.SM4GCM128}
	for _, p := range lanes.Paths()[1:] {
		row := func(name string, count, bytes int, want ...float64) ratio.Row {
			r := ratio.Row{Name: fmt.Sprintf("%v/%s/%d", p, name, count), Bytes: bytes}
			if len(want) == 2 && count >= 24 {
				r.Must, r.Aim = want[0], want[1]
			}
			return r
		}
		for _, count := range []int{1, 2, 8, 24, 48} {
			ours, theirs := newRun(b, cbc, p, equal(count, 1400)), newRun(b, cbc, lanes.Generic, equal(count, 1400))
			ratio.Report(b, row("seal-CBC-HMAC", count, count*1400, 6, 9), ours.sealing, theirs.sealingOneByOne)
			ratio.Report(b, row("open-CBC-HMAC", count, count*1400, 2.5, 3.5), ours.opening, theirs.openingOneByOne)
		}
		ours, theirs := newRun(b, gcm, p, equal(24, 1400)), newRun(b, gcm, lanes.Generic, equal(24, 1400))
		ratio.Report(b, row("seal-GCM", 24, 24*1400), ours.sealing, theirs.sealingOneByOne)
		ratio.Report(b, row("open-GCM", 24, 24*1400), ours.opening, theirs.openingOneByOne)
		for _, count := range []int{48, 96, 192} {
			list := imix(count)
			mixed, even := newRun(b, cbc, p, list), newRun(b, cbc, p, equal(count, total(list)/count))
			ratio.Report(b, row("seal-IMIX-vs-equal-lengths", count, total(list), 0.7, 0.85), mixed.sealing, even.sealing)
			alone := newRun(b, cbc, lanes.Generic, list)
			ratio.Report(b, row("seal-IMIX", count, total(list)), mixed.sealing, alone.sealingOneByOne)
		}
	}
}
