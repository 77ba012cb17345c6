package gm

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math/rand"
	"testing"

	"yumen/policy"
)

func TestPaddingOfFields(t *testing.T) {
	for _, c := range []struct {
		n    int // bytes of plaintext
		pad  policy.FieldPad
		want string // what is added
	}{
		{16, policy.PadCounted, "0000000000000000000000000000000f"},
		{0, policy.PadCounted, "0000000000000000000000000000000f"},
		{15, policy.PadCounted, "00"},
		{14, policy.PadCounted, "0001"},
		{13, policy.PadCounted, "000002"},
		{17, policy.PadCounted, "00000000000000000000000000000e"},
		{20, policy.PadCounted, "00000000000000000000000b"},
		{31, policy.PadCounted, "00"},
		{80, policy.PadCounted, "0000000000000000000000000000000f"},
		{16, policy.PadPKCS7, "10101010101010101010101010101010"},
		{15, policy.PadPKCS7, "01"},
		{14, policy.PadPKCS7, "0202"},
		{12, policy.PadPKCS7, "04040404"},
		{17, policy.PadPKCS7, "0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f"},
		{16, policy.PadZeros, ""},
		{0, policy.PadZeros, ""},
		{15, policy.PadZeros, "00"},
		{1, policy.PadZeros, "000000000000000000000000000000"},
	} {
		plain := bytes.Repeat([]byte{0xaa}, c.n)
		got := PadField(plain, c.pad)
		if !bytes.Equal(got[:c.n], plain) || hex.EncodeToString(got[c.n:]) != c.want {
			t.Errorf("%d bytes, padding %d: %x added, want %s", c.n, c.pad, got[c.n:], c.want)
		}
		if len(got)%16 != 0 {
			t.Errorf("%d bytes, padding %d: %d bytes are no whole blocks", c.n, c.pad, len(got))
		}
	}
}

// bodies are ID bodies of every type.
func bodies(t *testing.T) map[string][]byte {
	t.Helper()
	dn, err := hex.DecodeString("09000000304a310b3009060355040613024141310b3009060355040813024242310b3009060355040a" +
		"13024343310b3009060355040b13024444311430120603550403130b636c69656e74207369676e")
	if err != nil {
		t.Fatal(err)
	}
	head := func(typ byte, data ...byte) []byte { return append([]byte{typ, 0, 0, 0}, data...) }
	long := derSequence(derOctets(bytes.Repeat([]byte{'n'}, 300)))
	return map[string][]byte{
		"IPv4":        head(1, 192, 0, 2, 1),
		"IPv4, port":  {1, 17, 1, 0xf4, 192, 0, 2, 1},
		"FQDN":        head(2, []byte("gateway.example.org")...),
		"FQDN, 12":    head(2, []byte("gw.example.o")...),
		"user FQDN":   head(3, []byte("root@gw")...),
		"subnet":      head(4, 10, 0, 0, 0, 255, 0, 0, 0),
		"IPv6":        head(5, bytes.Repeat([]byte{0x20}, 16)...),
		"IPv6 subnet": head(6, bytes.Repeat([]byte{0}, 32)...),
		"range":       head(7, 10, 0, 0, 1, 10, 0, 0, 0),
		"IPv6 range":  head(8, bytes.Repeat([]byte{1}, 32)...),
		"DN":          dn,
		"long DN":     head(9, long...),
		"GN":          head(10, 0x82, 3, 'a', '.', 'b'),
		"key id":      head(11, 1, 2, 3, 0, 0, 1),
	}
}

func TestWhatIsSealedIsAmongTheReadings(t *testing.T) {
	r := rand.New(rand.NewSource(4))
	for name, id := range bodies(t) {
		for _, pad := range []policy.FieldPad{policy.PadCounted, policy.PadPKCS7} {
			for _, zeroIV := range []bool{false, true} {
				for range 200 {
					sk, nonce := make([]byte, 16), make([]byte, 8+r.Intn(60))
					r.Read(sk)
					r.Read(nonce)
					d := policy.Dialect{FieldPad: pad, IDZeroIV: zeroIV}
					n, i := SealFields(sk, nonce, id, d)
					what := fmt.Sprintf("%s, padding %d, zero IV %v, nonce %x", name, pad, zeroIV, nonce)
					wantReading(t, what, OpenFields(sk, n, i, false), nonce, id)
				}
			}
		}
	}
}

