package foreign

import (
	"bytes"
	"encoding/binary"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

const (
	// MaxDump is the largest dump that Import reads, in bytes.
	MaxDump = 8 << 20
	// maxLine is what is read of one line, in characters. The longest commands have
	// some hundred.
	maxLine = 1024
)

// line is one line of a dump.
type line struct {
	number int // in the file, 1 is the first
	indent int // spaces before it
	typed  bool
	text   string // without prompt
	words  []string
	used   bool
	reason string // why it was not mapped; empty: nobody knew it
	clash  bool   // the far end must change it
}

// take marks l as mapped and returns it.
func (l *line) take() *line {
	l.used = true
	return l
}

// leave notes why l has no place in a policy.
func (l *line) leave(reason string) {
	if l.reason == "" {
		l.reason = reason
	}
}

// conflict notes what the far end must change.
func (l *line) conflict(reason string) {
	l.reason, l.clash, l.used = reason, true, false
}

// lines splits a dump as terminals leave it: any line end, UTF-8, UTF-16 or GBK,
// pagers, prompts.
func lines(dump []byte) []*line {
	dump = unwide(bytes.TrimPrefix(dump, []byte("\xef\xbb\xbf")))
	if !bytes.ContainsRune(dump, '\n') {
		dump = bytes.ReplaceAll(dump, []byte("\r"), []byte("\n"))
	}
	var out []*line
	for i, raw := range bytes.Split(dump, []byte("\n")) {
		raw = raw[:min(len(raw), 8*maxLine)]
		text := string(raw)
		if !utf8.Valid(raw) {
			text = fromGBK(raw)
		}
		l := &line{number: i + 1}
		l.read(unpaged(screen(text)))
		out = append(out, l)
	}
	return out
}

// unwide turns UTF-16 with a byte order mark into UTF-8.
func unwide(b []byte) []byte {
	var order binary.ByteOrder
	switch {
	case bytes.HasPrefix(b, []byte{0xff, 0xfe}):
		order = binary.LittleEndian
	case bytes.HasPrefix(b, []byte{0xfe, 0xff}):
		order = binary.BigEndian
	default:
		return b
	}
	var units []uint16
	for b = b[2:]; len(b) >= 2; b = b[2:] {
		units = append(units, order.Uint16(b))
	}
	return []byte(string(utf16.Decode(units)))
}

// screen is what a terminal shows of a line: pagers take themselves back with
// carriage returns, backspaces and cursor movements.
func screen(s string) string {
	s = strings.TrimRight(s, "\r")
	if !strings.ContainsAny(s, "\r\b\x1b\t") {
		return s
	}
	var row []rune
	at := 0
	put := func(r rune) {
		for len(row) <= at {
			row = append(row, ' ')
		}
		row[at] = r
		at++
	}
	for len(s) > 0 && at < maxLine {
		if n, final, arg := escape(s); n > 0 {
			switch final {
			case 'D':
				at = max(0, at-max(1, arg))
			case 'C':
				at = min(maxLine, at+max(1, arg))
			case 'K':
				row = row[:min(at, len(row))]
			case 'G':
				at = min(maxLine, max(1, arg)) - 1
			}
			s = s[n:]
			continue
		}
		r, n := utf8.DecodeRuneInString(s)
		switch s = s[n:]; r {
		case '\r':
			at = 0
		case '\b':
			at = max(0, at-1)
		case '\t':
			put(' ')
		default:
			put(r)
		}
	}
	return strings.TrimRight(string(row), " ")
}

// escape measures the control sequence at the start of s (ECMA-48 5.4): its length,
// final byte and first number. The length is 0 where there is none.
func escape(s string) (n int, final byte, arg int) {
	if s[0] != 0x1b {
		return 0, 0, 0
	}
	if len(s) < 2 || s[1] != '[' {
		return 1, 0, 0
	}
	for n = 2; n < len(s); n++ {
		switch c := s[n]; {
		case c >= '0' && c <= '9':
			arg = min(arg*10+int(c-'0'), maxLine)
		case c >= 0x40 && c <= 0x7e:
			return n + 1, c, arg
		}
	}
	return n, 0, arg
}

var (
	pager  = regexp.MustCompile(`^\s*-{2,}\s*[Mm]ore\s*(\([^)]*\))?\s*-{2,}`)
	erased = regexp.MustCompile(`^(\s*\[\d{1,3}D)+`) // its cursor movements, without the escape that a log lost
	prompt = regexp.MustCompile(`^\s*(?:HRP_[MS]|RBM_[PS])?[<\[][*~]?[^<>\[\]\s]{1,80}[>\]]\s*`)
)

// unpaged removes a pager's own text where the log kept it in the line.
func unpaged(s string) string {
	if at := pager.FindStringIndex(s); at != nil {
		rest := strings.TrimLeft(erased.ReplaceAllString(s[at[1]:], ""), " ")
		if rest != "" {
			rest = " " + rest // which column it had is lost; it belongs to what is open
		}
		return rest
	}
	return s
}

func (l *line) read(s string) {
	s = strings.Map(func(r rune) rune {
		if r == '\u00a0' || r == '\u3000' {
			return ' '
		}
		if !unicode.IsPrint(r) && r != ' ' {
			return -1
		}
		return r
	}, s)
	if at := prompt.FindStringIndex(s); at != nil {
		l.typed, s = true, s[at[1]:]
	}
	l.text = strings.TrimLeft(s, " ")
	l.indent = len(s) - len(l.text)
	l.text = strings.TrimRight(l.text, " ")
	if r := []rune(l.text); len(r) > maxLine {
		l.text = string(r[:maxLine])
	}
	l.words = split(l.text)
}

// split cuts a line into words; quotes hold words together, as both makers do.
func split(s string) (words []string) {
	for s = strings.TrimLeft(s, " "); s != ""; s = strings.TrimLeft(s, " ") {
		if s[0] == '"' {
			if end := strings.IndexByte(s[1:], '"'); end >= 0 {
				words, s = append(words, s[1:1+end]), s[end+2:]
				continue
			}
		}
		end := strings.IndexByte(s, ' ')
		if end < 0 {
			end = len(s)
		}
		words, s = append(words, s[:end]), s[end:]
	}
	return words
}

// has reports whether l begins with the given words, whatever their case.
func (l *line) has(begin ...string) bool {
	if len(l.words) < len(begin) {
		return false
	}
	for i, w := range begin {
		if !strings.EqualFold(l.words[i], w) {
			return false
		}
	}
	return true
}

// at is word i, or empty.
func (l *line) at(i int) string {
	if i < len(l.words) {
		return l.words[i]
	}
	return ""
}

// after is the word that follows the first word equal to key, or empty.
func (l *line) after(key string) string {
	for i, w := range l.words {
		if strings.EqualFold(w, key) {
			return l.at(i + 1)
		}
	}
	return ""
}

// secret are the words behind which commands carry secrets.
var secret = regexp.MustCompile(`(?i)\b(pre-shared-key|password|cipher|simple|ciphertext|plaintext|string-key|hex-key|authentication-hex|encryption-hex|challenge-password|shared-key|secret|community)\b.*$`)

// shown is the text of l without secrets.
func (l *line) shown() string {
	s := secret.ReplaceAllString(l.text, "$1 ******")
	if r := []rune(s); len(r) > 120 {
		s = string(r[:117]) + "..."
	}
	return s
}
