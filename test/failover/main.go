// Failover has two sites with two paths between them lose paths in every way that
// paths are lost, under numbered traffic both ways, and prints what each cost: packets
// and milliseconds without delivery, flips, and frames in clear. The exit status is 1
// if something took longer than it may, or was seen in clear.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"yumen/test/site"
)

func main() {
	only := flag.String("only", "", "cases whose name holds this")
	seed := flag.Uint64("seed", uint64(time.Now().UnixNano()), "of the wires' dice")
	yumen := flag.String("yumen", "build/yumen", "the binary")
	out := flag.String("out", "build/failover", "folder for logs")
	flag.Parse()
	if why := site.Missing(); why != "" {
		fmt.Println("this machine cannot run it: " + why)
		os.Exit(1)
	}
	if err := all(*yumen, *out, *only, *seed); err != nil {
		fmt.Fprintln(os.Stderr, "FAILED:", err)
		os.Exit(1)
	}
}

// all plays every case that is wanted.
func all(yumen, out, only string, seed uint64) error {
	yumen, err := filepath.Abs(yumen)
	if err != nil {
		return err
	}
	if out, err = filepath.Abs(out); err != nil {
		return err
	}
	if err := os.RemoveAll(out); err != nil {
		return err
	}
	fmt.Printf("seed %d; probes every 100 ms; %d packets/s in each direction, IPv4 and IPv6\n", seed, rate)
	heading(os.Stdout)
	var faults []error
	for _, k := range kinds() {
		list := slices.DeleteFunc(scenes(), func(c scene) bool { return c.world != k.name || !strings.Contains(c.name, only) })
		if len(list) == 0 {
			continue
		}
		err := inWorld(yumen, filepath.Join(out, strings.ReplaceAll(k.name, " ", "-")), k, seed, func(s *sites) error {
			var faults []error
			for i := range list {
				r, err := s.play(&list[i])
				if err != nil {
					return errors.Join(append(faults, err)...)
				}
				r.write(os.Stdout)
				for _, f := range r.faults {
					faults = append(faults, fmt.Errorf("%s: %s", r.name, f))
				}
			}
			return errors.Join(faults...)
		})
		faults = append(faults, err)
	}
	return errors.Join(faults...)
}

// inWorld builds a world of a kind, does something in it and takes it away.
func inWorld(yumen, dir string, k kind, seed uint64, do func(s *sites) error) error {
	w := site.New()
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	defer func() { signal.Stop(stop); close(stop) }()
	go func() {
		if _, interrupted := <-stop; interrupted {
			w.Close()
			os.Exit(130)
		}
	}()
	defer w.Close()
	s, err := build(w, yumen, dir, k)
	if err != nil {
		return err
	}
	if err := s.begin(seed); err != nil {
		return fmt.Errorf("%s: %w", k.name, err)
	}
	return do(s)
}

func heading(w io.Writer) {
	fmt.Fprintf(w, "%-24s | %-31s | %-31s | %-7s | %s\n", "", "while the path fails", "while it comes back", "flips", "")
	fmt.Fprintf(w, "%-24s | %-15s %-15s | %-15s %-15s | %3s %3s | %s\n", "case", "a > b lost, ms", "b > a lost, ms", "a > b lost, ms", "b > a lost, ms", "a", "b", "clear")
}

// write prints a row.
func (r *result) write(w io.Writer) {
	cell := func(o outcome) string { return fmt.Sprintf("%6d %6d", o.lost, o.gap.Milliseconds()) }
	fmt.Fprintf(w, "%-24s | %-15s %-15s | %-15s %-15s | %3d %3d | %d\n", r.name, cell(r.fault[0]), cell(r.fault[1]), cell(r.back[0]), cell(r.back[1]),
		r.flips[0], r.flips[1], r.clear)
	if max(r.late[0], r.late[1]) > 20*time.Millisecond {
		fmt.Fprintf(w, "%-24s   (the machine was busy: the generator stood still for up to %d and %d ms, which are granted)\n", "",
			r.late[0].Milliseconds(), r.late[1].Milliseconds())
	}
	for _, f := range r.faults {
		fmt.Fprintf(w, "%-24s   TOO MUCH: %s\n", "", f)
	}
}
