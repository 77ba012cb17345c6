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
	ratios            string
}

// row is a line of the table: one contender against another.
type row struct {
	what, how  string
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
	flag.StringVar(&o.ratios, "ratios", "", "file with what the benchmarks of the packages printed, for the table")
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
	print(all)
	return table(o, []row{
		{"TCP, one stream through two gateways: ESP in UDP, SM4-CBC+HMAC-SM3, vs wireguard-go", wire, udp, wg, 0.5, 0.8},
		{"the same vs strongSwan kernel-libipsec, AES-128-CBC+SHA-256", wire, udp, swan, 4, 7},
		{"protocol 50, SM4-CBC+HMAC-SM3, vs a bare raw-socket batch sender", wire, raw, bare, 0.5, 0.7},
		{"the same through two gateways", wire, both, bare, 0.5, 0.7},
	})
}

// wire is what is the same for all that goes over a veth.
const wire = "nothing pinned, veth with MTU 1500, the host's offloads on at both sides, ours as said above"

// table prints all ratios: those of the benchmarks, if their output is at hand, and
// those of the contenders.
func table(o options, rows []row) error {
	var list []line
	if o.ratios != "" {
		var err error
		if list, err = fromBenchmarks(o.ratios); err != nil {
			return err
		}
	}
	for _, r := range rows {
		l := line{what: r.what, how: r.how, must: r.must, aim: r.aim}
		if b := median(r.than.rates); r.ours.why == "" && r.than.why == "" && b > 0 {
			l.measured = median(r.ours.rates) / b
		}
		list = append(list, l)
	}
	printTable(list)
	return nil
}

func print(all []*contender) {
	fmt.Printf("two gateways in namespaces, veth, MTU 1500, %d cores, nothing pinned, %s %s\n", runtime.NumCPU(), runtime.GOOS, runtime.GOARCH)
	fmt.Println("a veth passes large packets whole: these figures compare programs and are not line rate")
	for _, c := range all {
		fmt.Printf("  %-18s %-8s %s\n", c.name, c.figure(), c.about)
		if c.why == "" {
			fmt.Printf("  %-18s %-8s rounds:%s Gbit/s%s\n", "", "", listed(c.rates), c.pair.said())
		}
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
