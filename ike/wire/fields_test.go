package wire

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// text is the text form as a page: one line for each field, two spaces for each
// depth.
func text(m Message) string {
	var b strings.Builder
	for _, f := range m.Fields() {
		fmt.Fprintf(&b, "%s%s: %s\n", strings.Repeat("  ", f.Depth), f.Name, f.Value)
	}
	return b.String()
}

func TestDump(t *testing.T) {
	for _, n := range []string{"M1", "M2", "M3", "M4", "refusal"} {
		os.WriteFile("/tmp/wf_"+n, []byte(text(clearMessage(t, n))), 0o600)
	}
	for n, e := range map[string]ExchangeType{"M5": MainMode, "QM1": QuickMode, "QM2": QuickMode, "QM3": QuickMode, "dpd": Informational, "contact": Informational, "lifetime": Informational, "delete": Informational, "farewell": Informational} {
		id := uint32(0xcc2d2221)
		if e == MainMode {
			id = 0
		}
		os.WriteFile("/tmp/wf_"+n, []byte(text(plainMessage(t, n, e, id))), 0o600)
	}
}
