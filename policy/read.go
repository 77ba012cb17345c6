package policy

import (
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"time"
)

// reader collects every fault of one file.
type reader struct {
	file string
	errs Errors
}

func (r *reader) fault(line int, path, format string, args ...any) {
	r.errs = append(r.errs, &Error{File: r.file, Line: line, Path: path, Problem: fmt.Sprintf(format, args...)})
}

// object is a mapping being read. Every key that is asked for is a known one;
// done reports the rest.
type object struct {
	r     *reader
	node  *node
	path  string
	asked []string
}

// object reads n as a mapping. A wrong kind is reported and reads as empty.
func (r *reader) object(n *node, path string) *object {
	if n.kind != kindMap && n.kind != kindBad {
		r.fault(n.line, path, "must be a mapping; write key: value lines below it")
		n = &node{kind: kindBad, line: n.line}
	}
	return &object{r: r, node: n, path: path}
}

// known lists the keys that were asked for, once each, in order.
func (o *object) known() (out []string) {
	for _, key := range o.asked {
		if !slices.Contains(out, key) {
			out = append(out, key)
		}
	}
	return out
}

// done reports unknown keys.
func (o *object) done() {
	for _, p := range o.node.pairs {
		if !slices.Contains(o.asked, p.key) {
			o.r.fault(p.line, join(o.path, p.key), "unknown key; known here: %s", strings.Join(o.known(), ", "))
		}
	}
}

// field is one key of an object, given or not.
type field struct {
	r    *reader
	node *node // nil: not given, or already reported
	path string
	line int  // of the key; of the object where it is not written
	here bool // the key is written, whatever its value
}

// get returns an optional key.
func (o *object) get(key string) field {
	o.asked = append(o.asked, key)
	f := field{r: o.r, path: join(o.path, key), line: o.node.line}
	for _, p := range o.node.pairs {
		if p.key == key {
			f.node, f.line, f.here = p.value, p.line, true
		}
	}
	switch {
	case f.node == nil:
	case f.node.kind == kindBad:
		f.node = nil
	case f.node.kind == kindNull:
		f.fault("is empty; give a value or remove the key")
		f.node = nil
	}
	return f
}

// need returns a key that must be given; hint says what to write.
func (o *object) need(key, hint string) field {
	f := o.get(key)
	if !f.here && o.node.kind != kindBad {
		f.fault("is missing; %s", hint)
	}
	return f
}

func (f field) given() bool { return f.node != nil }

func (f field) fault(format string, args ...any) { f.r.fault(f.line, f.path, format, args...) }

// word reads any scalar as it is written. ok is false when there is nothing to
// use, which has been reported if it is a fault.
func (f field) word() (s string, ok bool) {
	if f.node == nil {
		return "", false
	}
	switch f.node.kind {
	case kindText, kindNumber, kindBool:
		return f.node.text, true
	}
	f.fault("must be a single value, not a %s", f.kindName())
	return "", false
}

func (f field) kindName() string {
	switch f.node.kind {
	case kindList:
		return "list"
	case kindMap:
		return "mapping"
	case kindNumber:
		return "number"
	case kindBool:
		return "true or false"
	}
	return "string"
}

// text reads a string that is not empty.
func (f field) text(dst *string) {
	s, ok := f.word()
	switch {
	case !ok:
	case f.node.kind != kindText:
		f.fault("must be a string, not a %s; put it in quotes", f.kindName())
	case strings.TrimSpace(s) != s || s == "":
		f.fault("is empty or has spaces around it; write the value alone")
	case strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c == 0x7f }):
		f.fault("holds a control character; remove it")
	default:
		*dst = s
	}
}

// bool reads true or false.
func (f field) bool(dst *bool) {
	s, ok := f.word()
	switch {
	case !ok:
	case f.node.kind != kindBool:
		f.fault("must be true or false, not %q", s)
	default:
		*dst = strings.EqualFold(s, "true")
	}
}

