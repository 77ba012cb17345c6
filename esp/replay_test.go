package esp

import (
	"math"
	"math/rand/v2"
	"testing"
)

// model is the window as RFC 4303 says it in words.
type model struct {
	top, size uint64
	seen      map[uint64]bool
}

func (m *model) check(seq uint64) bool {
	return seq != 0 && (seq > m.top || m.top-seq < m.size && !m.seen[seq])
}

func (m *model) update(seq uint64) {
	m.seen[seq] = true
	m.top = max(m.top, seq)
}

// walk draws numbers around the top: mostly near, sometimes far, sometimes at
// the ends.
func walk(r *rand.Rand, m *model) uint64 {
	switch r.IntN(20) {
	case 0:
		return m.top + r.Uint64N(20000)
	case 1:
		return m.top - min(m.top, m.size-1) // the last place
	case 2:
		return m.top - min(m.top, m.size) // one beyond
	case 3:
		return r.Uint64N(3)
	case 4:
		return m.top - min(m.top, r.Uint64N(20000))
	}
	return m.top + 40 - min(m.top+40, r.Uint64N(m.size+60))
}

func TestWindowIsTheModel(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 1))
		size := []int{64, 65, 127, 128, 1024, 4095, 4096, 64 + r.IntN(4033)}[seed%8]
		w, err := NewWindow(size)
		if err != nil {
			t.Fatal(err)
		}
		m := &model{size: uint64(size), seen: map[uint64]bool{}}
		if seed%3 == 0 {
			m.top = math.MaxUint32 - 3000
			w.Restore(m.top, make([]uint64, 64))
		}
		for step := range 20000 {
			seq := walk(r, m)
			if got, want := w.Check(seq), m.check(seq); got != want {
				t.Fatalf("seed %d size %d step %d: Check(%d) with top %d is %v", seed, size, step, seq, m.top, got)
			} else if want && r.IntN(8) != 0 { // now and then the ICV fails
				m.update(seq)
				w.Update(seq)
			}
			if step%4000 == 3999 {
				old := w
				w, _ = NewWindow(size)
				w.Restore(old.Top(), old.Bitmap())
			}
		}
	}
}

func TestUpdateOfARefusedNumberChangesNothing(t *testing.T) {
	w, err := NewWindow(64)
	if err != nil {
		t.Fatal(err)
	}
	w.Update(1000)
	before := w.Bitmap()
	for _, seq := range []uint64{0, 1, 936, 1000} {
		w.Update(seq)
	}
	if after := w.Bitmap(); w.Top() != 1000 || after[0] != before[0] {
		t.Fatalf("%x, was %x", after, before)
	}
}

func TestWindowRestoredFromASmallerOneRefusesWhatItCannotKnow(t *testing.T) {
	small, _ := NewWindow(64)
	for seq := uint64(1); seq <= 500; seq += 2 {
		small.Update(seq)
	}
	large, _ := NewWindow(1024)
	large.Restore(small.Top(), small.Bitmap())
	for seq := uint64(1); seq <= 501; seq++ {
		want := seq > 499 || seq > 499-64 && seq%2 == 0
		if large.Check(seq) != want {
			t.Fatalf("number %d: %v", seq, !want)
		}
	}
	var zero Window
	zero.Restore(5, nil)
	zero.Update(6)
	if zero.Check(7) || zero.Top() != 0 {
		t.Fatal("the zero value takes packets")
	}
}

func TestExpandFindsTheNearestNumber(t *testing.T) {
	w, _ := NewWindow(1024)
	r := rand.New(rand.NewPCG(1, 1))
	for range 200000 {
		top := r.Uint64() >> r.IntN(64)
		if r.IntN(4) == 0 {
			top = top&^0xffffffff + r.Uint64N(3000) // near the seam
		}
		w.top = top
		// What lies in the window or less than 2^32 minus a window ahead is found.
		var seq uint64
		if r.IntN(2) == 0 {
			seq = top - r.Uint64N(min(top, 1023)+1)
		} else if ahead := r.Uint64N(1<<32 - 1024); top <= math.MaxUint64-ahead {
			seq = top + ahead
		} else {
			continue
		}
		if got, ok := w.expand(uint32(seq)); !ok || got != seq {
			t.Fatalf("top %#x: %#x read as %#x, %v", top, seq, got, ok)
		}
	}
	w.top = 5
	if seq, ok := w.expand(math.MaxUint32); ok {
		t.Fatalf("a number before the first read as %#x", seq)
	}
	w.top = math.MaxUint64
	if seq, ok := w.expand(1); ok {
		t.Fatalf("a number behind the last read as %#x", seq)
	}
}

func BenchmarkWindow(b *testing.B) {
	for _, size := range []int{64, 1024, 4096} {
		b.Run(map[int]string{64: "64", 1024: "1024", 4096: "4096"}[size], func(b *testing.B) {
			w, err := NewWindow(size)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			seq := uint64(100)
			for b.Loop() {
				at := seq ^ 3 // a little out of order
				if w.Check(at) {
					w.Update(at)
				}
				seq++
			}
		})
	}
}
