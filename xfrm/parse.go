package xfrm

import (
	"encoding/binary"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"yumen/esp"
	"yumen/policy/secret"
)

// parseState reads one SA. With keys it holds a copy of them, which the caller
// wipes. Not ok: too short.
func parseState(b []byte, keys bool) (r reading, ok bool) {
	if len(b) < nl.SizeofXfrmUsersaInfo {
		return r, false
	}
	info := *nl.DeserializeXfrmUsersaInfo(b)
	s := &r.state
	s.dst, s.src = addressOf(info.Id.Daddr, info.Family), addressOf(info.Saddr, info.Family)
	s.spi, s.reqid = esp.SPI(swap(info.Id.Spi)), info.Reqid
	s.esn = info.Flags&nl.XFRM_STATE_ESN != 0
	s.pathMTU = info.Flags&nl.XFRM_STATE_NOPMTUDISC == 0
	s.copyDSCP, s.window = true, int(info.ReplayWindow)
	s.limits = lifetimeFrom(info.Lft)
	r.counts = esp.Count{Bytes: info.Curlft.Bytes, Packets: info.Curlft.Packets}
	s.count, r.added = r.counts, info.Curlft.AddTime
	r.replays, r.badAuth = uint64(info.Stats.Replay)+uint64(info.Stats.ReplayWindow), uint64(info.Stats.IntegrityFailed)
	r.larval = true
	var key [2][]byte
	for kind, v := range attrs(b[nl.SizeofXfrmUsersaInfo:]) {
		switch kind {
		case nl.XFRMA_ALG_CRYPT:
			r.larval = false
			if len(v) == 68+cipherKeyLen && algorithm(v) == "cbc(sm4)" {
				key[0] = v[68:]
			}
		case nl.XFRMA_ALG_AUTH_TRUNC:
			if len(v) > 72 && algorithm(v) == "hmac(sm3)" {
				s.icvBits, key[1] = int(binary.NativeEndian.Uint32(v[68:])), v[72:]
			}
		case nl.XFRMA_ALG_AEAD:
			r.larval = false
		case nl.XFRMA_REPLAY_ESN_VAL:
			s.replayFrom(v)
		default:
			r.attribute(kind, v)
		}
	}
	if keys && key[0] != nil && key[1] != nil {
		s.keymat = secret.Take(append(append(make([]byte, 0, len(key[0])+len(key[1])), key[0]...), key[1]...))
	}
	return r, true
}

// attribute reads the small ones.
func (r *reading) attribute(kind uint16, v []byte) {
	s := &r.state
	switch {
	case kind == nl.XFRMA_ENCAP && len(v) >= nl.SizeofXfrmEncapTmpl:
		e := nl.DeserializeXfrmEncapTmpl(v)
		s.sport, s.dport = swap(e.EncapSport), swap(e.EncapDport)
	case kind == nl.XFRMA_SA_EXTRA_FLAGS && len(v) >= 4:
		s.copyDSCP = binary.NativeEndian.Uint32(v)&nl.XFRM_SA_XFLAG_DONT_ENCAP_DSCP == 0
	case kind == nl.XFRMA_OUTPUT_MARK && len(v) >= 4:
		s.outputMark = binary.NativeEndian.Uint32(v)
	case kind == nl.XFRMA_IF_ID && len(v) >= 4:
		s.ifID = binary.NativeEndian.Uint32(v)
	case kind == nl.XFRMA_LASTUSED && len(v) >= 8:
		r.used = binary.NativeEndian.Uint64(v)
	}
}

// replayFrom reads both directions: an SA uses only one.
func (s *state) replayFrom(v []byte) {
	if len(v) < nl.SizeofXfrmReplayStateEsn {
		return
	}
	w := func(i int) uint32 { return binary.NativeEndian.Uint32(v[4*i:]) }
	out := uint64(w(3))<<32 | uint64(w(1))
	in := uint64(w(4))<<32 | uint64(w(2))
	s.window = int(min(w(5), esp.MaxWindow))
	var ring []uint32
	for i := 6; 4*i+4 <= len(v); i++ {
		ring = append(ring, w(i))
	}
	s.seq, s.outbound = in, false
	if out != 0 {
		s.seq, s.outbound = out, true
		return
	}
	s.replay = fromRing(in, s.window, ring)
}

func algorithm(v []byte) string {
	name, _, _ := strings.Cut(string(v[:64]), "\x00")
	return name
}

func lifetimeFrom(l nl.XfrmLifetimeCfg) lifetime {
	orZero := func(v uint64) uint64 {
		if v == nl.XFRM_INF {
			return 0
		}
		return v
	}
	return lifetime{orZero(l.SoftByteLimit), orZero(l.HardByteLimit), orZero(l.SoftPacketLimit),
		orZero(l.HardPacketLimit), l.HardAddExpiresSeconds}
}

// placed is one policy of ours in the kernel.
type placed struct {
	selector
	priority uint32
	index    uint32
	blocks   bool
	template *template
}

// parsePolicy reads one policy. The addresses are read by the family of the
// selector, not by their zeros.
func parsePolicy(b []byte) (p placed, ok bool) {
	if len(b) < nl.SizeofXfrmUserpolicyInfo {
		return p, false
	}
	info := *nl.DeserializeXfrmUserpolicyInfo(b)
	s := info.Sel
	p.dir, p.priority, p.index, p.blocks = direction(info.Dir), info.Priority, info.Index, info.Action == 1
	p.src = netip.PrefixFrom(addressOf(s.Saddr, s.Family), int(s.PrefixlenS))
	p.dst = netip.PrefixFrom(addressOf(s.Daddr, s.Family), int(s.PrefixlenD))
	p.protocol, p.srcPort, p.dstPort, p.device = s.Proto, swap(s.Sport), swap(s.Dport), int(s.Ifindex)
	for kind, v := range attrs(b[nl.SizeofXfrmUserpolicyInfo:]) {
		switch {
		case kind == nl.XFRMA_TMPL:
			p.template = parseTemplate(v)
		case kind == nl.XFRMA_IF_ID && len(v) >= 4:
			p.ifID = binary.NativeEndian.Uint32(v)
		case kind == nl.XFRMA_MARK && len(v) >= 4:
			p.mark = binary.NativeEndian.Uint32(v)
		}
	}
	return p, s.Family == unix.AF_INET || s.Family == unix.AF_INET6
}

func parseTemplate(v []byte) *template {
	if len(v) < nl.SizeofXfrmUserTmpl {
		return nil
	}
	t := nl.DeserializeXfrmUserTmpl(v)
	return &template{src: addressOf(t.Saddr, t.Family), dst: addressOf(t.XfrmId.Daddr, t.Family),
		spi: esp.SPI(swap(t.XfrmId.Spi)), reqid: t.Reqid, optional: t.Optional != 0}
}
