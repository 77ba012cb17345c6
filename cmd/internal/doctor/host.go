package doctor

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"yumen/esp"
	"yumen/policy"
)

// Capabilities that a gateway needs, capability.h.
const (
	capNetBind  = 10
	capNetAdmin = 12
	capNetRaw   = 13
	capIPCLock  = 14
)

func checkRights(f *Facts) []Finding {
	var missing []string
	for bit, name := range []string{capNetBind: "CAP_NET_BIND_SERVICE", capNetAdmin: "CAP_NET_ADMIN", capNetRaw: "CAP_NET_RAW"} {
		if name != "" && f.Rights&(1<<bit) == 0 {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return one("rights", Fail, "this process lacks "+strings.Join(missing, ", "), "run as root, or with the unit configs/yumen.service")
	}
	return one("rights", OK, "network administration, raw sockets and low ports are allowed", "")
}

func checkMemoryLock(f *Facts) []Finding {
	if f.Rights&(1<<capIPCLock) != 0 || f.MemoryLock == ^uint64(0) {
		return nil
	}
	return one("memlock", Warn, fmt.Sprintf("at most %d KiB of memory can be locked: keys may reach the swap", f.MemoryLock>>10),
		"LimitMEMLOCK=infinity in the unit, or CAP_IPC_LOCK")
}

// checkForwarding: without it nothing of those behind the gateway gets through.
func checkForwarding(f *Facts) []Finding {
	if f.Settings.ManageSysctl {
		return nil // the gateway sees to it
	}
	v4, v6 := f.families()
	var out []Finding
	for _, s := range []struct {
		wanted bool
		path   string
	}{{v4, "ipv4/ip_forward"}, {v6, "ipv6/conf/all/forwarding"}} {
		if value, known := f.Sysctl[s.path]; s.wanted && known && value != "1" {
			name := "net." + strings.ReplaceAll(s.path, "/", ".")
			out = append(out, Finding{"forwarding", Fail, name + " is " + value + ": this host does not forward",
				"sysctl -w " + name + "=1 (and in /etc/sysctl.d), or manage_sysctl: true"})
		}
	}
	if out == nil {
		return one("forwarding", OK, "this host forwards", "")
	}
	return out
}

// checkReversePath: the strict filter drops what comes in by another interface
// than its answer would leave by. The kernel takes the larger of all and the
// interface's own value, and 1 is strict, 2 loose.
func checkReversePath(f *Facts) []Finding {
	all := f.Sysctl["ipv4/conf/all/rp_filter"]
	if v4, _ := f.families(); !v4 || all == "2" {
		return nil
	}
	var strict []string
	for _, l := range f.Links {
		own := f.Sysctl["ipv4/conf/"+l.Name+"/rp_filter"]
		if l.Name != "lo" && l.Name != f.Settings.Tun && (own == "1" || all == "1" && own == "0") {
			strict = append(strict, l.Name)
		}
	}
	if len(strict) == 0 {
		return nil
	}
	slices.Sort(strict)
	return one("rp_filter", Warn, "the strict reverse path filter is on for "+strings.Join(strict, ", ")+
		": with several uplinks, or a tunnel for 0.0.0.0/0, it drops good packets in silence",
		"sysctl -w net.ipv4.conf.all.rp_filter=2 (and in /etc/sysctl.d)")
}

// checkXFRMSettings: what bears on IPsec of the kernel, and on the guard.
func checkXFRMSettings(f *Facts) []Finding {
	var out []Finding
	add := func(level Level, text, fix string) { out = append(out, Finding{"xfrm-sysctl", level, text, fix}) }
	inKernel := kernelPossible(f)
	if f.Sysctl["core/xfrm_larval_drop"] == "1" && inKernel && !f.Settings.ManageSysctl {
		add(Note, "net.core.xfrm_larval_drop is 1: the first packets of a tunnel in the kernel are lost while it is negotiated",
			"sysctl -w net.core.xfrm_larval_drop=0, or manage_sysctl: true")
	}
	if v := f.Sysctl["core/xfrm_acq_expires"]; v == "0" && inKernel {
		add(Warn, "net.core.xfrm_acq_expires is 0: a request for a tunnel that failed once is never made again",
			"sysctl -w net.core.xfrm_acq_expires=30")
	}
	if f.XFRM.BlockDefault != "" {
		add(Warn, "the default policy of the kernel's IPsec is block ("+f.XFRM.BlockDefault+"): what no policy names is dropped, in clear or not",
			"ip xfrm policy setdefault in accept fwd accept out accept, unless that is meant")
	}
	for _, p := range f.Paths {
		for _, word := range []string{"disable_xfrm", "disable_policy"} {
			if key := "ipv4/conf/" + p.Interface + "/" + word; p.Interface != "" && f.Sysctl[key] == "1" {
				add(Warn, fmt.Sprintf("%s is on for %s: the guard does not see what passes there", word, p.Interface),
					"sysctl -w net."+strings.ReplaceAll(key, "/", ".")+"=0")
			}
		}
	}
	return out
}

func checkNFT(f *Facts) []Finding {
	if f.NFT {
		return nil
	}
	const fix = "apt-get install nftables"
	switch _, v6 := f.families(); {
	case !f.Kernel.XFRM:
		return one("nft", Fail, "nft is not installed and this kernel has no XFRM: there is nothing to make the guard of", fix)
	case v6:
		return one("nft", Fail, "nft is not installed: the userspace plane has no guard for IPv6 without it, and takes no such tunnel", fix)
	}
	return one("nft", Warn, "nft is not installed: its rules were not looked at, and the guard does not see ICMP errors that quote what it protects", fix)
}

// checkClock: certificates are judged by it.
func checkClock(f *Facts) []Finding {
	const form = "2006-01-02 15:04 UTC"
	oldest := f.Built
	if oldest.IsZero() {
		oldest = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	const fix = "timedatectl set-ntp true (systemd-timesyncd), or chrony"
	switch {
	case f.Now.Before(oldest):
		return one("clock", Fail, fmt.Sprintf("%s cannot be: this program is from %s", f.Now.UTC().Format(form), oldest.UTC().Format(form)), fix)
	case !f.Synced:
		return one("clock", Warn, "nothing keeps the clock right: certificates and lists of revocation will be judged wrongly some day", fix)
	}
	return one("clock", OK, "the clock is plausible and kept right", "")
}

// checkPaths tells the way to each peer and what fits through it.
func checkPaths(f *Facts) []Finding {
	var out []Finding
	for _, p := range f.Paths {
		switch {
		case p.Fault != "":
			out = append(out, Finding{"path", Fail, "peer " + p.Peer + ": " + p.Fault, "mend the route or the name, or remote of the peer"})
		case p.MTU > 0 && p.MTU < f.Settings.MTU:
			out = append(out, Finding{"mtu", Warn, fmt.Sprintf("peer %s: the path by %s takes %d bytes, mtu says %d", p.Peer, p.Interface, p.MTU, f.Settings.MTU),
				fmt.Sprintf("mtu: %d in the configuration", p.MTU)})
		case p.MTU > 0:
			out = append(out, Finding{"path", OK, fmt.Sprintf("peer %s: by %s, %d bytes; packets of %d bytes go through a tunnel whole", p.Peer, p.Interface,
				p.MTU, f.inner(p)), ""})
		}
	}
	return out
}

// inner is the largest inner packet of a path, in the worst suite of its tunnels.
func (f *Facts) inner(p Path) int {
	least := 0
	for _, t := range f.tunnels() {
		for _, s := range t.Suites {
			c := esp.Child{Suite: s, ICVBits: t.ICVBits, Path: esp.Path{Encap: true}}
			if p.Addr.Is4() {
				c.Path.Remote = addrPort(p.Addr)
			}
			if m := esp.MaxInner(c, min(p.MTU, f.Settings.MTU)); t.Peer == p.Peer && (least == 0 || m < least) {
				least = m
			}
		}
	}
	return least
}

// checkConnected: subnets of our own links win over a tunnel, which is how the
// network of a container engine cuts a hole into a wide selector.
func checkConnected(f *Facts) []Finding {
	var out []Finding
	for _, l := range f.Links {
		if l.Name == f.Settings.Tun || l.Name == "lo" {
			continue
		}
		for _, n := range l.Nets {
			for _, t := range f.tunnels() {
				remote := t.Selector.Remote
				wide := remote.Overlaps(policy.NetOf(n)) && remote.Is4() == n.Addr().Is4()
				if p, ok := remote.Prefix(); wide && (!ok || p.Bits() > 0) {
					out = append(out, Finding{"overlap", Warn, fmt.Sprintf("%s of interface %s lies in the remote network %s of tunnel %s: it is reached directly, not by the tunnel",
						n, l.Name, remote, t.Name), "move that subnet (of Docker: bip and default-address-pools), or narrow the tunnel"})
				}
			}
		}
	}
	return out
}
