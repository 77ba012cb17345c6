package daemon

import (
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"yumen/esp"
	"yumen/ike"
	"yumen/policy"
	"yumen/policy/secret"
	"yumen/policy/trust"
)

// inFull is a child with something in every field but its keys. A field that is added
// to esp.Child and forgotten here or in the file fails the test.
func inFull(t *testing.T) esp.Child {
	t.Helper()
	c := esp.Child{ID: 7, Tunnel: "office", Peer: "b", Suite: policy.SM4CBCHMACSM3, ICVBits: 128, ESN: true, Window: 512, Lane: 1,
		Selector: policy.Selector{Local: policy.NetOf(netip.MustParsePrefix("10.1.0.0/16")),
			Remote: policy.NetOf(netip.MustParsePrefix("10.2.0.0/16")), Protocol: 6, LocalPort: 1, RemotePort: 2},
		Outer: policy.Outer{DSCP: 4, DF: policy.DFClear, Fragment: policy.FragmentAfter, MSS: 1300},
		Path:  esp.Path{Local: netip.MustParseAddrPort("192.0.2.1:4500"), Remote: netip.MustParseAddrPort("[2001:db8::1]:4501"), Encap: true},
		In:    esp.Half{SPI: 0x1000}, Out: esp.Half{SPI: 0x2000},
		Limits: esp.Limits{SoftBytes: 1, HardBytes: 2, SoftPackets: 3, HardPackets: 4, SoftTime: 5, HardTime: 6}}
	v := reflect.ValueOf(c)
	for i := range v.NumField() {
		if v.Field(i).IsZero() {
			t.Fatalf("%s has no value in this test", v.Type().Field(i).Name)
		}
	}
	return c
}

func TestChildrenAreRememberedWholeAndWithoutKeys(t *testing.T) {
	dir, since := t.TempDir(), time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	c := inFull(t)
	keyed := c
	keyed.In.Keymat = secret.New([]byte("0123456789abcdef"))
	old := c
	old.ID = 6
	origin := ike.Origin{Entry: "e", Certs: trust.Standing{Sign: []trust.Link{{Fingerprint: "f", Serial: "1", NotAfter: since}}}}
	whose := []ike.Origin{origin, origin}
	status := ike.Status{Tunnels: []ike.TunnelStatus{
		{Name: "office", InUse: 7, Children: []esp.Child{keyed, old}, Installed: []time.Time{since, since}, Origins: whose},
		{Name: "idle"},
		{Name: "elsewhere", InUse: 9, Children: []esp.Child{{ID: 9}}, Installed: []time.Time{since}, Origins: whose},
	}}
	if list, err := loadChildren(dir); err != nil || len(list) != 0 {
		t.Errorf("nothing was saved: %v, %v", list, err)
	}
	if err := saveChildren(dir, leftIn(status, func(id esp.ChildID) bool { return id != 9 })); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, childrenFile))
	if err != nil || strings.Contains(string(b), "0123456789") {
		t.Fatalf("the file: %v: %s", err, b)
	}
	list, err := loadChildren(dir)
	if err != nil || len(list) != 1 || !list[0].Installed.Equal(since) || !reflect.DeepEqual(list[0].Origin, origin) {
		t.Fatalf("%+v, %v", list, err)
	}
	if got := list[0].child(); !reflect.DeepEqual(got, c) {
		t.Errorf("got\n%+v, want\n%+v", got, c)
	}
	for n := range b {
		if err := os.WriteFile(filepath.Join(dir, childrenFile), b[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := loadChildren(dir); err == nil {
			t.Fatalf("the first %d of %d bytes were taken", n, len(b))
		}
	}
}
