// The demo runs the main job: two sites in network namespaces with a router
// between them, certificates, two daemons, a negotiation, traffic both ways over
// IPv4 and IPv6, and a capture of the outside wire that is searched for anything
// in clear. It leaves its files in build/demo and ends with a verdict.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"yumen/policy"
	"yumen/test/site"
	"yumen/xfrm"
)

type options struct {
	suite, encap, icv, plane, yumen, folder, sockets string
	bulk                                             int // MiB of each TCP transfer
	patience                                         time.Duration
}

// espOfEach is how many ESP packets of each SA the capture that stays holds.
const espOfEach = 150

func main() {
	var o options
	flag.StringVar(&o.suite, "suite", "cbc", "cbc or gcm")
	flag.StringVar(&o.encap, "encap", "raw", "raw (protocol 50) or udp (port 4500)")
	flag.StringVar(&o.icv, "icv", "96", "96, 128 or 256: bits of HMAC-SM3")
	flag.StringVar(&o.plane, "plane", "user", "user, kernel or auto: where packets are encrypted")
	flag.StringVar(&o.yumen, "yumen", "build/yumen", "the binary")
	flag.StringVar(&o.folder, "out", "build/demo", "folder for the results")
	flag.StringVar(&o.sockets, "sockets", "", "folder for control sockets, where the results' folder can hold none")
	flag.IntVar(&o.bulk, "bulk", 8, "MiB of each TCP transfer")
	flag.DurationVar(&o.patience, "patience", 30*time.Second, "how long the tunnels may take to come up")
	probe := flag.Bool("probe", false, "only say what this kernel lacks for PLANE=kernel")
	flag.Parse()
	if *probe {
		if err := xfrm.Probe(policy.SM4CBCHMACSM3); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if why := site.Missing(); why != "" {
		fail(fmt.Errorf("this machine cannot run the demo: %s", why))
	}
	w := site.New()
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-stop
		w.Close()
		os.Exit(130)
	}()
	err := demo(w, o)
	w.Close()
	if err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Printf("\nVERDICT: FAILED: %v\n", err)
	os.Exit(1)
}

func step(format string, args ...any) { fmt.Printf("==> "+format+"\n", args...) }

func (o *options) check() error {
	ok := func(s string, words ...string) bool {
		for _, w := range words {
			if s == w {
				return true
			}
		}
		return false
	}
	switch {
	case !ok(o.suite, "cbc", "gcm"):
		return fmt.Errorf("SUITE=%s: say cbc or gcm", o.suite)
	case !ok(o.encap, "raw", "udp"):
		return fmt.Errorf("ENCAP=%s: say raw or udp", o.encap)
	case !ok(o.plane, "user", "kernel", "auto"):
		return fmt.Errorf("PLANE=%s: say user, kernel or auto", o.plane)
	case !ok(o.icv, "96", "128", "256"):
		return fmt.Errorf("ICV=%s: say 96, 128 or 256", o.icv)
	}
	return nil
}

// policy is the policy of one end.
func (o *options) policy(us, them, remote, local, far string) string {
	suite, encap := "sm4cbc-hmacsm3", "auto"
	if o.suite == "gcm" {
		suite = "sm4gcm128"
	}
	if o.encap == "udp" {
		encap = "force"
	}
	text := fmt.Sprintf("site: %s\npeers:\n  - name: %s\n    remote: %s\n    ca: ca.crt\n    subject: %q\n    encap: %s\n    path_probe: off # a capture that is easy to read\ntunnels:\n",
		us, them, remote, site.Subject(them), encap)
	for _, f := range []struct{ name, local, remote string }{
		{"office4", fmt.Sprintf("10.%s.0.0/24", local), fmt.Sprintf("10.%s.0.0/24", far)},
		{"office6", fmt.Sprintf("fd0%s::/64", local), fmt.Sprintf("fd0%s::/64", far)},
	} {
		text += fmt.Sprintf("  - name: %s\n    peer: %s\n    local: %s\n    remote: %s\n    suites: [%s]\n",
			f.name, them, f.local, f.remote, suite)
		if us == "b" { // one negotiation makes a capture that is easy to read
			text += "    start: respond\n"
		}
		if o.suite == "cbc" {
			text += fmt.Sprintf("    icv_bits: %s\n", o.icv)
		}
	}
	return text
}

func demo(w *site.World, o options) error {
	if err := o.check(); err != nil {
		return err
	}
	yumen, err := filepath.Abs(o.yumen)
	if err != nil {
		return err
	}
	folder, err := filepath.Abs(o.folder)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(folder); err != nil {
		return err
	}
	for _, d := range []string{"a", "b"} {
		if err := os.MkdirAll(filepath.Join(folder, d), 0o755); err != nil {
			return err
		}
	}
	step("two sites in network namespaces, a router between them")
	t, err := site.NewTwoSites(w, yumen, folder)
	if err != nil {
		return err
	}
	t.A.Sockets, t.B.Sockets = o.sockets, o.sockets
	if err := proveSearch(t, folder); err != nil {
		return err
	}
	step("a root, and a signing and an encryption certificate for each gateway")
	if err := site.Issue(yumen, folder, t.A, t.B); err != nil {
		return err
	}
	if err := t.A.Configure(o.policy("a", "b", site.GateB4, "1", "2"), "dataplane: "+o.plane); err != nil {
		return err
	}
	if err := t.B.Configure(o.policy("b", "a", site.GateA4, "2", "1"), "dataplane: "+o.plane); err != nil {
		return err
	}
	return protected(t, o, folder)
}