// wantReading checks that the true fields are among the readings, and that these
// are few and differ.
func wantReading(t *testing.T, what string, got []Fields, nonce, id []byte) {
	t.Helper()
	found := false
	for i, f := range got {
		found = found || bytes.Equal(f.Nonce, nonce) && bytes.Equal(f.ID, id)
		for _, g := range got[:i] {
			if bytes.Equal(f.Nonce, g.Nonce) && bytes.Equal(f.ID, g.ID) {
				t.Errorf("%s: a reading twice", what)
			}
		}
	}
	if !found || len(got) > 4 {
		t.Errorf("%s: among %d readings found: %v", what, len(got), found)
	}
}

func TestStandardReadingIsTheFirst(t *testing.T) {
	r := rand.New(rand.NewSource(5))
	for name, id := range bodies(t) {
		for range 300 {
			sk, nonce := make([]byte, 16), make([]byte, 16)
			r.Read(sk)
			r.Read(nonce)
			n, i := SealFields(sk, nonce, id, policy.Dialect{})
			got := OpenFields(sk, n, i, true)
			if len(got) == 0 || !bytes.Equal(got[0].Nonce, nonce) || !bytes.Equal(got[0].ID, id) {
				t.Fatalf("%s, sk %x, nonce %x: first of %d readings is another", name, sk, nonce, len(got))
			}
		}
	}
}

func TestAmbiguousPaddingGivesBothReadingsStandardFirst(t *testing.T) {
	sk := bytes.Repeat([]byte{7}, 16)
	id := bodies(t)["IPv4"]
	counted := append(bytes.Repeat([]byte{0xaa}, 13), 0xbb) // padded with 00 01
	n, i := SealFields(sk, counted, id, policy.Dialect{})
	got := OpenFields(sk, n, i, false)
	if len(got) != 2 {
		t.Fatalf("%d readings, want 2", len(got))
	}
	checkBytes(t, "first", got[0].Nonce, counted)
	checkBytes(t, "second", got[1].Nonce, append(bytes.Clone(counted), 0))
	// The same bytes from a peer with PKCS #7 whose nonce ends with zero.
	n2, _ := SealFields(sk, append(bytes.Clone(counted), 0), id, policy.Dialect{FieldPad: policy.PadPKCS7})
	checkBytes(t, "both paddings", n2, n)
}

func TestIdentityOwnsItsLengthWhateverThePadding(t *testing.T) {
	sk := bytes.Repeat([]byte{9}, 16)
	nonce := bytes.Repeat([]byte{0x5a}, 16)
	for name, id := range bodies(t) {
		n, i := SealFields(sk, nonce, id, policy.Dialect{FieldPad: policy.PadZeros})
		nCounted, _ := SealFields(sk, nonce, id, policy.Dialect{})
		if len(n) != 16 {
			t.Fatalf("a nonce of a block padded with zeros has %d bytes", len(n))
		}
		wantReading(t, name+" with zeros", OpenFields(sk, n, i, true), nonce, id)
		// A nonce with a count before an ID without: the chain differs.
		iv := LastBlock(nCounted)
		i = EncryptCBC(sk, iv[:], PadField(id, policy.PadZeros))
		switch name {
		case "FQDN", "FQDN, 12", "user FQDN", "key id": // nothing tells where they end
			continue
		}
		wantReading(t, name+" with a counted nonce", OpenFields(sk, nCounted, i, false), nonce, id)
		filled := PadField(id, policy.PadZeros)
		for at := len(id); at < len(filled); at++ {
			filled[at] = byte(0xc0 + at%7)
		}
		wantReading(t, name+" with noise behind", OpenFields(sk, nCounted, EncryptCBC(sk, iv[:], filled), false), nonce, id)
	}
}

