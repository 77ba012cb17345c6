package wire

import (
	"bytes"
	"crypto/md5"
	"math/rand"
	"reflect"
	"strings"
	"testing"
)

func TestVendorIDsAreWhatTheRFCsSay(t *testing.T) {
	if sum := md5.Sum([]byte("RFC 3947")); string(sum[:]) != VendorNATT {
		t.Errorf("VendorNATT is %x", VendorNATT)
	}
	if want := unhex(t, "afcad71368a1f1c96b8696fc77570100"); string(want) != VendorDPD {
		t.Errorf("VendorDPD is %x", VendorDPD)
	}
	for text, name := range map[string]string{
		"draft-ietf-ipsec-nat-t-ike-02":   "NAT traversal, draft 02",
		"draft-ietf-ipsec-nat-t-ike-02\n": "NAT traversal, draft 02 with a newline",
		"draft-ietf-ipsec-nat-t-ike-03":   "NAT traversal, draft 03",
	} {
		sum := md5.Sum([]byte(text))
		if got := vendorName(string(sum[:])); got != name {
			t.Errorf("%q is named %q", text, got)
		}
	}
}

// identities are plain ID bodies and what they say.
func identities() []struct {
	name, body string
	want       ID
	text       string
} {
	return []struct {
		name, body string
		want       ID
		text       string
	}{
		{"IPv4 address", "01000000 c0000201", ID{Type: IDIPv4, Data: []byte{192, 0, 2, 1}}, "192.0.2.1"},
		{"with protocol and port", "011101f4 c0000201", ID{IDIPv4, 17, 500, []byte{192, 0, 2, 1}}, "192.0.2.1"},
		{"name", "02000000 67772e6578616d706c65", ID{Type: IDFQDN, Data: []byte("gw.example")}, `"gw.example"`},
		{"name with a control byte", "02000000 671b0a", ID{Type: IDFQDN, Data: []byte("g\x1b\n")}, `"g\x1b\n"`},
		{"user name", "03000000 614062", ID{Type: IDUserFQDN, Data: []byte("a@b")}, `"a@b"`},
		{"IPv4 subnet", "04000000 ac101d00 ffffff00", ID{Type: IDIPv4Subnet, Data: []byte{172, 16, 29, 0, 255, 255, 255, 0}}, "172.16.29.0/24"},
		{"everything", "04000000 00000000 00000000", ID{Type: IDIPv4Subnet, Data: make([]byte, 8)}, "0.0.0.0/0"},
		{"one host", "04000000 c0000201 ffffffff", ID{Type: IDIPv4Subnet, Data: []byte{192, 0, 2, 1, 255, 255, 255, 255}}, "192.0.2.1/32"},
		{"a mask that is none", "04000000 c0000200 ff00ff00", ID{Type: IDIPv4Subnet, Data: []byte{192, 0, 2, 0, 255, 0, 255, 0}}, "192.0.2.0 mask 255.0.255.0"},
		{"IPv6 address", "05000000 20010db8000000000000000000000001", ID{Type: IDIPv6, Data: append([]byte{0x20, 1, 0xd, 0xb8}, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1)}, "2001:db8::1"},
		{"port", "070611ba 0a000001 0a0000ff", ID{IDIPv4Range, 6, 4538, []byte{10, 0, 0, 1, 10, 0, 0, 255}}, "10.0.0.1-10.0.0.255"},
		{"key id", "0b000000 00ff", ID{Type: IDKeyID, Data: []byte{0, 255}}, "00ff"},
		{"general name", "0a000000 820161", ID{Type: IDGN, Data: []byte{0x82, 1, 'a'}}, "820161"},
		{"a type that nobody knows", "c8010002 03", ID{IDType(200), 1, 2, []byte{3}}, "03"},
	}
}

func TestIdentitiesAreReadWrittenAndRendered(t *testing.T) {
	for _, c := range identities() {
		body := unhex(t, c.body)
		got, err := ParseID(body)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s\n got %+v\nwant %+v", c.name, got, c.want)
		}
		if b := c.want.Append([]byte{1}); !bytes.Equal(b[1:], body) {
			t.Errorf("%s: written as %x, want %x", c.name, b[1:], body)
		}
		if s := got.String(); s != c.text {
			t.Errorf("%s: rendered %s, want %s", c.name, s, c.text)
		}
	}
}

