package esp

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"yumen/esp/internal/lanes"
	"yumen/policy"
	"yumen/policy/secret"
)

// Whatever a batch does is held against the same packets one by one, on SAs with
// the same keys, IVs and state.

// pairOn makes the two ends of an SA for a path. Pairs of one seed are alike.
func (v variant) pairOn(t testing.TB, path lanes.Path, seed uint64, st State, l Limits) (*Outbound, *Inbound) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 3))
	mat := make([]byte, KeymatLen(v.suite))
	for i := range mat {
		mat[i] = byte(r.Uint32())
	}
	a, b := v.ends()
	spi := SPI(0x1000 + seed)
	a.Out, b.In = Half{SPI: spi, Keymat: secret.New(mat)}, Half{SPI: spi, Keymat: secret.New(mat)}
	a.Limits, b.Limits = l, l
	out, err := newOutbound(a, st, counterReader(byte(seed)), path)
	if err != nil {
		t.Fatal(err)
	}
	in, err := newInbound(b, st, path)
	if err != nil {
		t.Fatal(err)
	}
	return out, in
}

// world is a few SAs of every kind, twice: one for batches, one for single packets.
type world struct {
	r         *rand.Rand
	variant   []variant
	out, out1 []*Outbound
	in, in1   []*Inbound
	batch     Batch
}

func newWorld(t testing.TB, path lanes.Path, seed uint64) *world {
	w := &world{r: rand.New(rand.NewPCG(seed, 4))}
	starts := []State{{}, {OutSeq: math.MaxUint32 - 40, InSeq: math.MaxUint32 - 40}}
	for i, v := range variants() {
		st, l := starts[w.r.IntN(2)], Limits{}
		if w.r.IntN(3) == 0 {
			l = Limits{SoftPackets: 9, HardPackets: uint64(20 + w.r.IntN(30)), HardBytes: 40000}
		}
		o, in := v.pairOn(t, path, uint64(i), st, l)
		o1, in1 := v.pairOn(t, lanes.Generic, uint64(i), st, l)
		w.variant = append(w.variant, v)
		w.out, w.in, w.out1, w.in1 = append(w.out, o), append(w.in, in), append(w.out1, o1), append(w.in1, in1)
	}
	return w
}

// seal seals count packets of any SAs and lengths in both ways.
func (w *world) seal(t testing.TB, count int) (which []int, packets [][]byte) {
	t.Helper()
	var jobs []Sealing
	for range count {
		i := w.r.IntN(len(w.out))
		inner := w.variant[i].packet(w.r.IntN(1400))
		if w.r.IntN(20) == 0 {
			inner = inner[:w.r.IntN(20)] // refused
		}
		j := Sealing{SA: w.out[i], Inner: inner}
		if w.r.IntN(2) == 0 { // in place, as a data plane reads it
			buf := make([]byte, 2000)
			place := buf[4+j.SA.HeaderRoom():]
			j.Dst, j.Inner = buf[:4], place[:copy(place, inner)]
		}
		jobs, which = append(jobs, j), append(which, i)
		packets = append(packets, bytes.Clone(inner))
	}
	w.batch.Seal(jobs)
	for n := range jobs {
		j, i := &jobs[n], which[n]
		want, err := w.out1[i].Seal(nil, packets[n])
		got := j.Packet[len(j.Dst):]
		if !errors.Is(j.Err, err) || !bytes.Equal(got, want) {
			t.Fatalf("packet %d, %v: %x, %v\nwant %x, %v", n, w.variant[i], got, j.Err, want, err)
		}
		packets[n] = want
	}
	for i := range w.out {
		a, b := w.out[i], w.out1[i]
		if a.Seq() != b.Seq() || a.Count() != b.Count() || a.TookSoftLimit() != b.TookSoftLimit() || a.TookHardLimit() != b.TookHardLimit() {
			t.Fatalf("%v: %v %v, want %v %v", w.variant[i], a.Seq(), a.Count(), b.Seq(), b.Count())
		}
	}
	return which, packets
}

