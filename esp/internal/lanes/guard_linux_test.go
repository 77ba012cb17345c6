package lanes

import (
	"bytes"
	"syscall"
	"testing"
)

// fenced is n bytes with a page that nobody may touch right before or behind them.
func fenced(t *testing.T, n int, behind bool) []byte {
	t.Helper()
	page := syscall.Getpagesize()
	size := (n + page - 1) / page * page
	all, err := syscall.Mmap(-1, 0, size+2*page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		t.Skip("no memory to fence:", err)
	}
	t.Cleanup(func() { _ = syscall.Munmap(all) })
	for _, fence := range [][]byte{all[:page], all[page+size:]} {
		if err := syscall.Mprotect(fence, syscall.PROT_NONE); err != nil {
			t.Skip("no memory to fence:", err)
		}
	}
	if behind {
		return all[page+size-n : page+size : page+size]
	}
	return all[page : page+n : page+n]
}

// A kernel that reads or writes one byte beyond its message ends the process here.
func TestKernelsStayWithinTheirMessages(t *testing.T) {
	eachPath(t, func(t *testing.T, p Path) {
		r := dice(13)
		for _, behind := range []bool{false, true} {
			for _, n := range []int{16, 32, 128, 144, 368, 384, 400, 1408, 4096} {
				var l Lanes
				jobs, want := cbcJobs(t, r, p, []int{n / 16, n / 16, 3})
				macs, sums := macJobs(t, r, p, []int{n - 7, n, 70})
				for i := range jobs {
					place := fenced(t, len(jobs[i].Data), behind)
					copy(place, jobs[i].Data)
					jobs[i].Data = place
					place = fenced(t, len(macs[i].Data), behind)
					copy(place, macs[i].Data)
					macs[i].Data = place
				}
				l.EncryptCBC(jobs)
				l.HMAC(macs)
				for i := range jobs {
					if !bytes.Equal(jobs[i].Data, want[i]) || !bytes.Equal(macs[i].Sum[:], sums[i]) {
						t.Fatalf("%d bytes, job %d", n, i)
					}
				}
				src, dst := fenced(t, n+16, behind), fenced(t, n+16, behind)
				jobs[0].Key.DecryptCBC(dst[16:], src)
				jobs[0].Key.DecryptCBC(src[16:], src)
				if !bytes.Equal(src[16:], dst[16:]) {
					t.Fatalf("%d bytes: in place and apart differ", n)
				}
				jobs[0].Key.EncryptCBC(src[:16], src[16:])
				g, err := NewGCM(p, src[:16])
				if err != nil {
					t.Fatal(err)
				}
				copy(dst, src)
				sealed := g.Seal(dst[:0], make([]byte, 12), dst[:n], src[:n])
				if got, err := g.Open(dst[:0], make([]byte, 12), sealed, src[:n]); err != nil || !bytes.Equal(got, src[:n]) {
					t.Fatalf("%d bytes: %v", n, err)
				}
			}
		}
	})
}