func TestSubnetsOfIPv6AreRendered(t *testing.T) {
	for _, c := range []struct{ data, want string }{
		{"20010db8000000000000000000000000 ffffffffffff00000000000000000000", "2001:db8::/48"},
		{"00000000000000000000000000000000 00000000000000000000000000000000", "::/0"},
		{"20010db8000000000000000000000001 ffffffffffffffffffffffffffffffff", "2001:db8::1/128"},
		{"20010db8000000000000000000000000 fffffff8000000000000000000000000", "2001:db8::/29"},
		{"20010db8000000000000000000000000 ffffffffffffffff0000000000000000", "2001:db8::/64"},
		{"20010db8000000000000000000000000 00000000ffffffff0000000000000000", "2001:db8:: mask 0:0:ffff:ffff::"},
		{"20010db8000000000000000000000000 ffff00ffffffffff0000000000000000", "2001:db8:: mask ffff:ff:ffff:ffff::"},
		{"20010db8000000000000000000000000 fffffffe800000000000000000000000", "2001:db8:: mask ffff:fffe:8000::"},
	} {
		i, err := ParseID(append([]byte{6, 0, 0, 0}, unhex(t, c.data)...))
		if err != nil {
			t.Fatal(err)
		}
		if s := i.String(); s != c.want {
			t.Errorf("%s: rendered %q, want %q", c.data, s, c.want)
		}
	}
	i, err := ParseID(append([]byte{8, 0, 0, 0}, unhex(t, "fd000000000000000000000000000001 fd0000000000000000000000000000ff")...))
	if err != nil || i.String() != "fd00::1-fd00::ff" {
		t.Errorf("a range: %s, %v", i, err)
	}
}

func TestDistinguishedNamesAreRendered(t *testing.T) {
	const exampleDN = "304a310b3009060355040613024141310b3009060355040813024242310b3009060355040a13024343310b3009060355040b" +
		"13024444311430120603550403130b636c69656e74207369676e"
	for _, c := range []struct{ what, der, want string }{
		{"of the example", exampleDN, "C=AA, ST=BB, O=CC, OU=DD, CN=client sign"},
		{"empty", "3000", "3000"},
		{"two values in one", "3018 3116 3009 0603550403 0c0261 62 3009 0603550405 13023031", "CN=ab+SERIALNUMBER=01"},
		{"an unknown attribute", "300e 310c 300a 0603550463 0c03616263", "2.5.4.99=abc"},
		{"a name that looks like structure", "3013 3111 300f 0603550403 0c08 612c204f3d62635c", `CN="a, O=bc\\"`},
		{"a control byte", "300d 310b 3009 0603550403 0c02611b", `CN="a\x1b"`},
		{"no string", "300d 310b 3009 0603550403 04026162", "CN=#04026162"},
		{"no name", "0101ff", "0101ff"},
		{"bytes behind it", "300000", "300000"},
	} {
		i := ID{Type: IDDN, Data: unhex(t, c.der)}
		if s := i.String(); s != c.want {
			t.Errorf("%s: rendered %q, want %q", c.what, s, c.want)
		}
	}
}

func TestIdentityOfWrongLengthIsRenderedAsBytes(t *testing.T) {
	for _, typ := range []IDType{IDIPv4, IDIPv4Subnet, IDIPv4Range, IDIPv6, IDIPv6Subnet, IDIPv6Range} {
		if s := (ID{Type: typ, Data: []byte{1, 2, 3}}).String(); s != "010203" {
			t.Errorf("%s of three bytes: %q", typ, s)
		}
	}
	long := ID{Type: IDKeyID, Data: bytes.Repeat([]byte{0xab}, 100)}
	if s, want := long.String(), strings.Repeat("ab", 32)+"... (100 bytes)"; s != want {
		t.Errorf("a long key id: %q, want %q", s, want)
	}
}

