package bench

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// WriteText writes the report for people.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	m, c := r.Machine, r.Conditions
	fmt.Fprintf(&b, "%s, %d cores, Linux %s\nCPU features: %s\nuserspace ESP takes the path %s (%s)\n", m.CPU, m.Cores, m.Kernel,
		strings.Join(m.Features, " "), m.Path, timing(m.ConstantTime))
	for _, way := range c.Ways {
		fmt.Fprintf(&b, "%s: %s, %s, MTU %d\n", way.Name, way.Suite, way.Outside, way.MTU)
	}
	fmt.Fprintf(&b, "trials of %g s, medians of %d; throughput may lose %g %%\n", c.Seconds, c.Rounds, c.AcceptLoss)
	for _, n := range c.Notes {
		fmt.Fprintf(&b, "note: %s\n", n)
	}
	for _, t := range r.tables() {
		if len(t.rows) == 0 {
			continue
		}
		fmt.Fprintf(&b, "\n%s\n", t.title)
		tw := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		fmt.Fprintln(tw, "  "+strings.Join(t.head, "\t"))
		for _, row := range t.rows {
			fmt.Fprintln(tw, "  "+strings.Join(row, "\t"))
		}
		_ = tw.Flush() // into memory
	}
	if len(r.NotMeasured) > 0 {
		b.WriteString("\n")
	}
	for _, g := range r.NotMeasured {
		fmt.Fprintf(&b, "%s: not measured: %s\n", g.What, g.Reason)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func timing(constant bool) string {
	if constant {
		return "constant-time"
	}
	return "with key-dependent look-ups"
}

type table struct {
	title string
	head  []string
	rows  [][]string
}

func (r *Report) tables() []table {
	thr := table{title: "Throughput, of both directions together and of one alone", head: []string{"plane", "way", "frames", "directions", "Mbit/s", "frames/s", "lost"}}
	for _, x := range r.Throughput {
		thr.rows = append(thr.rows, []string{x.Plane, x.Way, x.Case, directions(x.Directions), num(x.Mbit, 1), num(x.Packets, 0), num(x.Loss, 3) + " %"})
	}
	loss := table{title: "Loss when all is sent that the generator can send, in both directions", head: []string{"plane", "way", "frames", "offered Mbit/s", "received Mbit/s", "frames/s", "lost"}}
	for _, x := range r.Loss {
		loss.rows = append(loss.rows, []string{x.Plane, x.Way, x.Case, num(x.Offered, 1), num(x.Received, 1), num(x.Packets, 0), num(x.Loss, 3) + " %"})
	}
	lat := table{title: "Delay at a low rate: one way, and round trips", head: []string{"plane", "way", "frames", "mean one way us", "median round trip us", "p99 us", "samples", "lost"}}
	for _, x := range r.Latency {
		lat.rows = append(lat.rows, []string{x.Plane, x.Way, x.Case, num(x.Delay, 1), num(x.Median, 1), num(x.P99, 1), fmt.Sprint(x.Samples), fmt.Sprint(x.Lost)})
	}
	tun := table{title: "Tunnels: main mode and quick mode, each peer with certificates of its own",
		head: []string{"plane", "new/s", "gateway ms CPU", "new/s per gateway core", "concurrent", "repeated", "KiB each", "resident MiB"}}
	for _, x := range r.Tunnels {
		tun.rows = append(tun.rows, []string{x.Plane, num(x.PerSecond, 1), known(x.GatewayCPU, 2), known(x.PerCore, 0),
			fmt.Sprint(x.Concurrent), fmt.Sprint(x.Repeated), num(x.Memory, 1), num(x.Resident, 1)})
	}
	ker := table{title: "Crypto kernels: one core, no I/O, 24 packets of 1428 bytes at a time", head: []string{"kernel", "timing", "suite", "seal Mbit/s", "open Mbit/s"}}
	for _, x := range r.Kernels {
		ker.rows = append(ker.rows, []string{x.Name, timing(x.ConstantTime), x.Suite, num(x.Seal, 0), num(x.Open, 0)})
	}
	return []table{thr, loss, lat, tun, ker}
}

func num(x float64, digits int) string { return fmt.Sprintf("%.*f", digits, x) }

// known is a figure of which zero means that it is not known.
func known(x float64, digits int) string {
	if x == 0 {
		return "-"
	}
	return num(x, digits)
}
