package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"yumen/test/soak/forwarder"
)

// tally is the account of a run: every packet and every generation.
type tally struct {
	by        [3]int // rekeys by renewal
	young     int    // children that came up and carried less than the least
	births    int
	sent      uint64
	received  uint64
	dropped   uint64 // by the forwarder
	lost      uint64
	twice     uint64
	clear     uint64
	extra     uint64 // more drops than packets missing: ESP that was not ours
	strange   uint64
	refused   uint64
	perTunnel []string // those with a fault
}

func (t *tally) rekeys() int { return t.by[byLimit] + t.by[byOne] + t.by[byBoth] }

// enough: at least half by soft limits, a tenth by both ends at once.
func (t *tally) enough(want int) bool {
	return t.rekeys() >= want && 2*t.by[byLimit] >= want && 10*t.by[byBoth] >= want
}

// tally counts. A rekey is a child that came after another and carried the least
// number of packets each way, seen on the wire.
func (r *run) tally() (*tally, error) {
	t := &tally{clear: r.sites.fwd.Clear(), strange: r.traffic.Strange.Load()}
	for _, j := range r.journals {
		if err := j.read(); err != nil {
			return nil, err
		}
	}
	class := map[string]renewal{}
	for _, c := range r.classes {
		for _, n := range c.tunnels {
			class[fmt.Sprintf("t%d", n)] = c.how
		}
	}
	wire := r.sites.fwd.SPIs()
	drops := t.generations(r.journals, class, wire)
	for n, flows := range r.traffic.Flows {
		for end, f := range flows {
			received, twice := f.Counts()
			if t.flow(uint64(f.Sent.Load()), received, drops[fmt.Sprintf("t%d %d", n, end)]) {
				t.perTunnel = append(t.perTunnel, fmt.Sprintf("t%d from %s: sent %d, received %d, dropped by the forwarder %d; missing %s",
					n, side(end), f.Sent.Load(), received, drops[fmt.Sprintf("t%d %d", n, end)], f.Missing()))
			}
			t.twice += twice
			t.refused += f.Refused.Load()
		}
	}
	return t, nil
}

// generations counts rekeys and returns what the forwarder dropped, by tunnel and
// sending end.
func (t *tally) generations(journals [2]*journal, class map[string]renewal, wire map[uint32]forwarder.Count) map[string]uint64 {
	drops, had, known := map[string]uint64{}, map[string]bool{}, map[[2]uint32]bool{}
	for end, j := range journals {
		for _, b := range j.births {
			in, out := b.in, b.out // as a sees it
			if end == endB {
				in, out = out, in
			}
			if known[[2]uint32{in, out}] {
				continue
			}
			known[[2]uint32{in, out}] = true
			t.births++
			toA, toB := wire[in], wire[out]
			drops[b.tunnel+" 0"] += toB.Dropped
			drops[b.tunnel+" 1"] += toA.Dropped
			enough := toA.Seen >= leastPackets && toB.Seen >= leastPackets
			switch {
			case enough && had[b.tunnel]:
				t.by[class[b.tunnel]]++
			case !enough:
				t.young++
			}
			had[b.tunnel] = true
		}
	}
	return drops
}

// flow adds one flow and reports whether it does not add up.
func (t *tally) flow(sent, received, dropped uint64) (fault bool) {
	t.sent, t.received, t.dropped = t.sent+sent, t.received+received, t.dropped+dropped
	missing := sent - received
	switch {
	case missing > dropped:
		t.lost += missing - dropped
	case dropped > missing:
		t.extra += dropped - missing
	}
	return missing != dropped
}

