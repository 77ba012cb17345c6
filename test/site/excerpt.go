package site

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

// Excerpt writes a capture of Ethernet anew with the first packets of each SPI only, so
// that the whole negotiation, to its end, is in a file that a person can read.
func Excerpt(from, to string, packets int) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	r, err := pcapgo.NewReader(in)
	if err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer out.Close()
	w := pcapgo.NewWriter(out)
	if err := w.WriteFileHeader(r.Snaplen(), r.LinkType()); err != nil {
		return err
	}
	seen := map[uint32]int{}
	for {
		data, info, err := r.ReadPacketData()
		if errors.Is(err, io.EOF) {
			return out.Close()
		}
		if err != nil {
			return fmt.Errorf("%s: %w", from, err)
		}
		if spi, ok := spiOf(gopacket.NewPacket(data, r.LinkType(), gopacket.NoCopy)); ok {
			if seen[spi]++; seen[spi] > packets {
				continue
			}
		}
		if err := w.WritePacket(info, data); err != nil {
			return err
		}
	}
}

// spiOf is the SPI of an ESP packet, in UDP or not.
func spiOf(p gopacket.Packet) (uint32, bool) {
	if e, ok := p.Layer(layers.LayerTypeIPSecESP).(*layers.IPSecESP); ok {
		return e.SPI, true
	}
	u, ok := p.Layer(layers.LayerTypeUDP).(*layers.UDP)
	if !ok || u.SrcPort != 4500 && u.DstPort != 4500 || len(u.Payload) < 8 {
		return 0, false
	}
	spi := binary.BigEndian.Uint32(u.Payload)
	return spi, spi != 0 // 0 marks IKE (RFC 3948 2.2)
}
