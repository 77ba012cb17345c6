// Package doctor looks at the machine around a gateway and says, one line and one
// fix each, what will keep tunnels from working: the kernel, the firewall,
// address translation, other daemons, the clock, certificates. It changes nothing.
// Gathering (gather_linux.go) and judging are apart: every check is a function of
// Facts alone. It refuses to know what `yumen check` knows: whether the
// configuration itself is right.
package doctor

import (
	"fmt"
	"io"
)

// Level says how bad a finding is. The zero value is the worst.
type Level uint8

const (
	Fail Level = iota // something that must work cannot
	Warn              // it works now, or perhaps, but ask yourself
	Note              // worth knowing; nothing to mend
	OK
)

// String is the word in reports, for machines too.
func (l Level) String() string {
	switch l {
	case Warn:
		return "warn"
	case Note:
		return "note"
	case OK:
		return "ok"
	}
	return "fail"
}

// MarshalText writes the word.
func (l Level) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// Finding is one result.
type Finding struct {
	Check string `json:"check"` // a token from a closed set
	Level Level  `json:"level"`
	Text  string `json:"text"`
	Fix   string `json:"fix,omitempty"` // what to do: a command, or a sentence
}

// Report is all findings in the order of the checks.
type Report struct {
	Findings []Finding `json:"findings"`
	Fails    int       `json:"fails"`
	Warnings int       `json:"warnings"`
}

// checks are all, in the order of a report.
func checks() []func(*Facts) []Finding {
	return []func(*Facts) []Finding{
		checkGathered, checkSuites, checkTun, checkOffloads, checkRights, checkMemoryLock,
		checkForwarding, checkReversePath, checkXFRMSettings, checkNFT,
		checkSNAT, checkOpenings, checkForwarded, checkContainers,
		checkPorts, checkXFRM, checkRules, checkNetworkd, checkConnected, checkPaths,
		checkClock, checkCertificates,
	}
}

// Examine judges what was gathered. It is pure.
func Examine(f *Facts) Report {
	var r Report
	for _, check := range checks() {
		for _, one := range check(f) {
			r.Findings = append(r.Findings, one)
			switch one.Level {
			case Fail:
				r.Fails++
			case Warn:
				r.Warnings++
			}
		}
	}
	return r
}

// WriteText writes a report for people: one line each, its fix below.
func (r Report) WriteText(w io.Writer) error {
	for _, f := range r.Findings {
		if _, err := fmt.Fprintf(w, "%-4s  %-12s %s\n", f.Level, f.Check, f.Text); err != nil {
			return err
		}
		if f.Fix == "" {
			continue
		}
		if _, err := fmt.Fprintf(w, "%19sfix: %s\n", "", f.Fix); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "%d wrong, %d to look at\n", r.Fails, r.Warnings)
	return err
}

func one(check string, level Level, text, fix string) []Finding {
	return []Finding{{Check: check, Level: level, Text: text, Fix: fix}}
}

// checkGathered tells what could not be looked at, so that silence is no praise.
func checkGathered(f *Facts) []Finding {
	var out []Finding
	if f.ConfigFault != "" {
		out = append(out, Finding{"config", Fail, f.ConfigFault + ": what depends on it was not looked at", "yumen check tells every fault"})
	}
	for _, b := range f.Blind {
		out = append(out, Finding{"gathering", Warn, b, "run as root"})
	}
	return out
}