// proveSearch sends the markers with no gateway running: they must be found.
func proveSearch(t *site.TwoSites, folder string) error {
	step("without protection: the search must find what it will look for")
	file := filepath.Join(folder, "unprotected.pcap")
	c, err := t.Router.Capture("to-b", file, "")
	if err != nil {
		return err
	}
	flows := t.Flows()
	for _, f := range flows {
		if err := f.Ping(); err != nil {
			return err
		}
		if err := f.Datagram(); err != nil {
			return err
		}
	}
	if err := c.Stop(); err != nil {
		return err
	}
	needles := site.Needles(flows...)
	found, err := site.Found(file, needles)
	if err != nil {
		return err
	}
	fmt.Printf("    found %d of %d needles in the unprotected capture\n", len(found), len(needles))
	if len(found) != len(needles) {
		return fmt.Errorf("the search is not able to find: only %v", found)
	}
	return os.Remove(file)
}

func protected(t *site.TwoSites, o options, folder string) error {
	all := filepath.Join(folder, "all.pcap")
	c, err := t.Router.Capture("to-b", all, "")
	if err != nil {
		return err
	}
	step("two daemons negotiate (logs in %s/{a,b}/yumen.log)", o.folder)
	begin := time.Now()
	if err := t.B.Start(); err != nil {
		return err
	}
	if err := t.B.WaitReady(o.patience); err != nil {
		return err
	}
	if err := t.A.Start(); err != nil {
		return err
	}
	for _, g := range []*site.Gateway{t.A, t.B} {
		if err := g.WaitUp(o.patience); err != nil {
			return err
		}
	}
	up := time.Since(begin)
	fmt.Printf("    both tunnels up at both ends %.1f s after the start of the daemons\n", up.Seconds())
	flows := t.Flows()
	rates, err := traffic(flows, o)
	if err != nil {
		return err
	}
	step("status of both gateways")
	for _, g := range []*site.Gateway{t.A, t.B} {
		out, err := g.Command("status")
		if err != nil {
			return err
		}
		fmt.Printf("%s", "    "+strings.ReplaceAll(strings.TrimRight(out, "\n"), "\n", "\n    ")+"\n\n")
	}
	for _, g := range []*site.Gateway{t.A, t.B} {
		if err := g.Daemon().Stop(5 * time.Second); err != nil {
			return fmt.Errorf("stopping the daemon of %s: %w", g.Dir, err)
		}
	}
	if err := c.Stop(); err != nil {
		return err
	}
	return judge(folder, all, flows, rates, o)
}

func traffic(flows []site.Flow, o options) ([]float64, error) {
	step("ping, markers and %d MiB of TCP, each way, IPv4 and IPv6", o.bulk)
	var rates []float64
	for _, f := range flows {
		if err := f.Ping(); err != nil {
			return nil, err
		}
		if err := f.Datagram(); err != nil {
			return nil, err
		}
		rate, err := f.Bulk(o.bulk << 20)
		if err != nil {
			return nil, fmt.Errorf("TCP from %s to %s: %w", f.FromAddr, f.ToAddr, err)
		}
		fmt.Printf("    %-10s -> %-10s  ping ok, TCP %6.1f Mbit/s\n", f.FromAddr, f.ToAddr, rate/1e6)
		rates = append(rates, rate)
	}
	return rates, nil
}

// judge searches the capture and has it decoded and verified with both keys.
func judge(folder, all string, flows []site.Flow, rates []float64, o options) error {
	needles := site.Needles(flows...)
	step("searching the outside capture for %d needles: markers and pairs of inner addresses", len(needles))
	found, err := site.Found(all, needles)
	if err != nil {
		return err
	}
	if len(found) > 0 {
		return fmt.Errorf("in clear on the outside wire: %v", found)
	}
	size, err := os.Stat(all)
	if err != nil {
		return err
	}
	outside := filepath.Join(folder, "outside.pcap")
	if err := site.Excerpt(all, outside, espOfEach); err != nil {
		return err
	}
	if err := os.Remove(all); err != nil {
		return err
	}
	step("verifying the capture with both encryption keys: yumen decode")
	args := []string{"decode", outside, "--key", filepath.Join(folder, "a", "enc.key"), "--key", filepath.Join(folder, "b", "enc.key")}
	if o.suite == "cbc" {
		args = append(args, "--icv", o.icv)
	}
	decoded, err := exec.Command(o.yumen, args...).CombinedOutput()
	if werr := os.WriteFile(filepath.Join(folder, "outside.txt"), decoded, 0o644); werr != nil {
		return werr
	}
	if err != nil {
		return fmt.Errorf("yumen decode does not verify the capture (see %s/outside.txt): %w", o.folder, err)
	}
	lowest := rates[0]
	for _, r := range rates {
		lowest = min(lowest, r)
	}
	fmt.Printf("\nVERDICT: OK. SM2/SM3/SM4 negotiated, every signature, hash and ESP packet of outside.pcap verified;\n"+
		"         4 of 4 flows delivered, slowest %.1f Mbit/s; 0 of %d needles in clear in %.1f MB outside.\n"+
		"         Files: %s\n", lowest/1e6, len(needles), float64(size.Size())/1e6, o.folder)
	return nil
}
