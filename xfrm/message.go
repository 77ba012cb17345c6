package xfrm

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"yumen/esp"
)

// message is one netlink request. Its buffer never grows, so that no copy of a key
// is left behind, and conn wipes it.
type message struct {
	kind, flags uint16
	b           []byte
}

const messageRoom = 4096 // the largest SA takes less than 1200

func newMessage(kind, flags uint16, head []byte) *message {
	m := &message{kind: kind, flags: flags, b: make([]byte, unix.NLMSG_HDRLEN, messageRoom)}
	m.b = append(m.b, head...)
	m.align()
	return m
}

func (m *message) align() {
	for len(m.b)%4 != 0 {
		m.b = append(m.b, 0)
	}
}

// attr appends one attribute.
func (m *message) attr(kind uint16, parts ...[]byte) {
	n := 4
	for _, p := range parts {
		n += len(p)
	}
	m.b = binary.NativeEndian.AppendUint16(m.b, uint16(n))
	m.b = binary.NativeEndian.AppendUint16(m.b, kind)
	for _, p := range parts {
		m.b = append(m.b, p...)
	}
	m.align()
}

func word(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }

// swap turns host order into network order and back.
func swap[T uint16 | uint32](v T) T {
	switch unsafe.Sizeof(v) {
	case 2:
		return T(nl.Swap16(uint16(v)))
	default:
		return T(nl.Swap32(uint32(v)))
	}
}

func address(a netip.Addr) (x nl.XfrmAddress) {
	copy(x[:], a.Unmap().AsSlice())
	return x
}

// addressOf reads an address whose family is known. The library guesses it from
// the zeros, and takes fd01:: for an IPv4 address.
func addressOf(x nl.XfrmAddress, family uint16) netip.Addr {
	if family == unix.AF_INET {
		return netip.AddrFrom4([4]byte(x[:4]))
	}
	return netip.AddrFrom16(x)
}

