package nft

import (
	"net/netip"
	"strings"
	"testing"
)

func judge(src, dst string, j Judged) Judged {
	j.Src, j.Dst = netip.MustParsePrefix(src), netip.MustParsePrefix(dst)
	return j
}

func TestErrorsAreJudgedByAddressesAndPortsOfWhatTheyQuote(t *testing.T) {
	const v6 = "meta nfproto ipv6 @th,128,128 & 0xffffffffffffffff0000000000000000 == 0xfd020000000000000000000000000000 " +
		"@th,256,128 & 0xffffffffffffffffffffffffffffffff == 0xfd010000000000000000000000000005"
	for _, c := range []struct {
		j    Judged
		want string
	}{
		{judge("10.2.0.0/16", "10.1.0.0/17", Judged{}),
			"meta nfproto ipv4 @th,160,32 & 0xffff0000 == 0xa020000 @th,192,32 & 0xffff8000 == 0xa010000 drop"},
		{judge("0.0.0.0/0", "10.1.0.0/17", Judged{Allow: true}), "meta nfproto ipv4 @th,192,32 & 0xffff8000 == 0xa010000 return"},
		{judge("0.0.0.0/0", "0.0.0.0/0", Judged{}), "meta nfproto ipv4 drop"},
		{judge("0.0.0.0/0", "10.1.0.9/32", Judged{Protocol: 6, SrcPort: 443, Allow: true}), "meta nfproto ipv4 " +
			"@th,192,32 & 0xffffffff == 0xa010009 @th,136,8 6 @th,64,8 0x45 @th,224,16 443 return"},
		{judge("fd02::/64", "fd01::5/128", Judged{}), v6 + " drop"},
		{judge("fd02::/64", "fd01::5/128", Judged{Protocol: 17, DstPort: 53, Allow: true}), v6 + " @th,112,8 17 @th,400,16 53 return"},
	} {
		lines := strings.Split(Quoted("quoted", []Judged{c.j}, "drop"), "\n")
		if got := strings.TrimSpace(lines[1]); strings.ReplaceAll(got, "0x0a", "0xa") != c.want {
			t.Errorf("%+v:\n got %s\nwant %s", c.j, got, c.want)
		}
	}
}

func TestATableLetsGoWhatGoesIntoATunnel(t *testing.T) {
	list := []Judged{judge("10.2.0.0/16", "10.1.0.0/17", Judged{})}
	text := Table("one", list, 0, 7)
	for _, want := range []string{"oif { 1, 7 } accept", "rt ipsec exists accept", errors4 + " jump quoted", errors6 + " jump quoted"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	if gone := Table("one", nil); strings.Contains(gone, "chain") || !strings.Contains(gone, "delete table inet one") {
		t.Errorf("nothing to judge: %s", gone)
	}
}
