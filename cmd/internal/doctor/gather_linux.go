package doctor

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"yumen/cmd/internal/config"
	"yumen/cmd/internal/pki"
	"yumen/esp/tunnel"
	"yumen/policy"
	"yumen/xfrm"
)

// patience bounds every program and every question to the network.
const patience = 5 * time.Second

// Gather looks at this machine and changes nothing; the kernel may load modules when
// it is tried what it can. cfg may be nil, with fault
// saying why; built is when this program was made, or zero. It looks at the
// network namespace of the calling thread. What it cannot see is in Facts.Blind.
func Gather(cfg *config.Config, fault error, built time.Time) *Facts {
	f := &Facts{Now: time.Now(), Built: built, Settings: standard()}
	if fault != nil {
		f.ConfigFault = firstLine(fault.Error())
	}
	var mark uint32
	if cfg != nil {
		f.Settings = Settings{Tun: cfg.Tun, Table: cfg.Table, RulePriority: cfg.RulePriority, MTU: cfg.MTU,
			IKEPort: cfg.IKEPort, NATPort: cfg.NATPort, ManageSysctl: cfg.ManageSysctl, Dataplane: cfg.Dataplane, XFRMInterface: cfg.XFRMInterface}
		mark = cfg.Mark
		f.readFiles(cfg)
	}
	f.gatherSystem()
	f.gatherKernel()
	f.gatherFirewall()
	f.gatherSockets()
	f.gatherNetworkd()
	f.gatherNetwork(mark)
	return f
}

// standard is what a gateway without configuration would use.
func standard() Settings {
	return Settings{Tun: "yumen0", Table: 4950, RulePriority: 4950, MTU: 1500, IKEPort: 500, NATPort: 4500, Dataplane: dataplaneAuto}
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

func (f *Facts) blind(what string, err error) {
	if err != nil {
		f.Blind = append(f.Blind, what+" could not be looked at: "+firstLine(err.Error()))
	}
}

// readFiles reads the policy and every certificate and revocation list.
func (f *Facts) readFiles(cfg *config.Config) {
	pol, err := policy.Load(cfg.Policy)
	if err != nil || pol.NeedsCertificates() {
		f.addFile("own signature certificate", cfg.SignCert, false)
		f.addFile("own encryption certificate", cfg.EncCert, false)
	}
	if err != nil {
		f.ConfigFault = firstLine(err.Error())
		return
	}
	f.Policy = pol
	seen := map[string]bool{}
	for _, p := range pol.Peers {
		if p.PreShared.Used {
			continue // has no certificates; its key is judged by yumen check
		}
		if ca := pol.Resolve(p.CA); !seen[ca] {
			seen[ca] = true
			f.addFile("CA of peer "+p.Name, ca, false)
		}
		if crl := pol.Resolve(p.CRL); p.CRL != "" && !seen[crl] {
			seen[crl] = true
			f.addFile("CRL of peer "+p.Name, crl, true)
		}
	}
}

// maxFile bounds a bundle of anchors or a revocation list.
const maxFile = 16 << 20

func (f *Facts) addFile(what, path string, crl bool) {
	one := File{What: what, Path: path, CRL: crl}
	defer func() { f.Files = append(f.Files, one) }()
	file, err := os.Open(path)
	if err != nil {
		one.Fault = err.Error()
		return
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, maxFile))
	if err != nil {
		one.Fault = err.Error()
		return
	}
	list, err := pki.Show(b, f.Now)
	if err != nil {
		one.Fault = err.Error()
		return
	}
	for _, info := range list { // the first is the certificate or list itself
		if wanted := map[bool]string{false: "certificate", true: "crl"}[crl]; info.Type != wanted {
			continue
		}
		if one.Subject = info.Subject; info.NotBefore != nil {
			one.NotBefore = *info.NotBefore
		}
		if info.NotAfter != nil {
			one.NotAfter = *info.NotAfter
		}
		return
	}
	one.Fault = "holds no certificate and no list"
}

func (f *Facts) gatherSystem() {
	tun, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if f.TunDevice = err; err == nil {
		tun.Close()
	}
	if err == nil {
		on, err := tunnel.ProbeOffloads()
		f.blind("offloads", err)
		f.Offloads = Offloads{Tried: err == nil, Have: on.Names(), Lacks: on.Missing().Names()}
	}
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	f.blind("capabilities", unix.Capget(&head, &data[0]))
	f.Rights = uint64(data[1].Effective)<<32 | uint64(data[0].Effective)
	var limit unix.Rlimit
	f.blind("memory limit", unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit))
	f.MemoryLock = limit.Cur
	var clock unix.Timex // no mode bits: it only reads
	_, err = unix.Adjtimex(&clock)
	f.blind("clock", err)
	f.Synced = err == nil && clock.Status&unix.STA_UNSYNC == 0
	f.Sysctl = sysctls()
}

// sysctls reads those that the checks ask for.
func sysctls() map[string]string {
	const root = "/proc/sys/net/"
	names := []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding", "core/xfrm_larval_drop", "core/xfrm_acq_expires"}
	conf, _ := filepath.Glob(root + "ipv4/conf/*") // the pattern is good
	for _, dir := range conf {
		for _, word := range []string{"rp_filter", "disable_xfrm", "disable_policy"} {
			names = append(names, "ipv4/conf/"+filepath.Base(dir)+"/"+word)
		}
	}
	out := map[string]string{}
	for _, name := range names {
		if b, err := os.ReadFile(root + name); err == nil {
			out[name] = strings.TrimSpace(string(b))
		}
	}
	return out
}

