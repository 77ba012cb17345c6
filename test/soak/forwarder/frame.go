package forwarder

import (
	"encoding/binary"
	"fmt"
)

// Kind is what a frame carries.
type Kind uint8

const (
	Other     Kind = iota // ARP, neighbour discovery, pieces of a fragmented packet, anything else
	ESP                   // protocol 50, or in UDP on port 4500
	IKE                   // UDP 500 or 4500
	Keepalive             // RFC 3948 2.3
)

// Identity says which packet a frame is. The zero value is a frame that is
// always passed on.
type Identity struct {
	Kind Kind
	SPI  uint32 // ESP
	Seq  uint32 // ESP: the low 32 bits
	// IKE: from the header (RFC 2408 3.1).
	Cookies   [16]byte
	Exchange  uint8
	MessageID uint32
}

// Exchange types of RFC 2408 3.1 and RFC 2409.
const (
	MainMode      = 2
	Informational = 5
	QuickMode     = 32
)

// String is what stands in the log.
func (id Identity) String() string {
	switch id.Kind {
	case ESP:
		return fmt.Sprintf("esp %08x %d", id.SPI, id.Seq)
	case IKE:
		return fmt.Sprintf("ike %x %x exchange %d message %08x", id.Cookies[:8], id.Cookies[8:], id.Exchange, id.MessageID)
	case Keepalive:
		return "keepalive"
	}
	return "other"
}

const (
	etherIPv4 = 0x0800
	etherIPv6 = 0x86dd
	protoUDP  = 17
	protoESP  = 50
	portIKE   = 500
	portNAT   = 4500
)

// Identify reads an Ethernet frame. What is cut short is Other.
func Identify(frame []byte) Identity {
	if len(frame) < 14 {
		return Identity{}
	}
	b := frame[14:]
	switch binary.BigEndian.Uint16(frame[12:]) {
	case etherIPv4:
		if len(b) < 20 || len(b) < int(b[0]&15)*4 || binary.BigEndian.Uint16(b[6:])&0x3fff != 0 {
			return Identity{} // pieces are not told apart
		}
		return transport(b[9], b[int(b[0]&15)*4:])
	case etherIPv6:
		if len(b) < 40 {
			return Identity{}
		}
		return transport(b[6], b[40:])
	}
	return Identity{}
}

func transport(proto byte, b []byte) Identity {
	switch {
	case proto == protoESP:
		return esp(b)
	case proto != protoUDP || len(b) < 8:
		return Identity{}
	}
	from, to, data := binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:]), b[8:]
	switch {
	case from == portNAT || to == portNAT:
		switch {
		case len(data) == 1 && data[0] == 0xff:
			return Identity{Kind: Keepalive}
		case len(data) >= 4 && binary.BigEndian.Uint32(data) == 0:
			return ike(data[4:])
		}
		return esp(data)
	case from == portIKE || to == portIKE:
		return ike(data)
	}
	return Identity{}
}

func esp(b []byte) Identity {
	if len(b) < 8 {
		return Identity{}
	}
	return Identity{Kind: ESP, SPI: binary.BigEndian.Uint32(b), Seq: binary.BigEndian.Uint32(b[4:])}
}

func ike(b []byte) Identity {
	if len(b) < 28 {
		return Identity{}
	}
	return Identity{Kind: IKE, Cookies: [16]byte(b[:16]), Exchange: b[18], MessageID: binary.BigEndian.Uint32(b[20:])}
}
