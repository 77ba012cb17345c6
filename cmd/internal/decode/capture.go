package decode

import (
	"fmt"
	"io"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

// Capture writes a pcap file, so that what one program saw another can judge.
//
// Reading is not left to the same module: it allocates what a length field of
// the file asks for, and captures come from strangers.
type Capture struct{ w *pcapgo.Writer }

// NewCapture begins a pcap file on w. The link type is a LINKTYPE_ number: 1 is
// Ethernet, 101 raw IP, 113 and 276 Linux cooked.
func NewCapture(w io.Writer, link uint8) (*Capture, error) {
	c := &Capture{w: pcapgo.NewWriter(w)}
	if err := c.w.WriteFileHeader(maxFrame, layers.LinkType(link)); err != nil {
		return nil, fmt.Errorf("write pcap header: %w", err)
	}
	return c, nil
}

// Write appends one frame, seen at the time given.
func (c *Capture) Write(at time.Time, data []byte) error {
	ci := gopacket.CaptureInfo{Timestamp: at, CaptureLength: len(data), Length: len(data)}
	if err := c.w.WritePacket(ci, data); err != nil {
		return fmt.Errorf("write pcap record: %w", err)
	}
	return nil
}
