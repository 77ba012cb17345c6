// Package bench measures what GM/T 0023 asks of a gateway on the machine that it
// runs on: throughput, loss and latency through a real pair of gateways, tunnels
// a second, memory of a tunnel, and the speed of each crypto kernel. All packets
// stay in network namespaces without a name, which the kernel removes when the
// process ends, however it ends. It refuses to judge: figures of one machine that
// plays both gateways and both hosts are no line rate, and the report says so.
package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"
)

// Report is everything that one run found out.
type Report struct {
	When        time.Time    `json:"when"`
	Machine     Machine      `json:"machine"`
	Conditions  Conditions   `json:"conditions"`
	Throughput  []Throughput `json:"throughput,omitempty"`
	Loss        []Loss       `json:"loss,omitempty"`
	Latency     []Latency    `json:"latency,omitempty"`
	Tunnels     []Tunnels    `json:"tunnels,omitempty"`
	Kernels     []Kernel     `json:"kernels,omitempty"`
	NotMeasured []Gap        `json:"not_measured,omitempty"`
}

// Machine is where it was measured.
type Machine struct {
	CPU          string   `json:"cpu"`
	Cores        int      `json:"cores"`
	Kernel       string   `json:"kernel"`
	Features     []string `json:"features"`      // of the CPU, those that matter to SM3 and SM4
	Path         string   `json:"path"`          // of userspace ESP, as esp.Kernels names it
	ConstantTime bool     `json:"constant_time"` // of that path
}

// Conditions are what the figures depend on.
type Conditions struct {
	Ways       []Way    `json:"ways"`
	Seconds    float64  `json:"seconds"`             // of one trial
	Rounds     int      `json:"rounds"`              // trials that a median is taken of
	AcceptLoss float64  `json:"accept_loss_percent"` // what throughput may lose
	Notes      []string `json:"notes"`
}

// Throughput is the highest rate found at which no more is lost than accepted: of both
// directions together, at the same time, or of one alone. Rates count inner frames.
type Throughput struct {
	Plane      string  `json:"plane"`
	Way        string  `json:"way"`
	Case       string  `json:"case"`
	Directions int     `json:"directions"`
	Mbit       float64 `json:"mbit_per_s"`
	Packets    float64 `json:"packets_per_s"`
	Loss       float64 `json:"loss_percent"` // median at that rate
}

// directions is how people say it.
func directions(n int) string {
	if n == 2 {
		return "both"
	}
	return "one"
}

// Loss is what becomes of all that the generator can send, in both directions.
type Loss struct {
	Plane    string  `json:"plane"`
	Way      string  `json:"way"`
	Case     string  `json:"case"`
	Offered  float64 `json:"offered_mbit_per_s"`
	Received float64 `json:"received_mbit_per_s"`
	Packets  float64 `json:"received_packets_per_s"`
	Loss     float64 `json:"loss_percent"`
}

// Latency is of packets through both gateways at a low rate, in microseconds. Delay is
// what the standard asks for, the mean one way: half a round trip. The others are of
// round trips.
type Latency struct {
	Plane   string  `json:"plane"`
	Way     string  `json:"way"`
	Case    string  `json:"case"`
	Delay   float64 `json:"mean_one_way_us"`
	Median  float64 `json:"median_us"`
	P99     float64 `json:"p99_us"`
	Samples int     `json:"samples"`
	Lost    int     `json:"lost"`
}

// Tunnels is what tunnels cost a gateway: a main mode and a quick mode each, of
// peers with identities of their own.
type Tunnels struct {
	Plane      string  `json:"plane"`
	PerSecond  float64 `json:"per_second"`       // both ends on this machine
	GatewayCPU float64 `json:"gateway_cpu_ms"`   // of the measured gateway, for each tunnel; 0: too short to tell
	PerCore    float64 `json:"per_gateway_core"` // 1000/GatewayCPU; 0: too short to tell
	Concurrent int     `json:"concurrent"`       // up at the same time at the end
	Repeated   int     `json:"repeated"`         // negotiations that had to begin anew, their time counted
	Memory     float64 `json:"kib_per_tunnel"`   // growth of resident memory
	Resident   float64 `json:"resident_mib"`     // of the gateway with all tunnels
}

