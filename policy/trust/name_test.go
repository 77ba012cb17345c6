package trust

import (
	"bytes"
	"encoding/hex"
	"slices"
	"strings"
	"testing"
)

// nameOf builds a Name of one CN with a value of the given string type.
func nameOf(tag int, value string) []byte {
	attr := element(0x10, slices.Concat([]byte{6, 3, 0x55, 4, 3}, element(tag, []byte(value))))
	return element(0x10, element(0x11, attr))
}

func TestNamesCompareByCodePointsNotByBytes(t *testing.T) {
	const utf8, printable, t61, ia5, bmp = 12, 19, 20, 22, 30
	for name, c := range map[string]struct {
		a, b []byte
		want bool
	}{
		"types differ":          {nameOf(utf8, "gw a"), nameOf(printable, "gw a"), true},
		"BMP and UTF8":          {nameOf(utf8, "玉门"), nameOf(bmp, "\x73\x89\x95\xe8"), true},
		"T61 and UTF8":          {nameOf(utf8, "é"), nameOf(t61, "\xe9"), true},
		"IA5 and printable":     {nameOf(ia5, "a"), nameOf(printable, "a"), true},
		"case":                  {nameOf(utf8, "gw"), nameOf(utf8, "GW"), false},
		"space at the end":      {nameOf(utf8, "gw"), nameOf(utf8, "gw "), false},
		"inner space":           {nameOf(utf8, "g  w"), nameOf(utf8, "g w"), false},
		"composed, decomposed":  {nameOf(utf8, "é"), nameOf(utf8, "e\u0301"), false},
		"NUL":                   {nameOf(utf8, "a\x00"), nameOf(utf8, "a\x00"), false},
		"NUL at the end of BMP": {nameOf(bmp, "\x00a\x00\x00"), nameOf(utf8, "a"), false},
		"invalid UTF-8":         {nameOf(utf8, "\xff"), nameOf(utf8, "\xff"), false},
		"surrogates in BMP":     {nameOf(bmp, "\xd8\x3d\xde\x00"), nameOf(bmp, "\xd8\x3d\xde\x00"), false},
		"odd BMP":               {nameOf(bmp, "a"), nameOf(bmp, "a"), false},
		"byte not printable":    {nameOf(printable, "a_b"), nameOf(printable, "a_b"), false},
		"IA5 above 7 bits":      {nameOf(ia5, "\xe9"), nameOf(ia5, "\xe9"), false},
		"not a string":          {nameOf(4, "a"), nameOf(4, "a"), false},
		"trailing byte":         {append(nameOf(utf8, "a"), 0), nameOf(utf8, "a"), false},
		"empty":                 {[]byte{0x30, 0}, []byte{0x30, 0}, false},
		"nothing":               {nil, nil, false},
		"one RDN more":          {rawName(t, "CN=a,O=b"), rawName(t, "CN=a"), false},
		"order of RDNs":         {rawName(t, "CN=a,O=b"), rawName(t, "O=b,CN=a"), false},
		"order within an RDN":   {rawName(t, "CN=a+UID=b,O=c"), rawName(t, "UID=b+CN=a,O=c"), true},
		"one RDN or two":        {rawName(t, "CN=a+O=b"), rawName(t, "CN=a,O=b"), false},
		"other attribute":       {rawName(t, "CN=a"), rawName(t, "OU=a"), false},
		"the CN alone is equal": {rawName(t, "CN=a,O=b"), rawName(t, "CN=a,O=c"), false},
	} {
		t.Run(name, func(t *testing.T) {
			if EqualNames(c.a, c.b) != c.want || EqualNames(c.b, c.a) != c.want {
				t.Fatalf("EqualNames of %x and %x is %v", c.a, c.b, !c.want)
			}
		})
	}
}

func TestNameInTextReadsAndWrites(t *testing.T) {
	for in, want := range map[string]string{
		"CN=gw-a,O=Example,C=CN":          "",
		"cn = gw-a , o=Example,C=CN":      "CN=gw-a,O=Example,C=CN",
		`CN=a\,b\+c\"\\\<\>\;\=d,O=\#x\ `: "",
		`CN=\e7\8e\89门`:                   "CN=玉门",
		`CN=a\0ab`:                        "",
		"CN=a+UID=b,DC=example,DC=cn":     "UID=b+CN=a,DC=example,DC=cn",
		"E=a@b.cn":                        "emailAddress=a@b.cn",
		"S=Beijing":                       "ST=Beijing",
		"1.2.156.1=value":                 "1.2.156.1=#0c0576616c7565",
		"2.5.4.3=#0c0161":                 "CN=a",
		"CN=a#b=c":                        `CN=a#b\=c`,
		"SERIALNUMBER=12,CN=x y  z":       "",
	} {
		der, err := ParseName(in)
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		if want == "" {
			want = in
		}
		got, err := FormatName(der)
		if err != nil || got != want {
			t.Errorf("%s: got %s (%v), want %s", in, got, err, want)
		}
	}
	for _, in := range []string{"", "CN", "CN=", "CN=a,", "CN=a,,O=b", "=a", "XX=a", "CN=a\\", `CN=a\xy`, "CN=\"a\"",
		"CN=#zz", "CN=#", "CN=#0c", "CN=#0c016100", "CN=\x00", `CN=\00`, `CN=\ff`, "C=中", "1.2.x=a", "9.9.9=a", "CN=a+", "01.2=a",
		"CN=" + strings.Repeat("a", maxName)} {
		if der, err := ParseName(in); err == nil {
			t.Errorf("%.40q was accepted as %x", in, der)
		}
	}
}

func TestNameOfTheWorkedExampleHasTheSameText(t *testing.T) {
	// The ID payload has PrintableString where the certificate has UTF8String.
	id, _ := hex.DecodeString("304a310b3009060355040613024141310b3009060355040813024242310b3009060355040a13024343310b3009060355040b13024444311430120603550403130b636c69656e74207369676e")
	const text = "CN=client sign,OU=DD,O=CC,ST=BB,C=AA"
	got, err := FormatName(id)
	if err != nil || got != text {
		t.Fatalf("got %q, %v", got, err)
	}
	ours := rawName(t, text)
	if bytes.Equal(ours, id) || !EqualNames(ours, id) {
		t.Fatal("the names must be equal although their bytes differ")
	}
}

func FuzzParseName(f *testing.F) {
	for _, s := range []string{gateway, `CN=a\,b+UID=\e7\8e\89,2.5.4.99=#0c0161`, "C=CN", "CN=#1e027389", `CN=\ a\ ,DC=x`} {
		f.Add(s, nameOf(12, s))
	}
	f.Add("", nameOf(30, "\x73\x89"))
	f.Fuzz(func(t *testing.T, text string, der []byte) {
		if made, err := ParseName(text); err == nil {
			checkName(t, made)
		}
		if _, err := FormatName(der); err == nil {
			checkName(t, der)
		}
	})
}

// checkName wants a readable name to survive its own text.
func checkName(t *testing.T, der []byte) {
	text, err := FormatName(der)
	if err != nil {
		t.Fatalf("%x does not format: %v", der, err)
	}
	again, err := ParseName(text)
	if len(text) > maxName || err != nil && len(der) > maxName/4 {
		return // the text of a long name may be longer than is read
	}
	if err != nil || !EqualNames(der, again) {
		t.Fatalf("%x has text %q, which reads as %x (%v)", der, text, again, err)
	}
}