func familyOf(a netip.Addr) uint16 {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

func mask(port uint16) uint16 {
	if port == 0 {
		return 0
	}
	return 0xffff
}

// stateMessage asks for an SA: NEWSA. Every value that the kernel has a default
// for is written out.
func stateMessage(s state, now uint64) *message {
	info := nl.XfrmUsersaInfo{
		Id:    nl.XfrmId{Daddr: address(s.dst), Spi: swap(uint32(s.spi)), Proto: unix.IPPROTO_ESP},
		Saddr: address(s.src), Lft: limitsOf(s.limits), Reqid: s.reqid, Family: familyOf(s.dst),
		Mode: modeTunnel, Flags: nl.XFRM_STATE_AF_UNSPEC,
	}
	if s.esn {
		info.Flags |= nl.XFRM_STATE_ESN
	}
	if !s.pathMTU {
		info.Flags |= nl.XFRM_STATE_NOPMTUDISC
	}
	m := newMessage(nl.XFRM_MSG_NEWSA, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK, info.Serialize())
	m.algorithms(s)
	// The attribute for windows of any size; the field of the header holds 8 bits
	// and would turn 1024 into 0.
	ring := toRing(s.seq, s.window, s.replay)
	esn := nl.XfrmReplayStateEsn{BmpLen: uint32(len(ring)), ReplayWindow: uint32(s.window)}
	if s.outbound {
		esn.OSeq, esn.OSeqHi = uint32(s.seq), uint32(s.seq>>32)
	} else {
		esn.Seq, esn.SeqHi = uint32(s.seq), uint32(s.seq>>32)
	}
	head := (*[nl.SizeofXfrmReplayStateEsn]byte)(unsafe.Pointer(&esn))[:]
	m.attr(nl.XFRMA_REPLAY_ESN_VAL, head, words(ring))
	if s.sport != 0 {
		e := nl.XfrmEncapTmpl{EncapType: encapESPinUDP, EncapSport: swap(s.sport), EncapDport: swap(s.dport)}
		m.attr(nl.XFRMA_ENCAP, e.Serialize())
	}
	if s.count != (esp.Count{}) {
		cur := nl.XfrmLifetimeCur{Bytes: s.count.Bytes, Packets: s.count.Packets, AddTime: now}
		m.attr(nl.XFRMA_LTIME_VAL, cur.Serialize())
	}
	// Without these an SA would take the system's defaults as soon as anyone
	// listens: an event for every second packet.
	threshold := uint32(0)
	if s.watched {
		threshold = 1
	}
	m.attr(nl.XFRMA_REPLAY_THRESH, word(threshold))
	m.attr(nl.XFRMA_ETIMER_THRESH, word(0))
	if !s.copyDSCP {
		m.attr(nl.XFRMA_SA_EXTRA_FLAGS, word(nl.XFRM_SA_XFLAG_DONT_ENCAP_DSCP))
	}
	if s.outputMark != 0 {
		m.attr(nl.XFRMA_OUTPUT_MARK, word(s.outputMark))
	}
	if s.ifID != 0 {
		m.attr(nl.XFRMA_IF_ID, word(s.ifID))
	}
	return m
}

const (
	modeTunnel    = 1
	encapESPinUDP = 2
	cipherKeyLen  = 16 // then the integrity key (RFC 2409 5.5)
)

// algorithms appends SM4-CBC and HMAC-SM3, always with its truncation: the kernel's
// own would be 256 bits.
func (m *message) algorithms(s state) {
	key := s.keymat.Bytes()
	var name [64]byte
	copy(name[:], "cbc(sm4)")
	m.attr(nl.XFRMA_ALG_CRYPT, name[:], word(cipherKeyLen*8), key[:cipherKeyLen])
	name = [64]byte{}
	copy(name[:], "hmac(sm3)")
	m.attr(nl.XFRMA_ALG_AUTH_TRUNC, name[:], word(uint32(len(key)-cipherKeyLen)*8), word(uint32(s.icvBits)), key[cipherKeyLen:])
}

func words(list []uint32) []byte {
	var b []byte
	for _, w := range list {
		b = binary.NativeEndian.AppendUint32(b, w)
	}
	return b
}

func limitsOf(l lifetime) nl.XfrmLifetimeCfg {
	orNone := func(v uint64) uint64 {
		if v == 0 {
			return nl.XFRM_INF
		}
		return v
	}
	return nl.XfrmLifetimeCfg{
		SoftByteLimit: orNone(l.softBytes), HardByteLimit: orNone(l.hardBytes),
		SoftPacketLimit: orNone(l.softPackets), HardPacketLimit: orNone(l.hardPackets),
		HardAddExpiresSeconds: l.hardSeconds,
	}
}

// stateID names an SA for GETSA, DELSA and NEWAE.
func stateID(dst netip.Addr, spi esp.SPI) nl.XfrmUsersaId {
	return nl.XfrmUsersaId{Daddr: address(dst), Spi: swap(uint32(spi)), Family: familyOf(dst), Proto: unix.IPPROTO_ESP}
}

// policyMessage asks for a policy, in the place of one with the same selector.
func policyMessage(e entry, t *template) *message {
	info := nl.XfrmUserpolicyInfo{
		Sel: nl.XfrmSelector{
			Daddr: address(e.dst.Addr()), Saddr: address(e.src.Addr()), PrefixlenD: uint8(e.dst.Bits()),
			PrefixlenS: uint8(e.src.Bits()), Dport: swap(e.dstPort), DportMask: mask(e.dstPort),
			Sport: swap(e.srcPort), SportMask: mask(e.srcPort), Family: familyOf(e.dst.Addr()),
			Proto: e.protocol, Ifindex: int32(e.device),
		},
		Lft: limitsOf(lifetime{}), Priority: e.priority, Dir: uint8(e.dir),
	}
	if e.kind.blocks() {
		info.Action = 1
	}
	m := newMessage(nl.XFRM_MSG_UPDPOLICY, unix.NLM_F_ACK, info.Serialize())
	if t != nil {
		u := nl.XfrmUserTmpl{
			XfrmId: nl.XfrmId{Spi: swap(uint32(t.spi)), Proto: unix.IPPROTO_ESP}, Family: unix.AF_INET,
			Reqid: t.reqid, Mode: modeTunnel, Aalgos: ^uint32(0), Ealgos: ^uint32(0), Calgos: ^uint32(0),
		}
		if t.optional {
			u.Optional = 1
		}
		if t.dst.IsValid() {
			u.XfrmId.Daddr, u.Saddr, u.Family = address(t.dst), address(t.src), familyOf(t.dst)
		}
		m.attr(nl.XFRMA_TMPL, u.Serialize())
	}
	m.selected(e.ifID, e.mark)
	return m
}

// selected appends what of a policy's selector is not in its head.
func (m *message) selected(ifID, mark uint32) {
	if ifID != 0 {
		m.attr(nl.XFRMA_IF_ID, word(ifID))
	}
	if mark != 0 {
		m.attr(nl.XFRMA_MARK, word(mark), word(^uint32(0)))
	}
}

// body is what follows the head of a request: a policy for a socket takes it alone.
func (m *message) body() []byte { return m.b[unix.NLMSG_HDRLEN:] }
