package lanes

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"testing"
)

func TestGCMLikeGmsm(t *testing.T) {
	eachPath(t, func(t *testing.T, p Path) {
		r := dice(6)
		key := random(r, 16)
		theirs, err := cipher.NewGCM(block(t, key))
		if err != nil {
			t.Fatal(err)
		}
		ours, err := NewGCM(p, key)
		if err != nil {
			t.Fatal(err)
		}
		for n := 0; n <= 9000; n++ {
			if n > 700 {
				n += r.IntN(150)
			}
			nonce, plain, more := random(r, 12), shifted(r, n), random(r, r.IntN(50))
			want := theirs.Seal(nil, nonce, plain, more)
			if got := ours.Seal([]byte("head"), nonce, plain, more); !bytes.Equal(got[4:], want) || string(got[:4]) != "head" {
				t.Fatalf("%d bytes", n)
			}
			buf := append(bytes.Clone(plain), make([]byte, 16)...)
			if got := ours.Seal(buf[:0], nonce, buf[:n], more); !bytes.Equal(got, want) || &got[0] != &buf[0] {
				t.Fatalf("%d bytes in place", n)
			}
			if got, err := ours.Open(buf[:0], nonce, buf, more); err != nil || !bytes.Equal(got, plain) {
				t.Fatalf("%d bytes: %v", n, err)
			}
			want[r.IntN(len(want))] ^= 1 << r.IntN(8)
			dst := make([]byte, n)
			if got, err := ours.Open(dst[:0], nonce, want, more); err == nil || got != nil || !bytes.Equal(dst, make([]byte, n)) {
				t.Fatalf("%d bytes: forged and opened", n)
			}
		}
		k := ours.key
		ours.Wipe()
		ours.Wipe() // twice is harmless
		if *ours != (GCM{}) || *k != (Key{}) {
			t.Error("not wiped")
		}
	})
}

// Other ciphers and hashes may stand among the jobs: they are done one by one.
func TestOtherCiphersAmongTheJobs(t *testing.T) {
	eachPath(t, func(t *testing.T, p Path) {
		r := dice(12)
		var l Lanes
		key := random(r, 16)
		other, err := aes.NewCipher(key)
		if err != nil {
			t.Fatal(err)
		}
		k, err := NewBlockKey(other)
		if err != nil {
			t.Fatal(err)
		}
		m, err := NewHashMAC(sha256.New(), key)
		if err != nil {
			t.Fatal(err)
		}
		jobs, want := cbcJobs(t, r, p, repeat(30, func() int { return r.IntN(50) }))
		macs, sums := macJobs(t, r, p, repeat(30, func() int { return r.IntN(500) }))
		for i := 0; i < 30; i += 4 {
			out := jobs[i].Data
			plain := bytes.Clone(out)
			jobs[i].Key = k
			want[i] = make([]byte, len(out))
			cipher.NewCBCEncrypter(other, jobs[i].IV).CryptBlocks(want[i], plain)
			h := hmac.New(sha256.New, key)
			h.Write(macs[i].Data)
			h.Write(macs[i].Tail)
			macs[i].Key, sums[i] = m, h.Sum(nil)
		}
		l.EncryptCBC(jobs)
		l.HMAC(macs)
		for i := range jobs {
			if !bytes.Equal(jobs[i].Data, want[i]) || !bytes.Equal(macs[i].Sum[:], sums[i]) {
				t.Fatalf("job %d", i)
			}
		}
		back := make([]byte, len(jobs[0].Data))
		k.DecryptCBC(back, append(bytes.Clone(jobs[0].IV), jobs[0].Data...))
		cipher.NewCBCDecrypter(other, jobs[0].IV).CryptBlocks(jobs[0].Data, jobs[0].Data)
		if !bytes.Equal(back, jobs[0].Data) {
			t.Fatal("decryption")
		}
		if _, err := NewBlockKey(narrow{}); err == nil {
			t.Error("a cipher of 8 bytes")
		}
	})
}

// narrow is a cipher of 8-byte blocks.
type narrow struct{}

func (narrow) BlockSize() int          { return 8 }
func (narrow) Encrypt(dst, src []byte) { copy(dst[:8], src) }
func (narrow) Decrypt(dst, src []byte) { copy(dst[:8], src) }

// FuzzScheduler: whatever lengths and keys meet in a batch, it gives what one by
// one gives.
func FuzzScheduler(f *testing.F) {
	f.Add(uint64(1), []byte{1, 2, 3, 4, 5, 200, 7})
	f.Add(uint64(2), bytes.Repeat([]byte{9}, 40))
	f.Add(uint64(3), append(bytes.Repeat([]byte{1}, 60), 255, 255))
	f.Fuzz(func(t *testing.T, seed uint64, lengths []byte) {
		r := dice(seed)
		var l Lanes
		for _, p := range Paths() {
			list := repeat(min(len(lengths), 100), func() int { return 0 })
			for i := range list {
				list[i] = int(lengths[i])
			}
			jobs, want := cbcJobs(t, r, p, list)
			macs, sums := macJobs(t, r, p, list)
			l.EncryptCBC(jobs)
			l.HMAC(macs)
			for i := range jobs {
				if !bytes.Equal(jobs[i].Data, want[i]) || !bytes.Equal(macs[i].Sum[:], sums[i]) {
					t.Fatalf("%v: job %d of %v", p, i, list)
				}
			}
		}
	})
}
