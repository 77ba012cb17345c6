// Bench measures what a tunnel carries against others on the same machine, in the
// same run: for each contender two network namespaces with one veth pair between
// them and a gateway in each, one TCP stream between addresses behind the gateways.
// Rounds are interleaved, so that other load hits all alike, and of each contender
// the median counts. Who is not installed is "not measured".
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"yumen/test/site"
)

// contender is one way from A to B.
type contender struct {
	name  string
	about string
	start func(p *pairing) error // builds what carries the packets
	rate  func(p *pairing, d time.Duration) (float64, error)
	why   string // it is not measured
	pair  *pairing
	rates []float64
}

// options are for our planes.
type options struct {
	without, profiles string
	only              []string
}

// row is a line of the table: one contender against another.
type row struct {
	what       string
	ours, than *contender
	must, aim  float64
}

func main() {
	if len(os.Args) == 3 && os.Args[1] == "plane" {
		if err := runPlane(os.Args[2]); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		return
	}
	rounds := flag.Int("rounds", 5, "rounds, of which the median counts")
	each := flag.Duration("time", 3*time.Second, "length of one measurement")
	wireguard := flag.String("wireguard", "build/wireguard", "the program wireguard-go")
	only := flag.String("only", "", "contenders, comma-separated; empty: all")
	var o options
	flag.StringVar(&o.without, "without", "", "offloads that our planes do without: "+allOffloads())
	flag.StringVar(&o.profiles, "profiles", "", "folder for a CPU profile of each of our planes")
	flag.Parse()
	if why := site.Missing(); why != "" {
		fmt.Println("bench: not measured:", why)
		return
	}
	o.only = strings.FieldsFunc(*only, func(r rune) bool { return r == ',' })
	if err := bench(*rounds, *each, *wireguard, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func bench(rounds int, each time.Duration, wireguard string, o options) error {
	world := site.New()
	world.Large = true
	defer world.Close()
	dir, err := os.MkdirTemp("", "yumen-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	wireguard, err = filepath.Abs(wireguard)
	if err != nil {
		return err
	}
	udp, gcm, raw, both := ours("udp", inUDP, o), ours("gcm", inGCM, o), ours("raw", rawOut, o), ours("raw-through", rawAll, o)
	wg, swan, bare := wireguardGo(wireguard), strongSwan(), bareSender()
	all := []*contender{udp, gcm, wg, swan, raw, both, bare}
	for i, c := range all {
		if len(o.only) > 0 && !slices.Contains(o.only, c.name) {
			c.why = "not wanted"
		}
		if c.why != "" {
			continue
		}
		if c.pair, err = newPairing(world, fmt.Sprint("p", i), filepath.Join(dir, c.name)); err != nil {
			return err
		}
		if err := c.start(c.pair); err != nil {
			c.why = err.Error()
		}
	}
	for range rounds {
		for _, c := range all {
			if c.why != "" {
				continue
			}
			r, err := c.rate(c.pair, each)
			if err != nil {
				c.why = err.Error()
				continue
			}
			c.rates = append(c.rates, r)
		}
	}
	for _, c := range []*contender{udp, gcm, raw, both} {
		if c.pair == nil {
			continue
		}
		for _, plane := range c.pair.planes { // in order, so that they write what they have
			if err := plane.Stop(5 * time.Second); err != nil && c.why == "" {
				c.why = err.Error()
			}
		}
	}
	print(all, []row{
		{"TCP, one stream: ESP in UDP, SM4-CBC+HMAC-SM3, vs wireguard-go", udp, wg, 0.5, 0.8},
		{"the same vs strongSwan kernel-libipsec, AES-128-CBC+SHA-256", udp, swan, 4, 7},
		{"protocol 50, SM4-CBC+HMAC-SM3, vs a bare raw-socket batch sender", raw, bare, 0.5, 0.7},
		{"the same through two gateways", both, bare, 0.5, 0.7},
	})
	return nil
}

func print(all []*contender, rows []row) {
	fmt.Printf("two gateways in namespaces, veth, MTU 1500, %d cores, nothing pinned, %s %s\n", runtime.NumCPU(), runtime.GOOS, runtime.GOARCH)
	fmt.Println("a veth passes large packets whole: these figures compare programs and are not line rate")
	for _, c := range all {
		fmt.Printf("  %-18s %-8s %s\n", c.name, c.figure(), c.about)
		if c.why == "" {
			fmt.Printf("  %-18s %-8s rounds:%s Gbit/s%s\n", "", "", listed(c.rates), c.pair.said())
		}
	}
	fmt.Printf("%-66s %9s %6s %6s\n", "ratio", "measured", "must", "aim")
	for _, r := range rows {
		measured := "not measured"
		if a, b := median(r.ours.rates), median(r.than.rates); r.ours.why == "" && r.than.why == "" && b > 0 {
			measured = fmt.Sprintf("%.2f", a/b)
		}
		fmt.Printf("%-66s %9s %6.2g %6.2g\n", r.what, measured, r.must, r.aim)
	}
}

func (c *contender) figure() string {
	if c.why != "" {
		return "not measured (" + strings.TrimSpace(c.why) + ")"
	}
	return fmt.Sprintf("%.3f", median(c.rates)/1e9)
}

func listed(rates []float64) string {
	var b strings.Builder
	for _, r := range rates {
		fmt.Fprintf(&b, " %.2f", r/1e9)
	}
	return b.String()
}

func median(list []float64) float64 {
	if len(list) == 0 {
		return 0
	}
	list = slices.Sorted(slices.Values(list))
	return list[len(list)/2]
}
