package doctor

import (
	"os"
	"testing"
)

func TestNetworkdIsReadAsItReadsItself(t *testing.T) {
	shipped, err := os.ReadFile("../../../configs/yumen-networkd.conf")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name          string
		files         []string
		routes, rules bool
	}{
		{"nothing said", nil, false, false},
		{"what we ship", []string{"[Network]\nManageForeignRoutes=yes\n", string(shipped)}, true, true},
		{"taken back later", []string{string(shipped), "[Network]\nManageForeignRoutes = yes\n"}, false, true},
		{"another section", []string{"[DHCPv4]\nManageForeignRoutes=no\n"}, false, false},
		{"commented out", []string{"[Network]\n#ManageForeignRoutes=no\n;ManageForeignRoutingPolicyRules=no\n"}, false, false},
		{"in other words", []string{" [Network]\nManageForeignRoutes=OFF\nManageForeignRoutingPolicyRules= false"}, true, true},
	} {
		if n := ParseNetworkd(c.files...); n.Routes != c.routes || n.Rules != c.rules {
			t.Errorf("%s: %+v", c.name, n)
		}
	}
	f := healthy(t)
	f.Networkd = Networkd{Runs: true, Routes: true, Rules: true}
	if found := checkNetworkd(f); found != nil {
		t.Errorf("warned of one that keeps what is ours: %v", found)
	}
}
