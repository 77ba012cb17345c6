package lanes

import (
	"bytes"
	"crypto/cipher"
	"crypto/hmac"
	"encoding/hex"
	"math/rand/v2"
	"testing"

	"github.com/emmansun/gmsm/sm3"
	"github.com/emmansun/gmsm/sm4"
)

// Everything here is held against gmsm, on every path of this machine in turn.

func dice(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 7)) }

func random(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// shifted is n random bytes at an odd address.
func shifted(r *rand.Rand, n int) []byte {
	at := r.IntN(33)
	return random(r, n+at)[at:]
}

func eachPath(t *testing.T, run func(*testing.T, Path)) {
	for _, p := range Paths() {
		t.Run(p.String(), func(t *testing.T) { run(t, p) })
	}
}

func newKey(t testing.TB, p Path, key []byte) *Key {
	t.Helper()
	k, err := NewKey(p, key)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newMACKey(t testing.TB, p Path, key []byte) *MAC {
	t.Helper()
	m, err := NewMAC(p, key)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func block(t testing.TB, key []byte) cipher.Block {
	t.Helper()
	b, err := sm4.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// GB/T 32907 A.1: one block, and the same a million times would be A.2.
func TestExampleOfTheStandard(t *testing.T) {
	eachPath(t, func(t *testing.T, p Path) {
		key := unhex(t, "0123456789abcdeffedcba9876543210")
		data := bytes.Clone(key)
		k := newKey(t, p, key)
		var l Lanes
		l.EncryptCBC([]CBC{{Key: k, IV: make([]byte, 16), Data: data}})
		if hex.EncodeToString(data) != "681edf34d206965e86b3e94f536e4246" {
			t.Fatalf("%x", data)
		}
		back := make([]byte, 16)
		k.DecryptCBC(back, append(make([]byte, 16), data...))
		if !bytes.Equal(back, key) {
			t.Fatalf("%x", back)
		}
	})
}

// cbcJobs makes jobs and what they must become.
func cbcJobs(t testing.TB, r *rand.Rand, p Path, lengths []int) (jobs []CBC, want [][]byte) {
	var keys [][]byte
	var schedules []*Key
	for range 3 {
		keys = append(keys, random(r, 16))
		schedules = append(schedules, newKey(t, p, keys[len(keys)-1]))
	}
	for _, n := range lengths {
		which := r.IntN(len(keys))
		iv, data := random(r, 16), shifted(r, n*BlockSize)
		out := make([]byte, len(data))
		cipher.NewCBCEncrypter(block(t, keys[which]), iv).CryptBlocks(out, data)
		jobs, want = append(jobs, CBC{Key: schedules[which], IV: iv, Data: data}), append(want, out)
	}
	return jobs, want
}

func TestBatchEncryptsLikeOneByOne(t *testing.T) {
	eachPath(t, func(t *testing.T, p Path) {
		r := dice(1)
		var l Lanes
		check := func(lengths []int) {
			t.Helper()
			jobs, want := cbcJobs(t, r, p, lengths)
			l.EncryptCBC(jobs)
			for i := range jobs {
				if !bytes.Equal(jobs[i].Data, want[i]) {
					t.Fatalf("job %d of %v", i, lengths)
				}
			}
		}
		for count := range 60 {
			check(repeat(count, func() int { return 5 }))
			check(repeat(count, func() int { return r.IntN(20) }))
			check(repeat(count, func() int { return 1 << r.IntN(9) }))
		}
		for n := 0; n <= 9000/BlockSize; n += 1 + r.IntN(7) {
			check([]int{n})
			check([]int{n, 3, 9000 / BlockSize})
		}
	})
}

func repeat(count int, f func() int) (list []int) {
	for range count {
		list = append(list, f())
	}
	return list
}

func TestBatchKeepsNoKeys(t *testing.T) {
	eachPath(t, func(t *testing.T, p Path) {
		r := dice(2)
		var l Lanes
		jobs, _ := cbcJobs(t, r, p, []int{3, 50, 7, 9, 10, 2, 2, 2, 90})
		l.EncryptCBC(jobs)
		macs, _ := macJobs(t, r, p, []int{30, 500, 7, 9, 1000})
		l.HMAC(macs)
		if l.cbc != (cbcLanes{}) || l.mac.sm3 != (sm3Lanes{}) {
			t.Error("keys are left in the lanes")
		}
		for i := range l.mac.lane {
			if l.mac.lane[i].job != nil || l.mac.lane[i].end != [128]byte{} || l.data[i] != nil {
				t.Error("data is left in the lanes")
			}
		}
		k := jobs[0].Key
		k.Wipe()
		if *k != (Key{}) {
			t.Error("the schedule is not wiped")
		}
		m := macs[0].Key
		inner, outer := m.soft.inner, m.soft.outer
		m.Wipe()
		m.Wipe() // twice is harmless
		if *m != (MAC{}) || !bytes.Equal(inner, make([]byte, len(inner))) || !bytes.Equal(outer, make([]byte, len(outer))) {
			t.Error("the states are not wiped")
		}
	})
}

func TestDecryptionOfEveryLengthInPlaceAndApart(t *testing.T) {
	eachPath(t, func(t *testing.T, p Path) {
		r := dice(3)
		key := random(r, 16)
		k := newKey(t, p, key)
		for n := 0; n <= 9000/BlockSize; n++ {
			if n > 130 {
				n += r.IntN(20)
			}
			src := shifted(r, (n+1)*BlockSize)
			want := make([]byte, n*BlockSize)
			cipher.NewCBCDecrypter(block(t, key), src[:16]).CryptBlocks(want, src[16:])
			before, dst := bytes.Clone(src), shifted(r, n*BlockSize+5)
			after := bytes.Clone(dst[n*BlockSize:])
			k.DecryptCBC(dst[:n*BlockSize], src)
			if !bytes.Equal(dst[:n*BlockSize], want) || !bytes.Equal(src, before) || !bytes.Equal(dst[n*BlockSize:], after) {
				t.Fatalf("%d blocks", n)
			}
			k.DecryptCBC(src[16:], src)
			if !bytes.Equal(src[16:], want) || !bytes.Equal(src[:16], before[:16]) {
				t.Fatalf("%d blocks in place", n)
			}
		}
	})
}

func TestCounterOfEveryLength(t *testing.T) {
	eachPath(t, func(t *testing.T, p Path) {
		r := dice(4)
		key := random(r, 16)
		k := newKey(t, p, key)
		for n := 0; n <= 9000; n++ {
			if n > 900 {
				n += r.IntN(200)
			}
			src := shifted(r, n)
			iv := [16]byte(random(r, 16))
			if n%3 == 0 {
				copy(iv[12:], []byte{0xff, 0xff, 0xff, 0xff - byte(r.IntN(30))}) // the counter wraps
			}
			want, count := make([]byte, n), iv
			for at := 0; at < n; at += 16 { // inc32 by hand: the standard library counts 128 bits
				var s [16]byte
				block(t, key).Encrypt(s[:], count[:])
				for i := at; i < min(at+16, n); i++ {
					want[i] = src[i] ^ s[i-at]
				}
				for i := 15; i >= 12; i-- {
					if count[i]++; count[i] != 0 {
						break
					}
				}
			}
			dst := make([]byte, n)
			again := iv
			k.Counter(dst, src, &iv)
			if !bytes.Equal(dst, want) || iv != count {
				t.Fatalf("%d bytes: counter %x, want %x", n, iv, count)
			}
			if k.Counter(src, src, &again); !bytes.Equal(src, want) {
				t.Fatalf("%d bytes in place", n)
			}
		}
	})
}

func macJobs(t testing.TB, r *rand.Rand, p Path, lengths []int) (jobs []HMAC, want [][]byte) {
	var keys [][]byte
	var macs []*MAC
	for range 3 {
		keys = append(keys, random(r, 1+r.IntN(64)))
		macs = append(macs, newMACKey(t, p, keys[len(keys)-1]))
	}
	for _, n := range lengths {
		which := r.IntN(len(keys))
		j := HMAC{Key: macs[which], Data: shifted(r, n), Tail: random(r, r.IntN(5))}
		h := hmac.New(sm3.New, keys[which])
		h.Write(j.Data)
		h.Write(j.Tail)
		jobs, want = append(jobs, j), append(want, h.Sum(nil))
	}
	return jobs, want
}

func TestBatchAuthenticatesLikeOneByOne(t *testing.T) {
	eachPath(t, func(t *testing.T, p Path) {
		r := dice(5)
		var l Lanes
		check := func(lengths []int) {
			t.Helper()
			jobs, want := macJobs(t, r, p, lengths)
			l.HMAC(jobs)
			for i := range jobs {
				if !bytes.Equal(jobs[i].Sum[:], want[i]) || !Equal(&jobs[i].Sum, want[i][:12]) {
					t.Fatalf("job %d of %v", i, lengths)
				}
				jobs[i].Sum[11] ^= 1
				if Equal(&jobs[i].Sum, want[i][:12]) || !Equal(&jobs[i].Sum, want[i][:11]) {
					t.Fatal("a wrong sum is equal")
				}
			}
		}
		for n := range 400 {
			check([]int{n, n + 1})
		}
		for count := range 30 {
			check(repeat(count, func() int { return 1436 }))
			check(repeat(count, func() int { return r.IntN(300) }))
			check(repeat(count, func() int { return 1 << r.IntN(13) }))
		}
		check(repeat(9, func() int { return 9000 - r.IntN(80) }))
	})
}

func TestNothingIsAllocated(t *testing.T) {
	eachPath(t, func(t *testing.T, p Path) {
		r := dice(8)
		var l Lanes
		jobs, _ := cbcJobs(t, r, p, repeat(40, func() int { return r.IntN(90) }))
		macs, _ := macJobs(t, r, p, repeat(40, func() int { return r.IntN(1500) }))
		g, err := NewGCM(p, make([]byte, 16))
		if err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 1500)
		n := testing.AllocsPerRun(20, func() {
			l.EncryptCBC(jobs)
			l.HMAC(macs)
			l.HMAC(macs[:1])
			g.Seal(buf[:0], buf[:12], buf[:1333], nil)
			jobs[0].Key.DecryptCBC(buf[16:1456], buf[:1456])
		})
		if n != 0 {
			t.Errorf("%v allocations", n)
		}
	})
}

func TestOneMessageAloneOfEveryLength(t *testing.T) {
	eachPath(t, func(t *testing.T, p Path) {
		r := dice(11)
		for n := 0; n <= 9000/BlockSize; n += 1 + n/40 {
			jobs, want := cbcJobs(t, r, p, []int{n})
			if jobs[0].Key.EncryptCBC(jobs[0].IV, jobs[0].Data); !bytes.Equal(jobs[0].Data, want[0]) {
				t.Fatalf("%d blocks", n)
			}
		}
	})
}

func TestKeysOfWrongSizesAndPathsAreRefused(t *testing.T) {
	for _, n := range []int{0, 15, 17, 32} {
		if _, err := NewKey(Generic, make([]byte, n)); err == nil {
			t.Errorf("a key of %d bytes", n)
		}
	}
	if _, err := NewMAC(Best(), make([]byte, 65)); err == nil {
		t.Error("a MAC key of 65 bytes")
	}
	if _, err := NewKey(Best()+1, make([]byte, 16)); err == nil {
		t.Error("a path that is not here")
	}
	if _, err := NewMAC(Best()+1, make([]byte, 16)); err == nil {
		t.Error("a path that is not here")
	}
}
