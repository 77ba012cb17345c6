package decode

import (
	"fmt"
	"time"
)

// Notice stands above every report.
const Notice = "for laboratory keys only: this protocol has no forward secrecy, so whoever holds both encryption keys reads " +
	"recorded traffic; never bring a production key here"

// Report is what a capture holds, in the order of the capture.
type Report struct {
	Notice   string     `json:"notice"`
	Frames   int        `json:"frames"`
	Ignored  int        `json:"ignored"` // frames that carry none of our protocols
	Messages []*Message `json:"messages"`
	Sessions []*Session `json:"sessions"`
	Flows    []*Flow    `json:"flows"`
	Problems []string   `json:"problems,omitempty"` // of the file itself, and bounds that were hit
	Verified int        `json:"verified"`
	// Failed counts checks that came out wrong; it is not 0 when anything in
	// the capture does not verify.
	Failed int `json:"failed"`
	// Unverified counts checks that could not be made: a key or a message is
	// missing.
	Unverified int `json:"unverified"`
}

// Message is one datagram of the protocol: an ISAKMP message, an ESP packet or
// a keepalive.
type Message struct {
	Frame   int       `json:"frame"`
	Time    time.Time `json:"time"`
	From    string    `json:"from"`
	To      string    `json:"to"`
	Name    string    `json:"name"` // M1 to M6, QM1 to QM3, INFO, ESP, ...
	Session int       `json:"session,omitempty"`
	Bytes   int       `json:"bytes"`
	Fields  []Field   `json:"fields,omitempty"`
	Checks  []Check   `json:"checks,omitempty"`
	Notes   []string  `json:"notes,omitempty"`
}

// Field is one field of a message. Depth says how deep it is nested.
type Field struct {
	Name  string `json:"name"`
	Value string `json:"value,omitempty"`
	Depth int    `json:"depth,omitempty"`
}

// Verdict is the outcome of a check.
type Verdict string

const (
	Verified   Verdict = "verified"
	Failed     Verdict = "failed"
	Unverified Verdict = "unverified" // could not be made
)

// Check is one thing that the protocol says must hold.
type Check struct {
	Name    string  `json:"name"`
	Verdict Verdict `json:"verdict"`
	Detail  string  `json:"detail"`
}

// Session is one main mode and what was done under it.
type Session struct {
	Number    int      `json:"number"`
	CookieI   string   `json:"initiator_cookie"`
	CookieR   string   `json:"responder_cookie"`
	Initiator string   `json:"initiator,omitempty"`
	Responder string   `json:"responder,omitempty"`
	IDi       string   `json:"initiator_id,omitempty"`
	IDr       string   `json:"responder_id,omitempty"`
	State     string   `json:"state"`
	NonGM     string   `json:"non_gm,omitempty"`     // profile, where the session is not GB/T 36968
	Deviates  []string `json:"deviations,omitempty"` // from the standard form
	Children  []*Child `json:"children,omitempty"`
}

// Child is one pair of IPsec SAs that a quick mode made.
type Child struct {
	MessageID string `json:"message_id"`
	Suite     string `json:"suite"`
	ESN       bool   `json:"esn"`
	Initiator string `json:"initiator_selector"`
	Responder string `json:"responder_selector"`
	SPIi      string `json:"spi_to_initiator"`
	SPIr      string `json:"spi_to_responder"`
}

// Flow counts the ESP packets of one SA.
type Flow struct {
	SPI      string `json:"spi"`
	From     string `json:"from"`
	To       string `json:"to"`
	Packets  int    `json:"packets"`
	Bytes    int    `json:"bytes"`
	First    uint64 `json:"first_sequence"`
	Last     uint64 `json:"last_sequence"` // highest
	Repeated int    `json:"repeated"`
	Opened   int    `json:"opened"`
	Failed   int    `json:"failed"`
	ICVBits  int    `json:"icv_bits,omitempty"`

	seen   map[uint64]bool
	good   int // packets that did not fail
	listed int
}

func (m *Message) add(depth int, name, format string, args ...any) {
	m.Fields = append(m.Fields, Field{Name: name, Value: fmt.Sprintf(format, args...), Depth: depth})
}

func (m *Message) note(format string, args ...any) {
	m.Notes = append(m.Notes, fmt.Sprintf(format, args...))
}

func (m *Message) ok(name, format string, args ...any) {
	m.Checks = append(m.Checks, Check{name, Verified, fmt.Sprintf(format, args...)})
}

func (m *Message) fail(name, format string, args ...any) {
	m.Checks = append(m.Checks, Check{name, Failed, fmt.Sprintf(format, args...)})
}

func (m *Message) unknown(name, format string, args ...any) {
	m.Checks = append(m.Checks, Check{name, Unverified, fmt.Sprintf(format, args...)})
}

func (m *Message) failed() bool {
	for _, c := range m.Checks {
		if c.Verdict == Failed {
			return true
		}
	}
	return false
}

func (d *decoder) problemf(format string, args ...any) {
	d.problem(fmt.Sprintf(format, args...))
}
