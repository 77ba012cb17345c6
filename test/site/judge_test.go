package site_test

import (
	"encoding/binary"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"yumen/test/site"
)

// tshark returns fields of the frames of a capture that match a display filter.
func (s *stage) tshark(file, filter string, fields ...string) [][]string {
	s.Helper()
	args := []string{"-r", file, "-n", "-Y", filter, "-T", "fields", "-E", "separator=/t", "-E", "occurrence=a", "-E", "aggregator=,"}
	for _, f := range fields {
		args = append(args, "-e", f)
	}
	cmd := exec.Command("tshark", args...)
	var complaints strings.Builder
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		s.Fatalf("tshark %s: %v: %s", file, err, complaints.String())
	}
	var rows [][]string
	for _, line := range strings.Split(strings.TrimRight(string(out), "\n"), "\n") {
		if line != "" {
			rows = append(rows, strings.Split(line, "\t"))
		}
	}
	return rows
}

// wellFormed wants nothing in the capture that tshark finds malformed or worth a
// warning. It takes the encrypted identity of M3 and M4 for a clear one and may
// stumble over its random bytes, so it is shown a copy in which the type of these
// identities is KEY_ID, which may hold anything (RFC 2407 4.6.2.12).
func (s *stage) wellFormed(file string) {
	s.Helper()
	file = s.rewrite(file, func(protocol byte, p []byte) {
		if !isMessage(protocol, p, 128) {
			return
		}
		at, next := 8+28, p[8+16]
		for next != 5 {
			next, at = p[at], at+int(binary.BigEndian.Uint16(p[at+2:]))
		}
		p[at+4] = 11
	})
	for _, row := range s.tshark(file, "_ws.malformed || _ws.expert.severity >= 0x600000", "frame.number", "_ws.col.Protocol", "_ws.expert.message") {
		s.Errorf("tshark: frame %s (%s): %s", row[0], row[1], row[2])
	}
}

// message is what tshark says of one ISAKMP message.
type message struct {
	exchange, version, id uint64
	payloads              string // types in order
}

func (s *stage) messages(file string) []message {
	s.Helper()
	var out []message
	for _, row := range s.tshark(file, "isakmp", "isakmp.exchangetype", "isakmp.version", "isakmp.messageid", "isakmp.typepayload", "isakmp.nextpayload") {
		var m message
		for i, to := range []*uint64{&m.exchange, &m.version, &m.id} {
			v, err := strconv.ParseUint(row[i], 0, 64)
			if err != nil {
				s.Fatalf("tshark shows %q", row)
			}
			*to = v
		}
		m.payloads = row[3]
		out = append(out, m)
	}
	return out
}

// negotiated wants main mode in that order of payloads, then quick modes, all of
// version 1.1 and with exchange types of the protocol. Vendor IDs (13) may follow
// in the first two messages; tail is what follows the signatures.
func (s *stage) negotiated(file, tail string) {
	s.Helper()
	want := []string{"1,2,3", "1,2,3,6,6", "128,10,5,6,6,9" + tail, "128,10,5,9" + tail}
	var main []message
	quick := map[uint64]int{}
	for _, m := range s.messages(file) {
		if m.version != 0x11 {
			s.Errorf("version %#x, expected 0x11", m.version)
		}
		switch m.exchange {
		case 2:
			main = append(main, m)
		case 32:
			quick[m.id]++
		case 5:
		default:
			s.Errorf("exchange type %d", m.exchange)
		}
	}
	if len(main) != 6 {
		s.Fatalf("%d messages of main mode, expected 6: %v", len(main), main)
	}
	for i, chain := range want {
		have := main[i].payloads
		if i < 2 {
			have = strings.TrimSuffix(strings.ReplaceAll(have+",", ",13,", ","), ",")
			for strings.HasSuffix(have, ",13") {
				have = strings.TrimSuffix(have, ",13")
			}
		}
		if have != chain {
			s.Errorf("M%d has payloads %s, expected %s", i+1, main[i].payloads, chain)
		}
	}
	if len(quick) != 2 {
		s.Errorf("%d quick modes, expected 2", len(quick))
	}
	for id, n := range quick {
		if id == 0 || n != 3 {
			s.Errorf("quick mode %08x has %d messages, expected 3", id, n)
		}
	}
}

// sequences wants the ESP packets of each SPI to be numbered 1, 2, 3 and so on,
// and returns how many SPIs there are.
func (s *stage) sequences(file string) int {
	s.Helper()
	last := map[string]uint64{}
	for _, row := range s.tshark(file, "esp", "esp.spi", "esp.sequence", "esp.sequence-analysis.wrong-sequence-number") {
		n, err := strconv.ParseUint(row[1], 0, 32)
		if err != nil || n != last[row[0]]+1 || row[2] != "" {
			s.Fatalf("ESP %s: sequence number %s after %d %s", row[0], row[1], last[row[0]], row[2])
		}
		last[row[0]] = n
	}
	return len(last)
}

