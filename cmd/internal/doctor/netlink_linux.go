package doctor

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"yumen/esp/ours"
	"yumen/policy"
)

// gatherNetwork asks the kernel by netlink.
func (f *Facts) gatherNetwork(mark uint32) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		f.blind("interfaces and routes", err)
		return
	}
	defer h.Close()
	f.gatherLinks(h)
	f.gatherRules(h)
	f.gatherPaths(h, mark)
	f.gatherXFRM()
}

func (f *Facts) gatherLinks(h *netlink.Handle) {
	links, err := h.LinkList()
	f.blind("interfaces", err)
	for _, l := range links {
		one := Link{Name: l.Attrs().Name}
		addrs, err := h.AddrList(l, netlink.FAMILY_ALL)
		f.blind("addresses of "+one.Name, err)
		for _, a := range addrs {
			if p, ok := prefix(a.IPNet); ok && !p.Addr().IsLinkLocalUnicast() {
				one.Nets = append(one.Nets, p.Masked())
			}
		}
		f.Links = append(f.Links, one)
	}
}

func prefix(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	a, ok := netip.AddrFromSlice(n.IP)
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(a.Unmap(), bits), ok
}

func (f *Facts) gatherRules(h *netlink.Handle) {
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		list, err := h.RuleList(family)
		f.blind("ip rules", err)
		for _, r := range list {
			f.Rules = append(f.Rules, Rule{Priority: r.Priority, V6: family == netlink.FAMILY_V6,
				Ours: r.Protocol == ours.RouteProtocol, Table: uint32(r.Table), Bare: bare(r)})
		}
		routes, err := h.RouteListFiltered(family, &netlink.Route{Table: int(f.Settings.Table)}, netlink.RT_FILTER_TABLE)
		if !errors.Is(err, unix.ENOENT) { // a table that does not exist
			f.blind("routing table", err)
		}
		for _, r := range routes {
			if r.Protocol != ours.RouteProtocol {
				p, _ := prefix(r.Dst)
				f.TableUsers = append(f.TableUsers, p.String())
			}
		}
	}
}

// bare: it takes every packet to a table and does not look for less than it finds
// (suppress_prefixlength).
func bare(r netlink.Rule) bool {
	none := r.Src == nil && r.Dst == nil && r.Mark == 0 && r.IifName == "" && r.OifName == "" &&
		r.IPProto == 0 && r.Sport == nil && r.Dport == nil && r.UIDRange == nil && r.Tos == 0
	return none && !r.Invert && r.Table > 0 && r.SuppressPrefixlen < 0 && r.Goto < 0
}

func (f *Facts) gatherPaths(h *netlink.Handle, mark uint32) {
	if f.Policy == nil {
		return
	}
	for _, p := range f.Policy.Peers {
		if !p.Remote.Any {
			f.Paths = append(f.Paths, path(h, p, mark))
		}
	}
}

// path asks for the way of our own packets, which bear our mark.
func path(h *netlink.Handle, p policy.Peer, mark uint32) Path {
	out := Path{Peer: p.Name}
	addr, err := resolve(p.Remote)
	if err != nil {
		out.Fault = err.Error()
		return out
	}
	out.Addr = addr
	o := &netlink.RouteGetOptions{Mark: mark}
	if p.Local.Addr.IsValid() {
		o.SrcAddr = p.Local.Addr.AsSlice()
	}
	routes, err := h.RouteGetWithOptions(addr.AsSlice(), o)
	if err != nil || len(routes) == 0 {
		out.Fault = fmt.Sprintf("no route to %s", addr)
		if err != nil {
			out.Fault += ": " + err.Error()
		}
		return out
	}
	out.MTU = routes[0].MTU
	if l, err := h.LinkByIndex(routes[0].LinkIndex); err == nil {
		out.Interface = l.Attrs().Name
		if m := l.Attrs().MTU; out.MTU == 0 || m < out.MTU {
			out.MTU = m
		}
	}
	return out
}

// gatherXFRM lists IPsec of the kernel. These structures are never formatted whole:
// states hold keys, which are wiped here.
func (f *Facts) gatherXFRM() {
	x, err := netlink.NewHandle(unix.NETLINK_XFRM)
	if err != nil {
		if !errors.Is(err, unix.EPROTONOSUPPORT) {
			f.blind("IPsec of the kernel", err)
		}
		return
	}
	defer x.Close()
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		policies, err := x.XfrmPolicyList(family)
		f.blind("IPsec policies", err)
		f.Kernel.XFRM = f.Kernel.XFRM || err == nil
		for i := range policies {
			f.foreignPolicy(&policies[i])
		}
		states, err := x.XfrmStateList(family)
		f.blind("IPsec states", err)
		for i := range states {
			f.foreignState(&states[i])
		}
	}
	f.XFRM.BlockDefault = blockDefault()
}

func (f *Facts) foreignPolicy(p *netlink.XfrmPolicy) {
	f.XFRM.Policies++
	// Directions above these are policies of single sockets, such as bypass.
	if p.Dir > netlink.XFRM_DIR_FWD || uint32(p.Priority) >= ours.KernelBand {
		return
	}
	f.XFRM.ForeignPolicies = append(f.XFRM.ForeignPolicies, fmt.Sprintf("%s %s -> %s priority %d", p.Dir, p.Src, p.Dst, p.Priority))
}

func (f *Facts) foreignState(s *netlink.XfrmState) {
	for _, a := range []*netlink.XfrmStateAlgo{s.Auth, s.Crypt, s.Aead} {
		if a != nil {
			clear(a.Key)
		}
	}
	f.XFRM.States++
	if ours.IsReqid(uint32(s.Reqid)) {
		return
	}
	f.XFRM.ForeignStates = append(f.XFRM.ForeignStates, fmt.Sprintf("%s -> %s spi %#08x", s.Src, s.Dst, uint32(s.Spi)))
}

// defaults is struct xfrm_userpolicy_default: in, fwd, out; 1 is block, 2 accept.
type defaults [3]byte

func (d *defaults) Len() int          { return len(d) }
func (d *defaults) Serialize() []byte { return d[:] }

// blockDefault names the directions whose default policy is block. Kernels before
// 5.15 do not know the question, and have no such default.
func blockDefault() string {
	const getDefault, block = 0x28, 1 // XFRM_MSG_GETDEFAULT, XFRM_USERPOLICY_BLOCK
	request := nl.NewNetlinkRequest(getDefault, 0)
	request.AddData(&defaults{})
	answers, err := request.Execute(unix.NETLINK_XFRM, 0)
	if err != nil || len(answers) == 0 || len(answers[0]) < 3 {
		return ""
	}
	out := ""
	for i, word := range []string{"in", "fwd", "out"} {
		if answers[0][i] == block {
			if out != "" {
				out += " "
			}
			out += word
		}
	}
	return out
}