// int reads a decimal number from low to high.
func (f field) int(dst *int, low, high int) {
	s, ok := f.word()
	if !ok {
		return
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < low || n > high || f.node.kind != kindNumber {
		f.fault("%q is no number from %d to %d", s, low, high)
		return
	}
	*dst = n
}

// port reads a port; any and 0 are any.
func (f field) port(dst *uint16) {
	s, ok := f.word()
	if !ok || s == "any" {
		return
	}
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		f.fault("%q is no port; write 0 to 65535, 0 for any", s)
		return
	}
	*dst = uint16(n)
}

// duration reads a time with a unit, in whole seconds, from low to high. It
// reports whether dst was set.
func (f field) duration(dst *time.Duration, low, high time.Duration) bool {
	s, ok := f.word()
	if !ok {
		return false
	}
	d, err := time.ParseDuration(s)
	switch {
	case err != nil:
		f.fault("%q is no duration; write it with a unit, as 90s, 30m or 24h", s)
	case d%time.Second != 0:
		f.fault("%s is not in whole seconds; the protocol counts seconds", s)
	case d < low || d > high:
		f.fault("%s is out of range; write %s to %s", s, short(low), short(high))
	default:
		*dst = d
		return true
	}
	return false
}

// short writes 24h and not 24h0m0s.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// amount reads a number with an optional unit of bytes: kB, MB, GB, TB are
// powers of 1000; KiB, MiB, GiB, TiB of 1024.
func (f field) amount(dst *uint64, units bool) {
	s, ok := f.word()
	if !ok {
		return
	}
	digits := strings.TrimRight(s, "kKMGTiB ")
	scale, known := scaleOf(strings.TrimSpace(s[len(digits):]), units)
	n, err := strconv.ParseUint(digits, 10, 64)
	hi, product := bits.Mul64(n, scale)
	switch {
	case (err != nil || !known) && units:
		f.fault("%q is no size; write a number of bytes, or with a unit, as 500MB or 10GiB; 0 is no limit", s)
	case err != nil || !known:
		f.fault("%q is no count; write a whole number; 0 is no limit", s)
	case hi != 0 || product > math.MaxInt64:
		f.fault("%s is too large; 0 is no limit", s)
	default:
		*dst = product
	}
}

func scaleOf(unit string, units bool) (uint64, bool) {
	if unit == "" {
		return 1, true
	}
	if !units {
		return 0, false
	}
	switch unit {
	case "B":
		return 1, true
	case "kB", "KB":
		return 1e3, true
	case "MB":
		return 1e6, true
	case "GB":
		return 1e9, true
	case "TB":
		return 1e12, true
	case "KiB", "kiB":
		return 1 << 10, true
	case "MiB":
		return 1 << 20, true
	case "GiB":
		return 1 << 30, true
	case "TiB":
		return 1 << 40, true
	}
	return 0, false
}

// choose reads one of the words of all, which are what their String says.
func choose[T fmt.Stringer](f field, dst *T, all ...T) {
	s, ok := f.word()
	if !ok {
		return
	}
	words := make([]string, len(all))
	for i, v := range all {
		if words[i] = v.String(); words[i] == s {
			*dst = v
			return
		}
	}
	f.fault("%q is not one of %s", s, strings.Join(words, ", "))
}

// either reads one of two words; dst is set to whether it is the second.
func (f field) either(dst *bool, first, second string) {
	switch s, ok := f.word(); {
	case !ok:
	case s == first:
		*dst = false
	case s == second:
		*dst = true
	default:
		f.fault("%q is not one of %s, %s", s, first, second)
	}
}

// list reads a list that is not empty.
func (f field) list() []*node {
	switch {
	case f.node == nil:
		return nil
	case f.node.kind != kindList:
		f.fault("must be a list; write one - item a line")
		return nil
	case len(f.node.items) == 0:
		f.fault("is an empty list; give an item or remove the key")
	}
	return f.node.items
}
