package policy

import (
	"strings"
	"testing"
)

// With profile: auto the ICV length is found out, unless tunnel or dialect pins it.
func TestTheICVLengthIsFoundOutWhereNothingPinsIt(t *testing.T) {
	for _, c := range []struct {
		peer, tunnel string
		want         int
	}{
		{"", "", 96},
		{"", ", icv_bits: auto", ICVAuto},
		{", dialect: {esp_icv_bits: auto}", "", ICVAuto},
		{", profile: auto", "", ICVAuto},
		{", profile: auto", ", icv_bits: 128", 128},
		{", profile: auto, dialect: {esp_icv_bits: 256}", "", 256},
		{", profile: auto, dialect: {esp_icv_bits: 96}", "", 96},
		{", profile: h3c", "", 96},
	} {
		text := "site: a\npeers:\n  - {name: p, remote: 192.0.2.2, ca: ca.crt, subject: CN=p" + c.peer + "}\ntunnels:\n" +
			"  - {name: t, peer: p, local: 10.1.0.0/16, remote: 10.2.0.0/16" + c.tunnel + "}\n"
		p, err := Parse("p.yaml", []byte(text))
		if err != nil {
			t.Errorf("%s%s: %v", c.peer, c.tunnel, err)
		} else if got := p.Tunnels[0].ICVBits; got != c.want {
			t.Errorf("%s%s: %d bits, want %d", c.peer, c.tunnel, got, c.want)
		}
		bad := strings.Replace(text, "remote: 10.2.0.0/16", "remote: 10.2.0.0/16, icv_bits: 97", 1)
		if _, err := Parse("p.yaml", []byte(bad)); c.tunnel == "" && (err == nil || !strings.Contains(err.Error(), "96, 128, 256, auto")) {
			t.Errorf("97 bits: %v", err)
		}
	}
}
