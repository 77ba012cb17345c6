package doctor

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"yumen/policy"
	"yumen/xfrm"
)

// need is one thing that the kernel plane wants of the kernel.
type need struct {
	option string // of the configuration, without CONFIG_
	module string // or alias that modprobe knows
	crypto string // name in /proc/crypto that proves it; empty: none does
}

// firstKernel is where XFRM learned cbc(sm4) and hmac(sm3): 5.17.
const firstMajor, firstMinor = 5, 17

// kernelNeeds are for SM4-CBC with HMAC-SM3.
func kernelNeeds(v4, v6 bool) []need {
	list := []need{
		{option: "XFRM_USER", module: "xfrm_user"},
		{option: "CRYPTO_AUTHENC", module: "crypto-authenc"},
		{option: "CRYPTO_ECHAINIV", module: "crypto-echainiv"},
		{option: "CRYPTO_SM4_GENERIC", module: "crypto-sm4", crypto: "sm4"},
		{option: "CRYPTO_SM3_GENERIC", module: "crypto-sm3", crypto: "sm3"},
	}
	if v4 {
		list = append(list, need{option: "INET_ESP", module: "esp4"})
	}
	if v6 {
		list = append(list, need{option: "INET6_ESP", module: "esp6"})
	}
	return list
}

// has says whether the kernel has it: what was seen wins over what could be
// loaded, and that over how the kernel was configured, because modules can be
// built later (and be left out of an image).
func (k Kernel) has(n need) (have bool, why string) {
	switch {
	case n.crypto != "" && k.Crypto[n.crypto], k.Config[n.option] == "y", k.Loadable[n.module]:
		return true, ""
	case k.Config == nil && k.Loadable == nil:
		return false, "CONFIG_" + n.option + " (it could not be told: no modprobe and no configuration of the kernel)"
	case k.Config[n.option] == "m":
		return false, "module " + n.module + " (CONFIG_" + n.option + "=m, but the module is not installed)"
	}
	return false, "CONFIG_" + n.option
}

// kernelPlane says why the kernel plane is impossible; empty: it is possible. What
// was tried is true; the options then say what to do about it.
func kernelPlane(f *Facts) (missing []string, old bool) {
	k := f.Kernel
	if k.Major < firstMajor || k.Major == firstMajor && k.Minor < firstMinor {
		return nil, true
	}
	if k.Tried.Done && k.Tried.Fault == "" {
		return nil, false
	}
	for _, n := range kernelNeeds(f.families()) {
		if have, why := k.has(n); !have {
			missing = append(missing, why)
		}
	}
	if len(missing) == 0 && k.Tried.Done {
		missing = []string{"something (tried: " + k.Tried.Fault + ")"}
	}
	return missing, false
}

// The words of dataplane in the configuration.
const (
	dataplaneAuto   = "auto"
	dataplaneKernel = "kernel"
	dataplaneUser   = "user"
)

// kernelPossible reports whether a child could ever be in the kernel.
func kernelPossible(f *Facts) bool {
	cbc, _ := f.suites()
	missing, old := kernelPlane(f)
	return f.Settings.Dataplane != dataplaneUser && cbc && !old && len(missing) == 0
}

// checkSuites says per suite which plane can carry it, and which one dataplane takes.
func checkSuites(f *Facts) []Finding {
	cbc, gcm := f.suites()
	var out []Finding
	if cbc {
		out = append(out, suiteCBC(f))
	}
	if gcm {
		out = append(out, suiteGCM(f))
	}
	return append(out, tunnelsBeyond(f)...)
}

// tunnelsBeyond are those that no kernel carries as they are written, where the kernel
// plane alone is asked for: the gateway does not start then. What suiteGCM says is not
// repeated.
func tunnelsBeyond(f *Facts) (out []Finding) {
	if f.Settings.Dataplane != dataplaneKernel {
		return nil
	}
	for _, t := range f.tunnels() {
		why, fix := "", ""
		switch {
		case t.Children > 1:
			why, fix = fmt.Sprintf("children: %d are used side by side, and the kernel sends by one", t.Children), "children: 1"
		case slices.Contains(t.Suites, policy.SM4CBCHMACSM3) && t.ICVBits == policy.ICVAuto:
			why, fix = "icv_bits: auto is found out in userspace only", "icv_bits: 96, 128 or 256"
		}
		for _, s := range t.Suites {
			err := xfrm.Carries(s, t.Outer)
			if why == "" && err != nil && !errors.Is(err, xfrm.ErrNoGCM) {
				why, fix = err.Error(), "what the kernel can carry"
			}
		}
		if why != "" {
			out = append(out, Finding{"suite", Fail, fmt.Sprintf("tunnel %s: no plane: %s, and dataplane is kernel: the gateway will not start", t.Name, why),
				"dataplane: auto, or " + fix + " in the tunnel"})
		}
	}
	return out
}

