package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"time"

	"yumen/test/site"
)

var background = context.Background()

// desk gives orders to a daemon by its control socket, without a process for each.
type desk struct{ http *http.Client }

func newDesk(g *site.Gateway) *desk {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", filepath.Join(g.Dir, "control.sock"))
	}
	return &desk{&http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DialContext: dial}}}
}

// rekey is what `yumen rekey` does.
func (d *desk) rekey(tunnel string) error { return d.order("/v1/rekey", tunnel) }

func (d *desk) order(path, tunnel string) error {
	body, err := json.Marshal(map[string]string{"tunnel": tunnel})
	if err != nil {
		return err
	}
	answer, err := d.http.Post("http://gateway"+path, "application/json", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, _ := io.ReadAll(answer.Body)
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %s: %s", path, tunnel, answer.Status, text)
	}
	return nil
}

// together gives the same order to both daemons in the same instant.
func together(desks [2]*desk, path, tunnel string) error {
	var errs [2]error
	var ready, done sync.WaitGroup
	start := make(chan struct{})
	ready.Add(2)
	for i, d := range desks {
		done.Go(func() {
			ready.Done()
			<-start
			errs[i] = d.order(path, tunnel)
		})
	}
	ready.Wait()
	close(start)
	done.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// birth is a child that became the one its tunnel sends on.
type birth struct {
	tunnel  string
	in, out uint32 // SPIs, as the daemon sees them
}

// journal reads what a daemon's log adds.
type journal struct {
	file   string
	offset int64
	births []birth
	words  map[string]int // events by name
}

func newJournal(g *site.Gateway) *journal {
	return &journal{file: filepath.Join(g.Dir, "yumen.log"), words: map[string]int{}}
}

// read takes in all whole lines that are new.
func (j *journal) read() error {
	f, err := os.Open(j.file)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Seek(j.offset, io.SeekStart); err != nil {
		return err
	}
	b, err := io.ReadAll(f)
	if err != nil {
		return err
	}
	line, field := regexp.MustCompile(`msg=(\S+)(.*)`), regexp.MustCompile(`(\w+)=(\S+)`)
	for {
		end := bytes.IndexByte(b, '\n')
		if end < 0 {
			return nil
		}
		found := line.FindSubmatch(b[:end])
		b, j.offset = b[end+1:], j.offset+int64(end)+1
		if found == nil {
			continue
		}
		word := string(found[1])
		j.words[word]++
		if word != "child-up" && word != "child-rekeyed" {
			continue
		}
		var x birth
		for _, f := range field.FindAllSubmatch(found[2], -1) {
			switch string(f[1]) {
			case "tunnel":
				x.tunnel = string(f[2])
			case "in_spi":
				_, _ = fmt.Sscanf(string(f[2]), "%x", &x.in)
			case "out_spi":
				_, _ = fmt.Sscanf(string(f[2]), "%x", &x.out)
			}
		}
		if x.tunnel == "" || x.in == 0 || x.out == 0 {
			return fmt.Errorf("%s: a child without its SPIs: %s", j.file, found[0])
		}
		j.births = append(j.births, x)
	}
}