func TestZeroPaddedNonceIsReadOnlyWhenConfigured(t *testing.T) {
	sk := bytes.Repeat([]byte{9}, 16)
	id := bodies(t)["DN"]
	nonce := bytes.Repeat([]byte{0x5a}, 16) // its last byte is no padding
	n, i := SealFields(sk, nonce, id, policy.Dialect{FieldPad: policy.PadZeros})
	if got := OpenFields(sk, n, i, false); got != nil {
		t.Errorf("%d readings without the setting", len(got))
	}
	got := OpenFields(sk, n, i, true)
	if len(got) != 1 || !bytes.Equal(got[0].Nonce, nonce) {
		t.Errorf("%d readings with the setting", len(got))
	}
}

func TestFieldsThatAreNoWholeBlocksGiveNothing(t *testing.T) {
	sk := make([]byte, 16)
	n, i := SealFields(sk, bytes.Repeat([]byte{1}, 16), bodies(t)["DN"], policy.Dialect{})
	for name, got := range map[string][]Fields{
		"no nonce":         OpenFields(sk, nil, i, true),
		"no ID":            OpenFields(sk, n, nil, true),
		"nonce cut":        OpenFields(sk, n[:31], i, true),
		"ID cut":           OpenFields(sk, n, i[:len(i)-1], true),
		"byte after nonce": OpenFields(sk, append(bytes.Clone(n), 0), i, true),
		"byte after ID":    OpenFields(sk, n, append(bytes.Clone(i), 0), true),
		"short key":        OpenFields(sk[:15], n, i, true),
		"no key":           OpenFields(nil, n, i, true),
	} {
		if got != nil {
			t.Errorf("%s: %d readings", name, len(got))
		}
	}
}

func TestImplausibleFieldsGiveNothing(t *testing.T) {
	sk := bytes.Repeat([]byte{3}, 16)
	good, id := bytes.Repeat([]byte{0x77}, 16), bodies(t)["DN"]
	for _, n := range []int{0, 1, 7, 257, 300} {
		nonce, body := SealFields(sk, bytes.Repeat([]byte{0x77}, n), id, policy.Dialect{})
		if got := OpenFields(sk, nonce, body, false); got != nil {
			t.Errorf("a nonce of %d bytes gives %d readings", n, len(got))
		}
	}
	for _, n := range []int{8, 256} {
		nonce, body := SealFields(sk, bytes.Repeat([]byte{0x77}, n), id, policy.Dialect{})
		if got := OpenFields(sk, nonce, body, false); len(got) != 1 {
			t.Errorf("a nonce of %d bytes gives %d readings", n, len(got))
		}
	}
	for name, bad := range map[string][]byte{
		"type 0":            {0, 0, 0, 0, 1, 2, 3, 4},
		"type 12":           {12, 0, 0, 0, 1, 2, 3, 4},
		"no data":           {2, 0, 0, 0},
		"address of 3":      {1, 0, 0, 0, 1, 2, 3},
		"address of 5":      {1, 0, 0, 0, 1, 2, 3, 4, 5},
		"subnet of 4":       {4, 0, 0, 0, 1, 2, 3, 4},
		"name with a zero":  {2, 0, 0, 0, 'a', 0, 'b'},
		"DN cut":            {9, 0, 0, 0, 0x30, 3, 1, 2},
		"DN of another tag": {9, 0, 0, 0, 0x31, 2, 1, 2},
		"DN of one byte":    {9, 0, 0, 0, 0x30},
	} {
		// A block of filling keeps the inner length from explaining the rest.
		nonce, body := SealFields(sk, good, bad, policy.Dialect{})
		for _, f := range OpenFields(sk, nonce, body, false) {
			if bytes.Equal(f.ID, bad) {
				t.Errorf("%s: taken for an ID", name)
			}
		}
	}
}

