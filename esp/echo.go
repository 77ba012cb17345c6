package esp

import (
	"encoding/binary"
	"fmt"
	"time"
)

// An echo asks the far end of a child whether packets get there and back. It is the
// payload of a packet with next header 59 (RFC 4303 2.6), which every receiver drops
// in silence once it is authentic: so a gateway that knows no echoes takes no harm,
// and only who has the keys can ask or answer. Fields, in network byte order:
//
//	 0  "Yech", version 1, flags, two bytes of zero
//	 8  number of the request
//	16  time of the request by the clock of who asked, nanoseconds
//	24  time of the answer by the clock of who answered; of a request 0
//	32  requests that the sender of this packet has received by this child
//	40  zero
//
// Requests and answers have one size, so that an answer is never more than what
// caused it.
const (
	// EchoLen is the length of an echo in bytes.
	EchoLen = 48

	echoVersion = 1
	echoAnswer  = 1 << 0 // flag: otherwise it is a request
	echoGroup   = 1 << 1 // flag: travels by the choice of the group
)

var echoMagic = [4]byte{'Y', 'e', 'c', 'h'} // no version of IP begins so

// Echo is a request for a sign of life over a tunnel, or the answer.
type Echo struct {
	Answer   bool
	Group    bool   // each end sent it by the member that carries its traffic
	Seq      uint64 // number of the request
	Stamp    int64  // when it was asked, by the clock of who asked; never read here
	Far      int64  // when it was answered, Unix nanoseconds by the clock of the far end; 0: it does not say
	Received uint64 // requests that the far end has received by this child; 0: it does not say

	// What the data plane that received it adds.
	Tunnel string    // by which it came; of an echo to an ICMP target the one that it was sent by
	At     time.Time // when it came
}

// AppendEcho writes e behind b: EchoLen bytes.
func AppendEcho(b []byte, e Echo) []byte {
	var flags byte
	if e.Answer {
		flags |= echoAnswer
	}
	if e.Group {
		flags |= echoGroup
	}
	b = append(b, echoMagic[0], echoMagic[1], echoMagic[2], echoMagic[3], echoVersion, flags, 0, 0)
	b = binary.BigEndian.AppendUint64(b, e.Seq)
	b = binary.BigEndian.AppendUint64(b, uint64(e.Stamp))
	b = binary.BigEndian.AppendUint64(b, uint64(e.Far))
	b = binary.BigEndian.AppendUint64(b, e.Received)
	return append(b, 0, 0, 0, 0, 0, 0, 0, 0)
}

// ParseEcho reads an echo. The error is ErrMalformed: another length, beginning or
// version, or a bit set that must be zero.
func ParseEcho(b []byte) (Echo, error) {
	if len(b) != EchoLen || [4]byte(b) != echoMagic || b[4] != echoVersion || b[5]&^(echoAnswer|echoGroup) != 0 ||
		b[6] != 0 || b[7] != 0 || binary.BigEndian.Uint64(b[40:]) != 0 {
		return Echo{}, ErrMalformed
	}
	e := Echo{
		Answer: b[5]&echoAnswer != 0, Group: b[5]&echoGroup != 0,
		Seq: binary.BigEndian.Uint64(b[8:]), Stamp: int64(binary.BigEndian.Uint64(b[16:])),
		Far: int64(binary.BigEndian.Uint64(b[24:])), Received: binary.BigEndian.Uint64(b[32:]),
	}
	if !e.Answer && e.Far != 0 {
		return Echo{}, ErrMalformed
	}
	return e, nil
}

// String is an echo for people.
func (e Echo) String() string {
	what := "request"
	if e.Answer {
		what = "answer"
	}
	return fmt.Sprintf("echo %s %d by %s", what, e.Seq, e.Tunnel)
}

// SealDummy appends the ESP packet of next header 59 that carries payload to dst, as
// Seal does. It spends a sequence number, but counts as no traffic: neither Count nor
// the limits of bytes and packets see it. An SA whose hard limit was reached refuses.
func (o *Outbound) SealDummy(dst, payload []byte) ([]byte, error) {
	if err := o.able(); err != nil {
		return dst, err
	}
	if o.meter.hard.raised() {
		return dst, ErrLimit
	}
	out, packet, seq := o.frame(dst, payload, nextDummy)
	o.keys.seal(packet, seq)
	return out, nil
}