func suiteGCM(f *Facts) Finding {
	switch {
	case f.Settings.Dataplane == dataplaneKernel:
		return Finding{"suite", Fail, "sm4-gcm: no plane: the kernel's IPsec has no SM4-GCM, and dataplane is kernel: the gateway will not start",
			"dataplane: auto, or suites: [sm4cbc-hmacsm3]"}
	case f.TunDevice != nil:
		return Finding{"suite", Fail, "sm4-gcm: no plane: the kernel's IPsec has no SM4-GCM and there is no TUN device", "see tun"}
	}
	return Finding{"suite", OK, "sm4-gcm: userspace plane (no kernel's IPsec has SM4-GCM)", ""}
}

func suiteCBC(f *Facts) Finding {
	const name = "sm4-cbc-hmac-sm3: "
	user, wish := f.TunDevice == nil, f.Settings.Dataplane
	missing, old := kernelPlane(f)
	able := len(missing) == 0 && !old
	switch {
	case wish == dataplaneUser && user:
		return Finding{"suite", OK, name + "userspace plane, as dataplane: user says", ""}
	case wish == dataplaneUser:
		return Finding{"suite", Fail, name + "no plane: there is no TUN device, and dataplane is user", "see tun"}
	case able && wish == dataplaneKernel:
		return Finding{"suite", OK, name + "kernel plane, as dataplane: kernel says", ""}
	case able && user:
		return Finding{"suite", OK, name + "kernel and userspace plane; dataplane: auto takes the kernel", ""}
	case able:
		return Finding{"suite", OK, name + "kernel plane, which dataplane: auto takes", ""}
	}
	level, where := Note, name+"userspace plane only, which dataplane: auto takes"
	switch {
	case wish == dataplaneKernel:
		level, where = Fail, name+"no plane: dataplane is kernel, and the gateway will not start"
	case !user:
		level, where = Fail, name+"no plane: there is no TUN device"
	}
	if old {
		return Finding{"suite", level, fmt.Sprintf("%s; the kernel plane is impossible: Linux %s is older than %d.%d, whose IPsec knows neither SM4 nor SM3",
			where, f.Kernel.Release, firstMajor, firstMinor), fmt.Sprintf("none needed for the userspace plane (dataplane: auto); else a kernel from %d.%d on", firstMajor, firstMinor)}
	}
	return Finding{"suite", level, where + "; the kernel plane lacks " + strings.Join(missing, ", "), kernelFix(f, missing)}
}

// kernelFix names the package on Debian, where only SM3 and SM4 are left out.
func kernelFix(f *Facts, missing []string) string {
	sm := 0
	for _, m := range missing {
		if strings.Contains(m, "_SM3_") || strings.Contains(m, "_SM4_") {
			sm++
		}
	}
	if f.Kernel.Debian && sm == len(missing) {
		return "make dkms and install build/yumen-sm-dkms_*.deb (SM3 and SM4 from Debian's own kernel source)"
	}
	return "a kernel with these options as y or m, or the modules of this kernel (linux-modules-extra and the like)"
}

func checkTun(f *Facts) []Finding {
	if f.TunDevice != nil && f.Settings.Dataplane == dataplaneKernel {
		return one("tun", OK, "/dev/net/tun is not needed: dataplane is kernel", "")
	}
	if f.TunDevice != nil {
		return one("tun", Fail, "/dev/net/tun: "+f.TunDevice.Error(),
			"modprobe tun; in a container, hand in /dev/net/tun (CONFIG_TUN)")
	}
	return one("tun", OK, "/dev/net/tun can be opened", "")
}

// offloadSince is the first Linux with each offload of the userspace plane.
func offloadSince(name string) string {
	switch name {
	case "tun-uso":
		return "6.2"
	case "udp-gro":
		return "5.0"
	case "udp-segment":
		return "4.18"
	}
	return "3.8"
}

// checkOffloads says what of speed the kernel keeps from the userspace plane. Nothing
// is wrong without: packets then go one by one.
func checkOffloads(f *Facts) []Finding {
	if !f.Offloads.Tried || f.Settings.Dataplane == dataplaneKernel {
		return nil
	}
	have := "none"
	if len(f.Offloads.Have) > 0 {
		have = strings.Join(f.Offloads.Have, " ")
	}
	if len(f.Offloads.Lacks) == 0 {
		return one("offloads", OK, "the userspace plane finds "+have, "")
	}
	var since []string
	for _, name := range f.Offloads.Lacks {
		since = append(since, name+" from Linux "+offloadSince(name)+" on")
	}
	return one("offloads", Note, fmt.Sprintf("the userspace plane finds %s; it does one by one what others would do in runs: %s",
		have, strings.Join(f.Offloads.Lacks, " ")), "for more speed a newer kernel: "+strings.Join(since, ", "))
}
