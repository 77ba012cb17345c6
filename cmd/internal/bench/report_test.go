package bench

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"yumen/test/golden"
)

// sample is a report with figures of every kind.
func sample() *Report {
	m := Machine{Cores: 2, Kernel: "6.1.0", Path: "vaes", ConstantTime: true}
	m.readCPU("model name\t: A <fast> CPU\nflags\t\t: fpu aes avx2 vaes vpclmulqdq pclmulqdq\n")
	r := &Report{When: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), Machine: m, Conditions: Standard().conditions(),
		Throughput: []Throughput{{"user", "cbc", "IPv4 64", 2, 51.25, 100097.7, 0.05}, {"user", "gcm-udp", "IPv4 1428", 1, 1143, 100052.5, 0}},
		Loss:       []Loss{{"user", "cbc", "IPv4 64", 80, 60, 117187.5, 25}},
		Latency:    []Latency{{"user", "cbc", "IPv4 64", 49.25, 95.5, 210.125, 1499, 1}},
		Tunnels:    []Tunnels{{"user", 420.5, 1.9, 526.316, 500, 2, 41.2, 48.5}, {"kernel", 400, 0, 0, 5, 0, 40, 30}},
		Kernels:    []Kernel{{"generic", false, "ESP:SM4_CBC/HMAC_SM3_96", 230, 500}, {"vaes", true, "ESP:SM4_CBC/HMAC_SM3_96", 2001, 1450}},
	}
	r.gap("plane kernel", errors.New("no sm4 & no sm3"))
	return r
}

func TestReportsReadAsTheGoldenFilesSay(t *testing.T) {
	var text, program bytes.Buffer
	if err := errors.Join(sample().WriteText(&text), sample().WriteJSON(&program)); err != nil {
		t.Fatal(err)
	}
	golden.Check(t, "testdata/report.txt", text.Bytes())
	golden.Check(t, "testdata/report.json", program.Bytes())
}

