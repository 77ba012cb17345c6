package policy

import (
	"fmt"
	"strings"
)

// Error is one fault of a policy: where it stands, what is wrong and what to do.
type Error struct {
	File    string // as given to Load or Parse; empty: the policy was built in code
	Line    int    // 1 is the first; 0: unknown
	Path    string // key, as in peers[0].remote; empty: the file as a whole
	Problem string // what is wrong; what to do
}

// Error writes "file:line: path: problem".
func (e *Error) Error() string {
	var b strings.Builder
	if e.File != "" {
		b.WriteString(e.File)
		if e.Line > 0 {
			fmt.Fprintf(&b, ":%d", e.Line)
		}
		b.WriteString(": ")
	}
	if e.Path != "" {
		b.WriteString(e.Path + ": ")
	}
	b.WriteString(e.Problem)
	return b.String()
}

// Errors is every fault of a policy, by line. It is never empty when returned.
type Errors []*Error

// Error writes one fault a line.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, one := range e {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap lets errors.As and errors.Is look at each fault.
func (e Errors) Unwrap() []error {
	all := make([]error, len(e))
	for i, one := range e {
		all[i] = one
	}
	return all
}