// disturb shuffles, doubles, cuts and forges.
func (w *world) disturb(which []int, packets [][]byte) ([]int, [][]byte) {
	for n := range packets {
		if len(packets[n]) == 0 {
			continue
		}
		switch w.r.IntN(12) {
		case 0:
			packets[n][w.r.IntN(len(packets[n]))] ^= 1 << w.r.IntN(8)
		case 1:
			packets[n] = packets[n][:w.r.IntN(len(packets[n]))]
		case 2:
			which, packets = append(which, which[n]), append(packets, packets[n])
		}
	}
	w.r.Shuffle(len(which), func(i, j int) {
		if w.r.IntN(3) == 0 {
			which[i], which[j], packets[i], packets[j] = which[j], which[i], packets[j], packets[i]
		}
	})
	return which, packets
}

// open opens packets in both ways.
func (w *world) open(t testing.TB, which []int, packets [][]byte) {
	t.Helper()
	var jobs []Opening
	for n, p := range packets {
		j := Opening{SA: w.in[which[n]], Packet: bytes.Clone(p)}
		if w.r.IntN(2) == 0 {
			j.Dst = make([]byte, w.r.IntN(9), 2000)
		}
		jobs = append(jobs, j)
	}
	w.batch.Open(jobs)
	for n := range jobs {
		j, i := &jobs[n], which[n]
		want, err := w.in1[i].Open(nil, bytes.Clone(packets[n]))
		if j.Err != err || !bytes.Equal(j.Inner, want) {
			t.Fatalf("packet %d, %v: %x, %v\nwant %x, %v", n, w.variant[i], j.Inner, j.Err, want, err)
		}
	}
	for i := range w.in {
		a, b := w.in[i], w.in1[i]
		if a.Count() != b.Count() || a.Drops() != b.Drops() || a.window.Top() != b.window.Top() ||
			a.TookFirst() != b.TookFirst() || a.TookSoftLimit() != b.TookSoftLimit() || a.TookHardLimit() != b.TookHardLimit() {
			t.Fatalf("%v: %+v %+v, want %+v %+v", w.variant[i], a.Count(), a.Drops(), b.Count(), b.Drops())
		}
	}
}

func TestBatchDoesWhatOneByOneDoes(t *testing.T) {
	for _, path := range lanes.Paths() {
		t.Run(path.String(), func(t *testing.T) {
			for seed := range uint64(6) {
				w := newWorld(t, path, seed)
				for range 30 {
					which, packets := w.seal(t, w.r.IntN(70))
					which, packets = w.disturb(which, packets)
					w.open(t, which, packets)
				}
			}
		})
	}
}

func FuzzBatch(f *testing.F) {
	f.Add(uint64(1), []byte{1, 0, 30, 64, 7})
	f.Add(uint64(2), []byte{100, 24, 25})
	f.Fuzz(func(t *testing.T, seed uint64, sizes []byte) {
		paths := lanes.Paths()
		w := newWorld(t, paths[seed%uint64(len(paths))], seed)
		for _, n := range sizes[:min(len(sizes), 3)] {
			which, packets := w.disturb(w.seal(t, int(n)))
			w.open(t, which, packets)
		}
	})
}

// An SA keeps its number of ESN for packets around the end of a word, though the
// batch guesses it before the window has moved.
func TestBatchCrossesTheWordOfESN(t *testing.T) {
	v := variant{suite: policy.SM4CBCHMACSM3, icvBits: 128, esn: true}
	const start = math.MaxUint32 - 3
	out, in := v.pair(t, State{OutSeq: start, InSeq: start - 1000})
	var b Batch
	var jobs []Opening
	for range 100 {
		jobs = append(jobs, Opening{SA: in, Packet: must(t, out, v.packet(40))})
	}
	b.Open(jobs)
	for i := range jobs {
		if jobs[i].Err != nil {
			t.Fatalf("packet %d: %v", i, jobs[i].Err)
		}
	}
	if st := Export(in, out); st.InSeq != start+100 {
		t.Fatalf("%+v", st)
	}
}