func TestMalformedIdentitiesAreRefused(t *testing.T) {
	for _, c := range []struct{ what, body, want string }{
		{"nothing", "", "id: type: 1 bytes wanted, 0 left"},
		{"a type", "01", "id: protocol: 1 bytes wanted, 0 left"},
		{"half a port", "010000", "id: port: 2 bytes wanted, 1 left"},
		{"no data", "01000000", "id: data: empty"},
		{"no name", "02000000", "id: data: empty"},
		{"no data of an unknown type", "c8000000", "id: data: empty"},
		{"reserved type", "00000000 01", "id: type: 0 is reserved"},
		{"short address", "01000000 c00002", "id: data: 3 bytes, IPV4_ADDR has 4"},
		{"long address", "01000000 c000020100", "id: data: 5 bytes, IPV4_ADDR has 4"},
		{"subnet without mask", "04000000 ac101d00", "id: data: 4 bytes, IPV4_ADDR_SUBNET has 8"},
		{"IPv6 of four bytes", "05000000 c0000201", "id: data: 4 bytes, IPV6_ADDR has 16"},
		{"IPv6 subnet by prefix length", "06000000 20010db800000000000000000000000030", "id: data: 17 bytes, IPV6_ADDR_SUBNET has 32"},
		{"half a range", "07000000 0a000001", "id: data: 4 bytes, IPV4_ADDR_RANGE has 8"},
		{"half an IPv6 range", "08000000 20010db8000000000000000000000001", "id: data: 16 bytes, IPV6_ADDR_RANGE has 32"},
	} {
		i, err := ParseID(unhex(t, c.body))
		refused(t, c.what, err, c.want)
		if i.Data != nil || i.Type != 0 {
			t.Errorf("%s: a refused ID is %+v", c.what, i)
		}
	}
}

func TestEachStrictPrefixOfAnAddressIdentityIsRefused(t *testing.T) {
	for _, c := range identities() {
		if _, fixed := idLen(c.want.Type); !fixed {
			continue // the others end where the payload ends
		}
		body := unhex(t, c.body)
		for n := range len(body) {
			if i, err := ParseID(body[:n]); err == nil {
				t.Errorf("%s: the first %d bytes are %+v", c.name, n, i)
			}
		}
		if _, err := ParseID(append(body, 0)); err == nil {
			t.Errorf("%s: a byte too many is accepted", c.name)
		}
		if _, err := ParseID(append(body, body...)); err == nil {
			t.Errorf("%s: the ID twice is accepted", c.name)
		}
	}
}

func TestCertificatesOfTheExample(t *testing.T) {
	m := clearMessage(t, "M3")
	for at, want := range map[int]CertEncoding{3: CertSign, 4: CertEnc} {
		body := m.Payloads[at].Body
		c, err := ParseCert(body)
		if err != nil {
			t.Fatal(err)
		}
		if c.Encoding != want || len(c.Data) != 497 || c.Data[0] != 0x30 {
			t.Errorf("payload %d: encoding %v, %d bytes", at+1, c.Encoding, len(c.Data))
		}
		if b := c.Append(nil); !bytes.Equal(b, body) {
			t.Errorf("payload %d is written back as %x", at+1, b)
		}
	}
	_, err := ParseCert(nil)
	refused(t, "nothing", err, "certificate: encoding: 1 bytes wanted, 0 left")
	_, err = ParseCert([]byte{4})
	refused(t, "an encoding alone", err, "certificate: data: empty")
}