func TestReadingsAreAtMostFourBestFirst(t *testing.T) {
	// Three readings of a nonce, four of an ID: the cheapest pairs remain.
	n := []reading{{b: []byte("n0")}, {b: []byte("n1"), cost: costPKCS7}, {b: []byte("n3"), cost: costZeros}}
	i := []reading{{b: []byte("i0")}, {b: []byte("i1"), cost: costPKCS7}, {b: []byte("i0"), cost: costInner}, {b: []byte("i5"), cost: costZeroIV}}
	got := combine(n, i)
	want := []string{"n0i0", "n0i1", "n1i0", "n1i1"}
	if len(got) != len(want) {
		t.Fatalf("%d readings, want %d", len(got), len(want))
	}
	for k, f := range got {
		if s := string(f.Nonce) + string(f.ID); s != want[k] {
			t.Errorf("reading %d is %s, want %s", k, s, want[k])
		}
	}
	if combine(nil, i) != nil || combine(n, nil) != nil {
		t.Error("one field alone makes a reading")
	}
}

func TestUsualPortsComeFirst(t *testing.T) {
	for _, c := range []struct {
		id   []byte
		want bool
	}{
		{[]byte{1, 0, 0, 0}, true}, {[]byte{1, 17, 0, 0}, true}, {[]byte{1, 17, 1, 0xf4}, true},
		{[]byte{1, 17, 0x11, 0x94}, true}, {[]byte{1, 0, 1, 0xf4}, false}, {[]byte{1, 6, 0, 0}, false},
		{[]byte{1, 17, 0, 1}, false},
	} {
		if usualPort(c.id) != c.want {
			t.Errorf("%x: usual is %v", c.id, !c.want)
		}
	}
	odd := idReadings(PadField([]byte{1, 6, 0, 80, 1, 2, 3, 4}, policy.PadCounted), 0, false)
	if len(odd) == 0 || odd[0].cost != costOddPort {
		t.Errorf("an odd port is dropped or costs nothing: %+v", odd)
	}
}

func TestReadingsAreCopiesAndWipe(t *testing.T) {
	sk := make([]byte, 16)
	nonce, id := bytes.Repeat([]byte{1}, 14), bodies(t)["DN"] // ambiguous: two readings
	n, i := SealFields(sk, nonce, id, policy.Dialect{})
	got := OpenFields(sk, n, i, false)
	if len(got) != 2 {
		t.Fatalf("%d readings, want 2", len(got))
	}
	got[0].Wipe()
	if !bytes.Equal(got[0].Nonce, make([]byte, 14)) {
		t.Error("the nonce is not wiped")
	}
	if got[1].Nonce[0] != 1 || !bytes.Equal(got[0].ID, id) {
		t.Error("wiping one reading reached another, or the ID")
	}
}

func FuzzOpenFields(f *testing.F) {
	f.Fuzz(func(t *testing.T, sk, nonceBody, idBody []byte, zeroPad bool) {
		got := OpenFields(sk, nonceBody, idBody, zeroPad)
		if len(got) > 4 {
			t.Fatalf("%d readings", len(got))
		}
		for i, r := range got {
			if len(r.Nonce) < 8 || len(r.Nonce) > 256 || len(r.Nonce) > len(nonceBody) {
				t.Fatalf("a nonce of %d bytes out of %d", len(r.Nonce), len(nonceBody))
			}
			if len(r.ID) <= 4 || len(r.ID) > len(idBody) || r.ID[0] < 1 || r.ID[0] > 11 {
				t.Fatalf("an ID %x", r.ID)
			}
			for _, o := range got[:i] {
				if bytes.Equal(o.Nonce, r.Nonce) && bytes.Equal(o.ID, r.ID) {
					t.Fatal("a reading twice")
				}
			}
		}
		if len(got) == 0 {
			return
		}
		// What was read is found again when it is sealed in the standard's form.
		n, i := SealFields(sk, got[0].Nonce, got[0].ID, policy.Dialect{})
		for _, r := range OpenFields(sk, n, i, zeroPad) {
			if bytes.Equal(r.Nonce, got[0].Nonce) && bytes.Equal(r.ID, got[0].ID) {
				return
			}
		}
		t.Fatalf("nonce %x, ID %x are not found again", got[0].Nonce, got[0].ID)
	})
}