func TestClosedSAIsRefusedInABatch(t *testing.T) {
	for _, v := range variants() {
		out, in := v.pair(t, State{})
		packet := must(t, out, v.packet(9))
		other, otherIn := v.pair(t, State{})
		out.Close()
		in.Close()
		var b Batch
		seal := []Sealing{{SA: other, Inner: v.packet(5)}, {SA: out, Inner: v.packet(5)}}
		b.Seal(seal)
		open := []Opening{{SA: in, Packet: bytes.Clone(packet)}, {SA: otherIn, Packet: seal[0].Packet}}
		b.Open(open)
		if seal[1].Err != ErrClosed || seal[0].Err != nil || open[0].Err != ErrClosed || !bytes.Equal(open[1].Inner, v.packet(5)) {
			t.Errorf("%v: %v %v %v %v", v, seal[0].Err, seal[1].Err, open[0].Err, open[1].Err)
		}
	}
}

func TestBatchKeepsNothing(t *testing.T) {
	v := variants()[0]
	out, in := v.pair(t, State{})
	var b Batch
	seal := []Sealing{{SA: out, Inner: v.packet(50)}, {SA: out, Inner: v.packet(500)}}
	b.Seal(seal)
	b.Open([]Opening{{SA: in, Packet: seal[0].Packet}, {SA: in, Packet: seal[1].Packet}})
	for _, j := range b.cbc[:cap(b.cbc)] {
		if j.Key != nil || j.Data != nil || j.IV != nil {
			t.Error("a key or a packet is left")
		}
	}
	for _, j := range b.mac[:cap(b.mac)] {
		if j.Key != nil || j.Data != nil || j.Sum != [32]byte{} {
			t.Error("a key, packet or sum is left")
		}
	}
}

func TestNothingIsAllocatedForABatch(t *testing.T) {
	for _, path := range lanes.Paths() {
		for _, v := range variants() {
			out, in := v.pairOn(t, path, 1, State{}, Limits{})
			var b Batch
			seal, open := make([]Sealing, 40), make([]Opening, 40)
			var bufs [40][2048]byte
			n := testing.AllocsPerRun(20, func() {
				for i := range seal {
					place := bufs[i][out.HeaderRoom():]
					inner := place[:copy(place, goldenInner(v))]
					seal[i] = Sealing{SA: out, Dst: bufs[i][:0], Inner: inner}
				}
				b.Seal(seal)
				for i := range open {
					open[i] = Opening{SA: in, Packet: seal[i].Packet}
				}
				b.Open(open)
				for i := range open {
					if seal[i].Err != nil || open[i].Err != nil {
						t.Fatal(seal[i].Err, open[i].Err)
					}
				}
			})
			if n != 0 {
				t.Errorf("%v, %v: %v allocations", path, v, n)
			}
		}
	}
}

var golden4, golden6 = variant{}.packet(1000), variant{v6: true}.packet(1000)

func goldenInner(v variant) []byte {
	if v.v6 {
		return golden6
	}
	return golden4
}

func TestEveryPathReproducesTheWorkedExample(t *testing.T) {
	for _, path := range lanes.Paths() {
		for suite, iv := range map[policy.Suite]string{
			policy.SM4CBCHMACSM3: "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf", policy.SM4GCM128: "b0b1b2b3b4b5b6b7",
		} {
			c, want := exampleChild(suite, 256), unhex(exampleCBC+exampleICV)
			if suite == policy.SM4GCM128 {
				want = unhex(exampleGCM)
			}
			out, err := newOutbound(c, State{}, counterReader(0), path)
			if err != nil {
				t.Fatal(err)
			}
			in, err := newInbound(c, State{}, path)
			if err != nil {
				t.Fatal(err)
			}
			out.keys.iv = givenIV(unhex(iv))
			got, err := out.Seal(nil, unhex(exampleInner))
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%v: %x, %v", path, got, err)
			}
			var b Batch
			jobs := make([]Sealing, 3)
			for i := range jobs {
				one, err := newOutbound(c, State{}, counterReader(0), path)
				if err != nil {
					t.Fatal(err)
				}
				one.keys.iv = givenIV(unhex(iv))
				jobs[i] = Sealing{SA: one, Inner: unhex(exampleInner)}
			}
			b.Seal(jobs)
			for i := range jobs {
				if !bytes.Equal(jobs[i].Packet, want) {
					t.Fatalf("%v, batch: %x", path, jobs[i].Packet)
				}
			}
			if inner, err := in.Open(nil, got); err != nil || !bytes.Equal(inner, unhex(exampleInner)) {
				t.Fatalf("%v: %x, %v", path, inner, err)
			}
		}
	}
}