func (f *Facts) gatherKernel() {
	var u unix.Utsname
	f.blind("kernel release", unix.Uname(&u))
	k := &f.Kernel
	k.Release = unix.ByteSliceToString(u.Release[:])
	if n, _ := fmt.Sscanf(k.Release, "%d.%d", &k.Major, &k.Minor); n != 2 {
		f.blind("kernel release", fmt.Errorf("%q is no version", k.Release))
	}
	k.Config = kernelConfig(k.Release)
	crypto, err := os.ReadFile("/proc/crypto")
	if !errors.Is(err, fs.ErrNotExist) {
		f.blind("/proc/crypto", err)
	}
	k.Crypto = ParseCrypto(string(crypto))
	release, err := os.ReadFile("/etc/os-release")
	k.Debian = err == nil && strings.Contains("\n"+string(release), "\nID=debian")
	k.Loadable = loadable()
	err = xfrm.Probe(policy.SM4CBCHMACSM3)
	var cannot *xfrm.Unsupported
	switch {
	case err == nil:
		k.Tried.Done = true
	case errors.As(err, &cannot):
		k.Tried = Trial{Done: true, Fault: cannot.Error()}
	}
}

// loadable asks modprobe, which knows aliases and what is built in, with -n: it
// loads nothing.
func loadable() map[string]bool {
	path, err := exec.LookPath("modprobe")
	if err != nil {
		return nil
	}
	out := map[string]bool{}
	for _, n := range kernelNeeds(true, true) {
		_, err := run(path, "-n", "-q", n.module)
		out[n.module] = err == nil
	}
	return out
}

// kernelConfig is how the kernel was made; nil where it does not tell.
func kernelConfig(release string) map[string]string {
	if file, err := os.Open("/proc/config.gz"); err == nil {
		defer file.Close()
		if z, err := gzip.NewReader(file); err == nil {
			if b, err := io.ReadAll(io.LimitReader(z, maxFile)); err == nil {
				return ParseKernelConfig(string(b))
			}
		}
	}
	for _, path := range []string{"/boot/config-" + release, "/lib/modules/" + release + "/config"} {
		if b, err := os.ReadFile(path); err == nil {
			return ParseKernelConfig(string(b))
		}
	}
	return nil
}

func run(name string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil && said.Len() > 0 {
		err = fmt.Errorf("%s: %w: %s", filepath.Base(name), err, firstLine(said.String()))
	}
	return out, err
}

// gatherFirewall lists nftables and both iptables, each where it is installed.
func (f *Facts) gatherFirewall() {
	var rules *Ruleset
	if path, err := exec.LookPath("nft"); err == nil {
		f.NFT = true
		b, err := run(path, "-j", "list", "ruleset")
		if err == nil {
			rules, err = ParseNFT(b)
		}
		f.blind("nftables", err)
	}
	var others []*Ruleset
	onNFT := false
	for family, program := range map[string]string{"ip": "iptables-save", "ip6": "ip6tables-save"} {
		path, err := exec.LookPath(program)
		if err != nil {
			continue
		}
		b, err := run(path)
		if f.blind(program, err); err == nil {
			onNFT = onNFT || bytes.Contains(b, []byte("(nf_tables)")) || len(b) == 0
			others = append(others, ParseIPTables(string(b), family))
		}
	}
	if rules != nil || others != nil {
		f.Firewall = Merge(rules, onNFT, others...)
	}
}

func (f *Facts) gatherSockets() {
	ports := map[uint16]bool{f.Settings.IKEPort: true, f.Settings.NATPort: true}
	inodes := map[string]int{}
	for _, name := range []string{"udp", "udp6"} {
		// Of this thread: /proc/self may be in another network namespace.
		b, err := os.ReadFile("/proc/thread-self/net/" + name)
		if !errors.Is(err, fs.ErrNotExist) {
			f.blind("/proc/net/"+name, err)
		}
		for _, s := range ParseSockets(string(b)) {
			if ports[s.Port] {
				inodes["socket:["+s.Inode+"]"] = len(f.Sockets)
				f.Sockets = append(f.Sockets, s.Socket)
			}
		}
	}
	if len(inodes) > 0 {
		f.owners(inodes)
	}
}

// owners finds the processes that hold sockets, by the links of their descriptors.
func (f *Facts) owners(inodes map[string]int) {
	links, _ := filepath.Glob("/proc/[0-9]*/fd/*") // the pattern is good
	for _, link := range links {
		to, err := os.Readlink(link)
		if err != nil {
			continue // it ended, or is not ours to see
		}
		i, ours := inodes[to]
		if !ours || f.Sockets[i].PID != 0 {
			continue
		}
		dir := strings.Split(link, "/")[2]
		pid, _ := strconv.Atoi(dir) // the pattern has it start with a digit
		name, _ := os.ReadFile("/proc/" + dir + "/comm")
		f.Sockets[i].PID, f.Sockets[i].Program = pid, strings.TrimSpace(string(name))
	}
}

// resolve finds where a peer is.
func resolve(r policy.Remote) (netip.Addr, error) {
	if r.FQDN == "" {
		return r.Addr, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	list, err := net.DefaultResolver.LookupNetIP(ctx, "ip", r.FQDN)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("its name %s does not resolve: %w", r.FQDN, err)
	}
	return list[0].Unmap(), nil
}