func TestNotificationsAreReadAndWritten(t *testing.T) {
	cookies := "a89a4662a4d1cad0 49a2eb29cf6d65db"
	for _, c := range []struct {
		what, body string
		want       Notification
	}{
		{"refusal with cookies", "00000001 01 10 000e" + cookies,
			Notification{1, ProtoISAKMP, unhex(t, cookies), NoProposalChosen, []byte{}}},
		{"phase 2, SPI of four zeros", "00000001 03 04 0012 00000000",
			Notification{1, ProtoESP, make([]byte, 4), InvalidIDInformation, []byte{}}},
		{"no SPI", "00000001 03 00 0017",
			Notification{1, ProtoESP, []byte{}, InvalidHashInformation, []byte{}}},
		{"the generic DOI", "00000000 01 00 0018",
			Notification{0, ProtoISAKMP, []byte{}, AuthenticationFailed, []byte{}}},
		{"dead peer detection", "00000001 01 10 8d28" + cookies + "00001267",
			Notification{1, ProtoISAKMP, unhex(t, cookies), RUThere, []byte{0, 0, 0x12, 0x67}}},
		{"lifetime", "00000001 03 04 6000 c713ad06 80010001 80020e10",
			Notification{1, ProtoESP, unhex(t, "c713ad06"), ResponderLifetime, unhex(t, "8001000180020e10")}},
		{"longest SPI", "00000001 01 ff 4000" + strings.Repeat("5a", 255) + "01",
			Notification{1, ProtoISAKMP, bytes.Repeat([]byte{0x5a}, 255), Connected, []byte{1}}},
	} {
		body := unhex(t, c.body)
		got, err := ParseNotification(body)
		if err != nil {
			t.Errorf("%s: %v", c.what, err)
			continue
		}
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s\n got %+v\nwant %+v", c.what, got, c.want)
		}
		if b := c.want.Append([]byte{1}); !bytes.Equal(b[1:], body) {
			t.Errorf("%s: written as %x, want %x", c.what, b[1:], body)
		}
		for n := range 8 + len(c.want.SPI) { // data ends where the payload ends
			if _, err := ParseNotification(body[:n]); err == nil {
				t.Errorf("%s: the first %d bytes are accepted", c.what, n)
			}
		}
	}
}

func TestMalformedNotificationsAreRefused(t *testing.T) {
	for _, c := range []struct{ what, body, want string }{
		{"nothing", "", "notification: doi: 4 bytes wanted, 0 left"},
		{"half a doi", "0000", "notification: doi: 4 bytes wanted, 2 left"},
		{"no protocol", "00000001", "notification: protocol: 1 bytes wanted, 0 left"},
		{"no spi size", "0000000101", "notification: spi size: 1 bytes wanted, 0 left"},
		{"half a type", "000000010110 00", "notification: type: 2 bytes wanted, 1 left"},
		{"no spi", "000000010110 000e", "notification: spi: 16 bytes wanted, 0 left"},
		{"one cookie", "000000010110 000e a89a4662a4d1cad0", "notification: spi: 16 bytes wanted, 8 left"},
	} {
		n, err := ParseNotification(unhex(t, c.body))
		refused(t, c.what, err, c.want)
		if !reflect.DeepEqual(n, Notification{}) {
			t.Errorf("%s: a refused notification is %+v", c.what, n)
		}
	}
}

func TestDeletesAreReadAndWritten(t *testing.T) {
	for _, c := range []struct {
		what, body string
		want       Delete
	}{
		{"one", "00000001 03 04 0001 c515ecd5", Delete{1, ProtoESP, 4, [][]byte{{0xc5, 0x15, 0xec, 0xd5}}}},
		{"two", "00000001 02 04 0002 c515ecd5 c713ad06", Delete{1, ProtoAH, 4, [][]byte{{0xc5, 0x15, 0xec, 0xd5}, {0xc7, 0x13, 0xad, 6}}}},
		{"the ISAKMP SA", "00000001 01 10 0001 a89a4662a4d1cad049a2eb29cf6d65db",
			Delete{1, ProtoISAKMP, 16, [][]byte{unhex(t, "a89a4662a4d1cad049a2eb29cf6d65db")}}},
		{"bytes", "00000000 ff 01 0003 010203", Delete{0, 255, 1, [][]byte{{1}, {2}, {3}}}},
	} {
		body := unhex(t, c.body)
		got, err := ParseDelete(body)
		if err != nil {
			t.Errorf("%s: %v", c.what, err)
			continue
		}
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s\n got %+v\nwant %+v", c.what, got, c.want)
		}
		if b := c.want.Append([]byte{1}); !bytes.Equal(b[1:], body) {
			t.Errorf("%s: written as %x, want %x", c.what, b[1:], body)
		}
		for n := range len(body) {
			if _, err := ParseDelete(body[:n]); err == nil {
				t.Errorf("%s: the first %d bytes are accepted", c.what, n)
			}
		}
		if _, err := ParseDelete(append(body, body...)); err == nil {
			t.Errorf("%s: the delete twice is accepted", c.what)
		}
		if _, err := ParseDelete(append(body, 0)); err == nil {
			t.Errorf("%s: a byte too many is accepted", c.what)
		}
	}
}

