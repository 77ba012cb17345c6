package foreign_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"yumen/cmd/internal/foreign"
)

// The one number that says how a UDG differs is read bit by bit, in the words of our
// entry; a form of HASH that nobody publishes must go.
func TestMaskOfABoxIsExplainedBitByBit(t *testing.T) {
	const dump = "ike proposal 1\n authentication-method digital-envelope\n encryption-algorithm sm4\n authentication-algorithm sm3\n#\n" +
		"ike peer p\n ike-proposal 1\n remote-address 192.0.2.1\n#\nipsec policy m 1 isakmp\n ike-peer p\n#\nMOD IKEPEER:PEERNAME=\"p\",CUSTOMPARA=%d;\n"
	for _, c := range []struct {
		mask   uint64
		change bool
		says   []string
	}{
		{0, false, []string{"bit 0 clear: transform_id: check", "bit 1 clear: key_length: refuse", "bit 2 clear: dpd_spi: none", "bit 3 clear: HASH of phase 1 by RFC 2409",
			"bit 4 clear: qm_hash: rfc2409", "bits 9 and 10: esp_icv_bits: 96"}},
		{1<<0 | 1<<1 | 1<<2 | 1<<4 | 1<<9, false, []string{"bit 0 set: transform_id: ignore", "bit 1 set: key_length: omit", "bit 2 set: dpd_spi: cookies",
			"bit 4 set: qm_hash: std-full (", "std-body", "esp_icv_bits: 128"}},
		{1<<3 | 1<<10, true, []string{"bit 3 set", "is not published", "esp_icv_bits: 256"}},
		{1<<5 | 1<<9 | 1<<10 | 1<<12, false, []string{"which end begins", "esp_icv_bits: 96", "bits 12: not published"}},
	} {
		d, _ := drafted(t, foreign.Huawei, fmt.Appendf(nil, dump, c.mask))
		i := slices.IndexFunc(d.Findings, func(f foreign.Finding) bool { return strings.Contains(f.Text, "CUSTOMPARA") })
		if i < 0 {
			t.Errorf("%d: the line is not found", c.mask)
			continue
		}
		f := d.Findings[i]
		for _, want := range c.says {
			if !strings.Contains(f.Reason, want) || f.Change != c.change {
				t.Errorf("%d (change %v): %q is not in %q", c.mask, f.Change, want, f.Reason)
			}
		}
	}
}

// The sheet names the number that goes with our entry, in a remark: where a firewall
// has it nobody published.
func TestCommandsForHuaweiNameTheBitsThatGoWithOurEntry(t *testing.T) {
	for dialect, want := range map[string]string{
		"":                             "CUSTOMPARA of MOD IKEPEER: 4 goes with our entry (bits 2 set,",
		"    dialect: {dpd_spi: none}": "MOD IKEPEER: 0 goes with our entry (no bit set,",
		"    dialect: {key_length: send, qm_hash: std-body}":                 "MOD IKEPEER: 22 goes with our entry (bits 1, 2, 4 set,",
		"    dialect: {esp_icv_bits: 128}":                                   "MOD IKEPEER: 516 goes with our entry (bits 2, 9 set,",
		"    dialect: {dpd_spi: none, esp_icv_bits: 256}":                    "MOD IKEPEER: 1024 goes with our entry (bits 10 set,",
		"    dialect: {dpd_spi: none, esp_icv_bits: auto, qm_hash: rfc2409}": "MOD IKEPEER: 0 goes",
	} {
		s := commands(t, foreign.Huawei, link(t, "    profile: huawei\n"+dialect, ""))
		if said := fmt.Sprint(s.Remarks); !strings.Contains(said, want) || !strings.Contains(said, "beyond the SA in HASHr") {
			t.Errorf("%q: %q is not in %s", dialect, want, said)
		}
		if strings.Contains(strings.Join(s.Lines, "\n"), "CUSTOMPARA") {
			t.Error("a command that nobody confirmed")
		}
	}
}
