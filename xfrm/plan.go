package xfrm

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"yumen/esp"
	"yumen/policy"
	"yumen/policy/secret"
)

// state is one SA as the kernel shall hold it.
type state struct {
	src, dst     netip.Addr
	spi          esp.SPI
	reqid        uint32
	ifID         uint32
	outputMark   uint32 // of the packets it makes, inbound too; 0: none
	sport, dport uint16 // ESP in UDP (RFC 3948); 0: protocol 50
	icvBits      int
	esn          bool
	window       int
	seq          uint64   // last sent, or highest received
	replay       []uint64 // as esp.State has it; inbound only
	count        esp.Count
	limits       lifetime
	pathMTU      bool // copy DF outwards and honour what routers say
	copyDSCP     bool
	watched      bool // tell of the first packet
	outbound     bool
	keymat       secret.Secret
}

// lifetime is what the kernel watches itself. Zero means no limit.
type lifetime struct {
	softBytes, hardBytes, softPackets, hardPackets uint64
	hardSeconds                                    uint64
}

// context is what a plan takes from the plane.
type context struct {
	reqid, ifID, outputMark uint32
	inMark                  uint32 // of what comes out of the tunnel
}

// planChild cuts a child into its two SAs. The path must have both addresses.
func planChild(c esp.Child, from esp.State, x context) (in, out state, err error) {
	if err := supported(c); err != nil {
		return in, out, err
	}
	local, remote := c.Path.Local.Addr().Unmap(), c.Path.Remote.Addr().Unmap()
	both := state{
		reqid: x.reqid, ifID: x.ifID, icvBits: c.ICVBits, esn: c.ESN, window: c.Window,
		limits: lifetimeOf(c.Limits), pathMTU: c.Outer.DF == policy.DFCopy && c.Outer.Fragment != policy.FragmentAfter,
		copyDSCP: c.Outer.DSCP == policy.CopyDSCP,
	}
	in, out = both, both
	in.src, in.dst, in.spi, in.keymat = remote, local, c.In.SPI, c.In.Keymat
	in.seq, in.replay, in.count = from.InSeq, from.Replay, from.In
	in.watched, in.outputMark = from.InSeq == 0, x.inMark
	out.src, out.dst, out.spi, out.keymat = local, remote, c.Out.SPI, c.Out.Keymat
	out.seq, out.count, out.outputMark, out.outbound = from.OutSeq, from.Out, x.outputMark, true
	if c.Path.Encap {
		in.sport, in.dport = c.Path.Remote.Port(), c.Path.Local.Port()
		out.sport, out.dport = c.Path.Local.Port(), c.Path.Remote.Port()
	}
	return in, out, nil
}

// supported says why the kernel cannot carry c.
func supported(c esp.Child) error {
	if err := suiteSupported(c.Suite); err != nil {
		return err
	}
	for _, h := range []esp.Half{c.In, c.Out} {
		if h.SPI < 256 {
			return fmt.Errorf("SPI %d is reserved (RFC 4303 2.1)", h.SPI)
		}
		if n := esp.KeymatLen(c.Suite); h.Keymat.Len() != n {
			return fmt.Errorf("keymat of %d bytes: the suite takes %d", h.Keymat.Len(), n)
		}
	}
	switch {
	case c.Lane > 0:
		return errors.New("a child beside another: the kernel sends by one; use the userspace plane")
	case c.ICVBits != 96 && c.ICVBits != 128 && c.ICVBits != 256:
		return fmt.Errorf("ICV of %d bits: HMAC-SM3 takes 96, 128 or 256", c.ICVBits)
	case c.Window < esp.MinWindow || c.Window > esp.MaxWindow:
		return fmt.Errorf("anti-replay window of %d packets: it is %d to %d", c.Window, esp.MinWindow, esp.MaxWindow)
	}
	if err := outerSupported(c.Outer); err != nil {
		return err
	}
	return checkPath(c.Path)
}

func outerSupported(o policy.Outer) error {
	switch {
	case o.DSCP > 0:
		return fmt.Errorf("the kernel cannot set DSCP %d: only copy it or leave 0; use the userspace plane", o.DSCP)
	case o.DF == policy.DFSet:
		return errors.New("the kernel cannot always set DF: only copy or clear it; use the userspace plane")
	case o.MSS > 0:
		return fmt.Errorf("the kernel cannot clamp TCP segments to %d bytes (mss_clamp); use the userspace plane", o.MSS)
	}
	return nil
}

func suiteSupported(s policy.Suite) error {
	switch s {
	case policy.SM4CBCHMACSM3:
		return nil
	case policy.SM4GCM128:
		return ErrNoGCM
	case policy.AESCBCHMACSHA256:
		return ErrNotGM
	}
	return fmt.Errorf("suite %d does not exist", s)
}

// ErrNotGM says that this plane carries suites of the standard only.
var ErrNotGM = errors.New("the suite is not GB/T 36968: use the userspace plane")

// ErrNoGCM says that no kernel carries SM4-GCM.
var ErrNoGCM = errors.New("no kernel has SM4-GCM in XFRM: use the userspace plane")

func checkPath(p esp.Path) error {
	local, remote := p.Local.Addr().Unmap(), p.Remote.Addr().Unmap()
	switch {
	case !remote.IsValid() || remote.IsUnspecified():
		return errors.New("the path has no remote address")
	case !local.IsValid() || local.IsUnspecified():
		return errors.New("the path has no local address")
	case local.Is4() != remote.Is4():
		return fmt.Errorf("the path goes from %s to %s, two families", local, remote)
	case p.Encap && (p.Remote.Port() == 0 || p.Local.Port() == 0):
		return errors.New("the path is encapsulated in udp and lacks a port")
	}
	return nil
}

// timeSlack is how much later than the engine the kernel ends an SA by itself: so
// that one whose process is gone does not live for ever.
const timeSlack = 5 * time.Second

func lifetimeOf(l esp.Limits) lifetime {
	t := lifetime{l.SoftBytes, l.HardBytes, l.SoftPackets, l.HardPackets, 0}
	if l.HardTime > 0 {
		t.hardSeconds = uint64((l.HardTime + timeSlack + time.Second - 1) / time.Second)
	}
	return t
}

// template is the SA that an out policy asks for. Without SPI it names none that
// can exist, and whatever meets it asks for a child.
type template struct {
	src, dst netip.Addr
	spi      esp.SPI
	reqid    uint32
	optional bool // inwards only
}

// idle is the template of a tunnel without a child. The kernel asks once for each
// pair of addresses until its own time is up (xfrm_acq_expires), so each turn takes
// addresses of its own, from a range that no SA can have.
func idle(reqid, turn uint32) template {
	a := netip.AddrFrom4([4]byte{127, 1 + byte(turn>>16)%254, byte(turn >> 8), byte(turn)})
	return template{src: a, dst: a, reqid: reqid}
}

func (t template) isIdle() bool { return t.spi == 0 }

// templateOf is the template of a child in use.
func templateOf(out state) template {
	return template{src: out.src, dst: out.dst, spi: out.spi, reqid: out.reqid}
}