// Kernel is one way to compute SM4 and SM3, on one core and without I/O: batches of
// 24 packets of 1428 bytes.
type Kernel struct {
	Name         string  `json:"name"`
	ConstantTime bool    `json:"constant_time"`
	Suite        string  `json:"suite"`
	Seal         float64 `json:"seal_mbit_per_s"`
	Open         float64 `json:"open_mbit_per_s"`
}

// Gap is what could not be measured, and why.
type Gap struct {
	What   string `json:"what"`
	Reason string `json:"reason"`
}

// WriteJSON writes the report for programs.
func (r *Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// milli rounds to three decimals: more would pretend to an accuracy that is not there.
func milli(x float64) float64 { return float64(int64(x*1000+0.5)) / 1000 }

// median is the middle of the values, the mean of both where there are two; 0 of none.
func median(values []float64) float64 {
	n := len(values)
	if n == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(values))
	if n%2 == 1 {
		return s[n/2]
	}
	return (s[n/2-1] + s[n/2]) / 2
}

// mean is that of the values; 0 of none.
func mean(values []float64) (sum float64) {
	for _, v := range values {
		sum += v
	}
	return sum / float64(max(len(values), 1))
}

// percentile is the smallest value that p percent of all do not exceed; 0 of none.
func percentile(values []float64, p float64) float64 {
	if len(values) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(values))
	rank := int(p / 100 * float64(len(s)))
	if float64(rank)*100 < p*float64(len(s)) {
		rank++
	}
	return s[min(max(rank, 1), len(s))-1]
}

// Parts are the words that Options.Only may hold.
func Parts() []string { return []string{"throughput", "loss", "latency", "tunnels", "kernels"} }

// Options say how much to measure. The zero value is not of use.
type Options struct {
	Seconds    float64  // of one trial, 0.05 to 600
	Rounds     int      // trials for a median, odd
	Steps      int      // of the search for throughput
	Tunnels    int      // concurrent tunnels, 5 to 5000
	AcceptLoss float64  // percent that throughput may lose
	Only       []string // of Parts; empty: all
	Ways       []string // of Ways
	Program    string   // the binary whose `run` is a gateway
	Progress   io.Writer
}

// Standard is a run of a few minutes.
func Standard() Options {
	return Options{Seconds: 2, Rounds: 3, Steps: 6, Tunnels: 500,
		Ways: []string{"cbc", "cbc-udp", "gcm-udp"}, Program: "/proc/self/exe"}
}

// Quick is a run of seconds, to see that all works.
func Quick() Options {
	o := Standard()
	o.Seconds, o.Rounds, o.Steps, o.Tunnels = 0.2, 1, 3, 25
	return o
}

// Check says which option is wrong.
func (o Options) Check() error {
	switch {
	case !(o.Seconds >= 0.05 && o.Seconds <= 600):
		return fmt.Errorf("seconds %v: want 0.05 to 600", o.Seconds)
	case o.Tunnels < 5 || o.Tunnels > 5000:
		return fmt.Errorf("tunnels %d: want 5 to 5000", o.Tunnels)
	case !(o.AcceptLoss >= 0 && o.AcceptLoss < 100):
		return fmt.Errorf("accepted loss %v %%: want 0 to less than 100", o.AcceptLoss)
	}
	for _, part := range o.Only {
		if !slices.Contains(Parts(), part) {
			return fmt.Errorf("only %q: want some of %v", part, Parts())
		}
	}
	return o.checkWays()
}

func (o Options) wants(parts ...string) bool {
	return len(o.Only) == 0 || slices.ContainsFunc(parts, func(p string) bool { return slices.Contains(o.Only, p) })
}
