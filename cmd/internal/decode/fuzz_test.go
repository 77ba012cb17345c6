package decode

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

// FuzzDecode is about framing: files, links, IP, fragments. No keys, so that it
// is fast, and small seeds from the worked example, which is the same in every
// worker.
func FuzzDecode(f *testing.F) {
	frames := exampleFrames(f)
	f.Add(record(f, frames[0], frames[9]))
	f.Add(record(f, frames[3], frames[4], frames[6]))
	f.Add(record(f, fragment(frames[0], 40)...))
	six := udpFrame(netip.AddrPortFrom(gwA6, 500), netip.AddrPortFrom(gwB6, 500), frames[0][28:])
	f.Add(record(f, fragment(six, 40)...))
	marked := udpFrame(netip.AddrPortFrom(gwA, 4500), netip.AddrPortFrom(gwB, 4500), append(make([]byte, 4), frames[4][28:]...))
	f.Add(record(f, marked, udpFrame(netip.AddrPortFrom(gwA, 4500), netip.AddrPortFrom(gwB, 4500), []byte{0xff})))
	var ng bytes.Buffer
	w, err := pcapgo.NewNgWriter(&ng, layers.LinkTypeEthernet)
	if err != nil {
		f.Fatal(err)
	}
	p := wrap(1, frames[0])
	if err := w.WritePacket(gopacket.CaptureInfo{CaptureLength: len(p), Length: len(p)}, p); err != nil {
		f.Fatal(err)
	}
	if err := w.Flush(); err != nil {
		f.Fatal(err)
	}
	f.Add(ng.Bytes())
	f.Fuzz(func(t *testing.T, file []byte) {
		r, err := Decode(bytes.NewReader(file), Options{})
		if err != nil {
			return
		}
		if len(r.Messages) > r.Frames {
			t.Errorf("%d messages from %d frames", len(r.Messages), r.Frames)
		}
		if r.Verified > 0 && len(r.Sessions) == 0 {
			t.Error("something is said to verify and there is no session")
		}
		if err := r.WriteText(&strings.Builder{}); err != nil {
			t.Error(err)
		}
	})
}

// FuzzPackets feeds bytes into the middle of a live session, as IKE and as ESP:
// whatever they are, what comes after them still verifies.
func FuzzPackets(f *testing.F) {
	frames := exampleFrames(f)
	for _, b := range frames[:9] {
		f.Add(b[28:], true)
	}
	f.Add(frames[9][20:], false)
	keys := exampleKeys(f, "d_enc_i", "d_enc_r")
	f.Fuzz(func(t *testing.T, data []byte, fromA bool) {
		if len(data) > 60000 {
			return
		}
		src, dst := netip.AddrPortFrom(gwA, 500), netip.AddrPortFrom(gwB, 500)
		if !fromA {
			src, dst = dst, src
		}
		all := append(frames[:6:6], udpFrame(src, dst, data), ipFrame(src.Addr(), dst.Addr(), protoESP, data))
		r := decodeBytes(t, record(t, append(all, frames[6:]...)...), Options{Keys: keys})
		for _, m := range r.Messages {
			if m.Frame > 8 && m.failed() {
				t.Errorf("%x undoes what comes after it:\n%s", data, text(t, r))
			}
		}
	})
}
