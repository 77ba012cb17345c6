// Soak renews keys thousands of times between two real daemons under constant
// numbered traffic both ways, on a wire that may drop, repeat and delay, and
// accounts for every packet. It ends with one line and, unless everything in it
// but the number of rekeys is zero, with an exit status of 1.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"yumen/test/site"
)

func main() {
	rekeys := flag.Int("rekeys", 10000, "how many rekeys")
	loss := flag.Float64("loss", 0, "per cent of frames that the wire drops")
	seed := flag.Uint64("seed", uint64(time.Now().UnixNano()), "of the wire's dice")
	yumen := flag.String("yumen", "build/yumen", "the binary")
	out := flag.String("out", "build/soak", "folder for logs")
	flag.Parse()
	if why := site.Missing(); why != "" {
		fmt.Println("this machine cannot run the soak: " + why)
		os.Exit(1)
	}
	w := site.New()
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-stop
		w.Close()
		os.Exit(130)
	}()
	fmt.Printf("seed %d\n", *seed)
	err := do(w, soak(*rekeys, *loss/100), *yumen, *out, *seed)
	w.Close()
	if err != nil {
		fmt.Fprintln(os.Stderr, "FAILED:", err)
		os.Exit(1)
	}
}

func do(w *site.World, s *scenario, yumen, out string, seed uint64) error {
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
	r, err := s.start(w, yumen, out, seed)
	if err != nil {
		return err
	}
	begin := time.Now()
	r.tell = func(format string, args ...any) {
		fmt.Printf("%8s %s\n", time.Since(begin).Round(time.Second), fmt.Sprintf(format, args...))
	}
	if err := r.waitUp(5 * time.Minute); err != nil {
		return err
	}
	r.tell("%d tunnels over %d ISAKMP SAs are up", s.count(), s.pairs)
	played := r.play()
	return errors.Join(played, r.verdict(os.Stdout))
}