func TestMalformedDeletesAreRefused(t *testing.T) {
	for _, c := range []struct{ what, body, want string }{
		{"nothing", "", "delete: doi: 4 bytes wanted, 0 left"},
		{"no protocol", "00000001", "delete: protocol: 1 bytes wanted, 0 left"},
		{"no spi size", "0000000103", "delete: spi size: 1 bytes wanted, 0 left"},
		{"half a count", "000000010304 00", "delete: number of spis: 2 bytes wanted, 1 left"},
		{"no spis", "000000010304 0000", "delete: number of spis: 0, must be 1 to 1024"},
		{"empty spis", "000000010300 0001", "delete: spi size: 0"},
		{"empty spis without end", "000000010300 ffff", "delete: spi size: 0"},
		{"too many spis", "000000010301 0401" + strings.Repeat("00", 1025), "delete: number of spis: 1025, must be 1 to 1024"},
		{"one missing", "000000010304 0002 c515ecd5", "delete: spis: 2 of 4 bytes announced, 4 bytes found"},
		{"one too many", "000000010304 0001 c515ecd5c713ad06", "delete: spis: 1 of 4 bytes announced, 8 bytes found"},
		{"one cut", "000000010304 0002 c515ecd5c713", "delete: spis: 2 of 4 bytes announced, 6 bytes found"},
	} {
		d, err := ParseDelete(unhex(t, c.body))
		refused(t, c.what, err, c.want)
		if d.SPIs != nil {
			t.Errorf("%s: a refused delete has SPIs", c.what)
		}
	}
	most := Delete{1, ProtoESP, 4, nil}
	for i := range maxSPIs {
		most.SPIs = append(most.SPIs, []byte{1, 2, byte(i >> 8), byte(i)})
	}
	if got, err := ParseDelete(most.Append(nil)); err != nil || !reflect.DeepEqual(got, most) {
		t.Errorf("the most SPIs: %v", err)
	}
}

func TestBodiesMadeAtRandomComeBack(t *testing.T) {
	r := rand.New(rand.NewSource(3))
	for range 2000 {
		n := Notification{r.Uint32(), Protocol(r.Intn(256)), some(r, 0, 255), NotifyType(r.Intn(65536)), some(r, 0, 200)}
		if got, err := ParseNotification(n.Append(nil)); err != nil || !reflect.DeepEqual(got, n) {
			t.Fatalf("%+v came back as %+v, %v", n, got, err)
		}
		c := Cert{CertEncoding(r.Intn(256)), some(r, 1, 900)}
		if got, err := ParseCert(c.Append(nil)); err != nil || !reflect.DeepEqual(got, c) {
			t.Fatalf("%+v came back as %+v, %v", c, got, err)
		}
		i := ID{IDType(9 + r.Intn(247)), byte(r.Intn(256)), uint16(r.Intn(65536)), some(r, 1, 100)}
		if got, err := ParseID(i.Append(nil)); err != nil || !reflect.DeepEqual(got, i) {
			t.Fatalf("%+v came back as %+v, %v", i, got, err)
		}
		d := Delete{DOI: r.Uint32(), Protocol: Protocol(r.Intn(256)), SPISize: byte(1 + r.Intn(255))}
		for range 1 + r.Intn(20) {
			d.SPIs = append(d.SPIs, some(r, int(d.SPISize), int(d.SPISize)))
		}
		if got, err := ParseDelete(d.Append(nil)); err != nil || !reflect.DeepEqual(got, d) {
			t.Fatalf("%+v came back as %+v, %v", d, got, err)
		}
	}
}
