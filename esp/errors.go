package esp

import "errors"

// Sentinel errors: each is one reason for which a packet goes no further. A
// packet that is refused before it is authenticated changes nothing but a
// counter.
var (
	// ErrMalformed: a length, alignment, padding, version or header that no
	// correct sender makes.
	ErrMalformed = errors.New("malformed packet")
	// ErrReplayed: the sequence number was seen before or is left of the window.
	ErrReplayed = errors.New("sequence number replayed or too old")
	// ErrAuth: the integrity check value does not match.
	ErrAuth = errors.New("integrity check value does not match")
	// ErrSelector: authentic, but the inner packet is not what the SA was
	// negotiated for (RFC 4301 5.2 step 4).
	ErrSelector = errors.New("inner packet is outside the selector of its SA")
	// ErrDummy: an authentic packet of next header 59, sent to hide the absence
	// of traffic (RFC 4303 2.6). To be dropped in silence.
	ErrDummy = errors.New("dummy packet")
	// ErrEcho comes with the payload of such a packet, which is an Echo: no traffic,
	// but a sign of life.
	ErrEcho = errors.New("echo in a dummy packet")
	// ErrFragment comes with the inner packet: it is authentic, but whether the
	// selector holds can only be said of the whole packet. See Inbound.Open.
	ErrFragment = errors.New("fragment must be reassembled before its selector is checked")
	// ErrLimit: a hard limit of bytes or packets was reached; it stays so.
	ErrLimit = errors.New("hard limit of the SA reached")
	// ErrExhausted: no sequence number is left (RFC 4303 3.3.3).
	ErrExhausted = errors.New("sequence numbers of the SA exhausted")
	// ErrClosed: the SA was closed and its keys are gone.
	ErrClosed = errors.New("SA is closed")
	// ErrCongestion: congestion was marked on a packet whose transport does not
	// understand the mark, so that dropping is the only signal (RFC 6040 4.2).
	ErrCongestion = errors.New("congestion mark on a packet that cannot carry it")
	// ErrOverlap: fragments overlap or contradict each other; the whole packet
	// is dropped (RFC 5722).
	ErrOverlap = errors.New("fragments overlap")
	// ErrReassembly: a fragment met a limit of the reassembler.
	ErrReassembly = errors.New("limit of reassembly reached")
)

// ErrNoChild is what every data plane says of a child that is not installed, and of a
// tunnel that has none to send by.
var ErrNoChild = errors.New("no such child")