// details tells what the line does not.
func (t *tally) details(out io.Writer, r *run) {
	p := func(format string, args ...any) { fmt.Fprintf(out, format+"\n", args...) }
	for how, n := range t.by {
		p("rekeys %v: %d", renewal(how), n)
	}
	p("children that came up: %d, of which %d carried less than %d packets one way (the first and last of a tunnel, losers of a crossing)",
		t.births, t.young, leastPackets)
	p("packets: sent %d, received %d, dropped by the forwarder %d", t.sent, t.received, t.dropped)
	wire, ike := r.sites.fwd.Totals()
	p("esp on the wire: %+v", wire)
	p("ike on the wire: %+v", ike)
	for _, line := range t.perTunnel {
		p("NOT ACCOUNTED FOR: %s", line)
	}
	if t.extra > 0 {
		p("the forwarder dropped %d packets that no flow misses", t.extra)
	}
	if t.strange > 0 {
		p("the hosts got %d datagrams that nobody sent", t.strange)
	}
	if t.refused > 0 {
		p("the hosts' own stacks refused %d packets, which count as not sent", t.refused)
	}
	if r.overflow > 0 {
		p("the forwarder's own queues lost %d frames: the machine was too busy, and the run proves nothing", r.overflow)
	}
	for end := range 2 {
		if now, err := r.readCounters(end); err == nil {
			p("counters of %s that moved: %s", side(end), now.since(r.before[end]))
		}
		p("events of %s: %s", side(end), sorted(r.journals[end].words))
	}
}

// counters are those of the kernel and of the daemon where a packet may end.
type counters map[string]uint64

// readCounters reads the counters of an end.
func (r *run) readCounters(end int) (counters, error) {
	c := counters{}
	text, err := r.sites.gate[end].Command("status", "--json")
	if err != nil {
		return nil, err
	}
	var st struct {
		Counters struct {
			Datagrams, Packets map[string]uint64
		}
	}
	if err := json.Unmarshal([]byte(text), &st); err != nil {
		return nil, err
	}
	for name, v := range st.Counters.Datagrams {
		c["ike."+name] = v
	}
	for name, v := range st.Counters.Packets {
		c["esp."+name] = v
	}
	for where, space := range map[string]interface {
		Run(...string) (string, error)
	}{"gate": r.sites.gate[end].Space, "host": r.sites.host[end]} {
		if err := c.kernel(where, space); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// kernel adds drops of interfaces and of the socket layer.
func (c counters) kernel(where string, space interface {
	Run(...string) (string, error)
}) error {
	text, err := space.Run("ip", "-s", "-j", "link")
	if err != nil {
		return err
	}
	type half struct{ Errors, Dropped uint64 }
	var links []struct {
		Name  string                `json:"ifname"`
		Stats struct{ RX, TX half } `json:"stats64"`
	}
	if err := json.Unmarshal([]byte(text), &links); err != nil {
		return err
	}
	for _, l := range links {
		c[where+"."+l.Name+".rx-dropped"] = l.Stats.RX.Dropped + l.Stats.RX.Errors
		c[where+"."+l.Name+".tx-dropped"] = l.Stats.TX.Dropped + l.Stats.TX.Errors
	}
	if text, err = space.Run("cat", "/proc/net/snmp", "/proc/net/snmp6"); err != nil {
		return err
	}
	var names []string
	for _, line := range strings.Split(text, "\n") {
		f := strings.Fields(line)
		switch {
		case len(f) < 2:
		case !strings.HasSuffix(f[0], ":"): // one a line: IPv6
			c.note(where+"."+f[0], f[1])
		case names == nil:
			names = f
		default:
			for i, v := range f[1:] {
				c.note(where+"."+strings.TrimSuffix(f[0], ":")+names[i+1], v)
			}
			names = nil
		}
	}
	return nil
}

// note keeps only what may stand for a lost packet.
func (c counters) note(name, value string) {
	for _, word := range []string{"Discards", "Errors", "NoRoutes", "Fails", "NoPorts"} {
		if strings.HasSuffix(name, word) {
			var v uint64
			_, _ = fmt.Sscan(value, &v)
			c[name] = v
			return
		}
	}
}

// since lists what grew.
func (c counters) since(before counters) string {
	grown := map[string]int{}
	for name, v := range c {
		if v != before[name] {
			grown[name] = int(v - before[name])
		}
	}
	return sorted(grown)
}

func sorted(m map[string]int) string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		list = append(list, fmt.Sprintf("%s=%d", name, m[name]))
	}
	return strings.Join(list, " ")
}
