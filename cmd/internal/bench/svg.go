package bench

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"yumen/cmd/internal/svg"
)

// bar is one bar of a chart.
type bar struct {
	label string
	value float64
}

// chart is a drawing of horizontal bars, longest at full width.
type chart struct {
	name, title string // of the file, without its ending; above the bars
	bars        []bar
}

// Plots writes one SVG file for each kind of figure into a folder, made if it does
// not exist, and returns their paths. Errors name the file.
func (r *Report) Plots(dir string) (files []string, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	for _, c := range r.charts() {
		file := filepath.Join(dir, c.name+".svg")
		if e := os.WriteFile(file, c.svg(strings.Join(r.Conditions.Notes, " ")), 0o644); e != nil {
			err = errors.Join(err, e)
			continue
		}
		files = append(files, file)
	}
	return files, err
}

// charts are those that have a bar.
func (r *Report) charts() (list []chart) {
	thr, loss := chart{name: "throughput", title: "Throughput of both directions together and of one, Mbit/s"}, chart{name: "loss", title: "Loss at the full rate of the generator, %"}
	lat, tun := chart{name: "latency", title: "Delay and round trips, microseconds"}, chart{name: "tunnels", title: "New tunnels per second"}
	ker := chart{name: "kernels", title: "Crypto kernels on one core, Mbit/s"}
	for _, x := range r.Throughput {
		thr.bars = append(thr.bars, bar{x.Plane + ", " + x.Way + ", " + x.Case + ", " + directions(x.Directions), x.Mbit})
	}
	for _, x := range r.Loss {
		loss.bars = append(loss.bars, bar{x.Plane + ", " + x.Way + ", " + x.Case, x.Loss})
	}
	for _, x := range r.Latency {
		what := x.Plane + ", " + x.Way + ", " + x.Case
		lat.bars = append(lat.bars, bar{what + ", mean one way", x.Delay}, bar{what + ", median", x.Median}, bar{what + ", p99", x.P99})
	}
	for _, x := range r.Tunnels {
		tun.bars = append(tun.bars, bar{x.Plane, x.PerSecond})
	}
	for _, x := range r.Kernels {
		ker.bars = append(ker.bars, bar{x.Name + ", " + x.Suite + ", seal", x.Seal}, bar{x.Name + ", " + x.Suite + ", open", x.Open})
	}
	for _, c := range []chart{thr, loss, lat, tun, ker} {
		if len(c.bars) > 0 {
			list = append(list, c)
		}
	}
	return list
}

// svg draws the chart; the note is its description, for who reads the file alone.
func (c chart) svg(note string) []byte {
	const row, top, left, width, total = 24, 48, 320, 400, 820
	var most float64
	for _, b := range c.bars {
		most = max(most, b.value)
	}
	d := svg.New(total, top+row*len(c.bars)+16, c.title, note)
	d.Text(16, 28, c.title, `font-size="16"`)
	for i, b := range c.bars {
		y, long := float64(top+row*i), 0.0
		if most > 0 {
			long = width * b.value / most
		}
		d.Text(left-8, y+15, b.label, `text-anchor="end"`)
		d.Box(left, y+2, long, row-6, svg.Figure)
		d.Text(left+long+6, y+15, short(b.value))
	}
	return d.Close()
}

func short(x float64) string {
	if x >= 100 {
		return num(x, 0)
	}
	return num(x, 2)
}