func TestPlotsAreWellFormedDrawings(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "folder")
	files, err := sample().Plots(dir)
	if err != nil || len(files) != 5 {
		t.Fatalf("%v: %v", files, err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for d := xml.NewDecoder(bytes.NewReader(b)); ; {
			if _, err := d.Token(); err == io.EOF {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
		}
		if !strings.Contains(string(b), "not line rate") {
			t.Errorf("%s does not say that it is no line rate", file)
		}
	}
	b, err := os.ReadFile(filepath.Join(dir, "throughput.svg"))
	if err != nil {
		t.Fatal(err)
	}
	golden.Check(t, "testdata/throughput.svg", b)
	odd := chart{title: "a < b & c", bars: []bar{{"<zero>", 0}}}.svg("")
	if s := string(odd); !strings.Contains(s, "a &lt; b &amp; c") || !strings.Contains(s, `width="0"`) {
		t.Errorf("a chart of zeros, with odd names: %s", s)
	}
	if files, err := (&Report{}).Plots(dir); err != nil || len(files) != 0 {
		t.Errorf("a report of nothing: %v, %v", files, err)
	}
}

func TestMediansAndPercentilesAreThoseOfTheDefinition(t *testing.T) {
	for _, c := range []struct {
		values      []float64
		median, p99 float64
	}{
		{nil, 0, 0}, {[]float64{7}, 7, 7}, {[]float64{9, 1}, 5, 9}, {[]float64{3, 1, 2}, 2, 3}, {[]float64{4, 1, 3, 2}, 2.5, 4},
	} {
		if m, p := median(c.values), percentile(c.values, 99); m != c.median || p != c.p99 {
			t.Errorf("%v: median %v, 99th percentile %v", c.values, m, p)
		}
	}
	var hundred []float64
	for i := range 100 {
		hundred = append(hundred, float64(100-i))
	}
	if p := percentile(hundred, 99); p != 99 {
		t.Errorf("99th percentile of 1 to 100: %v", p)
	}
	if hundred[0] != 100 {
		t.Error("the values of the caller were sorted")
	}
}

func TestEachNumberOfItsTrialCountsOnce(t *testing.T) {
	c := &counter{header: 28, trial: 3}
	packet := func(trial, number uint64) []byte {
		b := make([]byte, 36)
		x := trial<<seqBits | number
		for i := range 8 {
			b[i] = byte(x >> (56 - 8*i))
		}
		return b
	}
	for _, b := range [][]byte{packet(3, 0), packet(3, 200), packet(3, 64), packet(3, 200), packet(2, 5), packet(3, 1<<33), {1, 2}} {
		c.take(b, time.Time{})
	}
	if n := c.packets.Load(); n != 3 || c.bytes != 3*64 {
		t.Errorf("%d packets of %d bytes counted, want 3 of 192", n, c.bytes)
	}
	lost := trial{sent: 4, received: 3, sentBytes: 4e6, receivedBytes: 3e6, sending: time.Second, receiving: 2 * time.Second}
	if lost.loss() != 25 || lost.offered() != 32 || lost.arrived() != 12 || lost.rate() != 1.5 {
		t.Errorf("loss %v, offered %v, arrived %v, rate %v", lost.loss(), lost.offered(), lost.arrived(), lost.rate())
	}
}

func TestLengthsAreThoseOfFramesAndBothDirectionsAreSummed(t *testing.T) {
	want := map[string][2]int{"IPv4": {46, 1410}, "IPv6": {56, 1390}} // IP packets
	for _, f := range families() {
		loads := f.loads()
		for i, n := range want[f.name] {
			if got := loads[i].lengths[0] - ethernet; got != n {
				t.Errorf("%s: an IP packet of %d bytes, want %d", loads[i].name, got, n)
			}
		}
		mix := map[int]int{}
		for _, n := range loads[2].lengths {
			mix[n]++
			if n-f.header < numberLen {
				t.Errorf("%s: %d bytes have no room for a number", loads[2].name, n)
			}
		}
		if mix[loads[0].lengths[0]] != 7 || mix[576] != 4 || mix[loads[1].lengths[0]] != 1 {
			t.Errorf("%s: %v", loads[2].name, mix)
		}
	}
	sum := trial{sent: 4, received: 3, sentBytes: 4e6, receivedBytes: 3e6, sending: time.Second, receiving: 2 * time.Second}
	sum.add(trial{sent: 6, received: 6, sentBytes: 6e6, receivedBytes: 6e6, sending: 2 * time.Second, receiving: time.Second})
	if sum.loss() != 10 || sum.offered() != 40 || sum.arrived() != 36 || sum.rate() != 4.5 {
		t.Errorf("loss %v, offered %v, arrived %v, rate %v", sum.loss(), sum.offered(), sum.arrived(), sum.rate())
	}
	if m := mean([]float64{1, 2, 6}); m != 3 || mean(nil) != 0 {
		t.Errorf("mean %v", m)
	}
}

func TestOptionsThatMakeNoSenseAreRefused(t *testing.T) {
	for want, change := range map[string]func(*Options){
		"seconds":  func(o *Options) { o.Seconds = 0 },
		"tunnels":  func(o *Options) { o.Tunnels = 4 },
		"accepted": func(o *Options) { o.AcceptLoss = -1 },
		"speed":    func(o *Options) { o.Only = []string{"speed"} },
	} {
		o := Standard()
		change(&o)
		if _, err := Run(context.Background(), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	if err := errors.Join(Standard().Check(), Quick().Check()); err != nil {
		t.Error(err)
	}
}

func TestKernelsAreMeasuredWithoutRoot(t *testing.T) {
	o := Quick()
	o.Only, o.Seconds = []string{"kernels"}, 0.05
	r, err := Run(context.Background(), o)
	if err != nil || len(r.Kernels) < 2 || r.Machine.Path == "" {
		t.Fatalf("%v: %+v", err, r)
	}
	for _, k := range r.Kernels {
		if k.Seal <= 0 || k.Open <= 0 {
			t.Errorf("%+v", k)
		}
	}
}