// decoded is the part of `yumen decode --json` that tests read.
type decoded struct {
	Messages []struct {
		Name   string
		Fields []struct{ Name, Value string }
		Checks []struct{ Name, Verdict, Detail string }
	}
	Sessions []struct {
		State    string
		Children []struct {
			Suite string
			ESN   bool
		}
	}
	Flows []struct {
		SPI                     string
		Packets, Opened, Failed int
		ICV                     int `json:"icv_bits"`
	}
	Verified, Failed, Unverified int
}

// decode runs `yumen decode` with the encryption keys of some gateways. The error
// is that of its exit status.
func (s *stage) decode(file string, keysOf []*site.Gateway, flags ...string) (d decoded, err error) {
	s.Helper()
	args := append([]string{"decode", file, "--json"}, flags...)
	for _, g := range keysOf {
		args = append(args, "--key", filepath.Join(g.Dir, "enc.key"))
	}
	out, err := exec.Command(yumen, args...).Output()
	if uerr := json.Unmarshal(out, &d); uerr != nil {
		s.Fatalf("yumen decode: %v: %s (%v)", uerr, out, err)
	}
	return d, err
}

// verified wants everything in a capture to be opened and to verify.
func (s *stage) verified(file string, flags ...string) decoded {
	s.Helper()
	d, err := s.decode(file, []*site.Gateway{s.A, s.B}, append(flags, "--esp", "-1")...)
	if err != nil || d.Failed != 0 || d.Unverified != 0 || d.Verified == 0 {
		s.Errorf("yumen decode: %v: %d verified, %d failed, %d could not be made", err, d.Verified, d.Failed, d.Unverified)
		for _, m := range d.Messages {
			for _, c := range m.Checks {
				if c.Verdict != "verified" {
					s.Logf("%s: %s %s: %s", m.Name, c.Verdict, c.Name, c.Detail)
				}
			}
		}
	}
	for _, f := range d.Flows {
		if f.Opened != f.Packets || f.Failed != 0 {
			s.Errorf("ESP %s: %d of %d packets opened, %d failed", f.SPI, f.Opened, f.Packets, f.Failed)
		}
	}
	return d
}

// ipPayload gives protocol and payload of an Ethernet frame; protocol 0: not IP.
func ipPayload(frame []byte) (protocol byte, payload []byte) {
	if len(frame) < 54 {
		return 0, nil
	}
	switch binary.BigEndian.Uint16(frame[12:]) {
	case 0x0800:
		if binary.BigEndian.Uint16(frame[20:])&0x1fff != 0 { // a later fragment
			return 0, nil
		}
		return frame[23], frame[14+int(frame[14]&15)*4:]
	case 0x86dd:
		if frame[20] == 44 && len(frame) > 62 && binary.BigEndian.Uint16(frame[56:])&^7 == 0 { // a first fragment
			return frame[54], frame[62:]
		}
		return frame[20], frame[54:]
	}
	return 0, nil
}

// rewrite copies a capture with what change does to its IP packets.
func (s *stage) rewrite(file string, change func(protocol byte, payload []byte)) string {
	s.Helper()
	b, err := os.ReadFile(file)
	s.need(err)
	if len(b) < 24 || binary.LittleEndian.Uint32(b) != 0xa1b2c3d4 {
		s.Fatalf("%s is no capture of this machine", file)
	}
	for at := 24; at+16 <= len(b); {
		n := int(binary.LittleEndian.Uint32(b[at+8:]))
		change(ipPayload(b[at+16 : at+16+n]))
		at += 16 + n
	}
	out := file + ".changed"
	s.need(os.WriteFile(out, b, 0o600))
	return out
}

// flip copies a capture with one bit changed in the first packet that pick takes:
// pick returns the byte, or nil.
func (s *stage) flip(file string, pick func(protocol byte, payload []byte) *byte) string {
	s.Helper()
	done := false
	out := s.rewrite(file, func(protocol byte, p []byte) {
		if done {
			return
		}
		if x := pick(protocol, p); x != nil {
			*x ^= 1
			done = true
		}
	})
	if !done {
		s.Fatal("no packet to flip a bit in")
	}
	return out
}

// inESP picks a byte of ciphertext.
func inESP(protocol byte, p []byte) *byte {
	if protocol != 50 || len(p) < 60 {
		return nil
	}
	return &p[40]
}

// isMessage reports whether an IP packet, or its first fragment, has an ISAKMP
// message on port 500 with that first payload.
func isMessage(protocol byte, p []byte, first byte) bool {
	return protocol == 17 && len(p) >= 8+28+4 && binary.BigEndian.Uint16(p) == 500 && p[8+16] == first
}

// inMessage picks a byte of the first payload of such a message and takes away the
// UDP checksum, which would tell before the protocol does.
func inMessage(first byte, at int) func(byte, []byte) *byte {
	return func(protocol byte, p []byte) *byte {
		if !isMessage(protocol, p, first) {
			return nil
		}
		p[6], p[7] = 0, 0
		return &p[8+28+at]
	}
}
