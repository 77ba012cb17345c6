package lab

import (
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"yumen/ike"
	"yumen/policy"
)

var update = flag.Bool("update", false, "write the transcripts anew; then review the difference")

// scene is one transcript: what differs from two plain gateways, and what is
// done to them.
type scene struct {
	name   string
	change func(i, r *Site)
	run    func(l *Lab)
}

// phases lists the messages of main mode and quick mode with who sends them.
var phases = []string{"main 1", "main 2", "main 3", "main 4", "main 5", "main 6", "quick 1", "quick 2", "quick 3"}

func minutes(n int) func(*Lab) { return func(l *Lab) { l.Run(time.Duration(n) * time.Minute) } }

// first does what to the first n packets with a label.
func first(label string, n int, what func(Packet) []Packet) func(Packet) []Packet {
	return func(p Packet) []Packet {
		if p.Label == label && n > 0 {
			n--
			return what(p)
		}
		return []Packet{p}
	}
}

func both(_, r *Site) { r.Tunnel().Start = policy.StartNow }

func scenes() []scene {
	list := []scene{{"normal", nil, minutes(1)}}
	for _, p := range phases {
		file := strings.ReplaceAll(p, " ", "")
		hook := func(n int, what func(Packet) []Packet) func(*Lab) {
			return func(l *Lab) { l.Hook = first(p, n, what); l.Run(2 * time.Minute) }
		}
		list = append(list,
			scene{"lost/" + file, nil, hook(1, Lost)},
			scene{"lost-twice/" + file, nil, hook(2, Lost)},
			scene{"repeated/" + file, nil, hook(1, func(x Packet) []Packet {
				late := x
				late.Delay += time.Second
				return []Packet{x, x, late}
			})},
			scene{"overtaken/" + file, nil, hook(1, Late(3*time.Second))})
	}
	list = append(list, together()...)
	list = append(list, autos()...)
	list = append(list, operators()...)
	return append(list, quarrels()...)
}

// together are transcripts of two ends that both start, and of unlucky ends.
func together() []scene {
	return []scene{
		{"both/at-once", both, minutes(2)},
		{"both/quick-modes-cross", both, func(l *Lab) {
			l.Hook = first("quick 1", 2, Late(100*time.Millisecond))
			l.Run(2 * time.Minute)
		}},
		{"both/one-is-late", both, func(l *Lab) {
			l.Hook = first("main 1", 1, Late(time.Second))
			l.Run(2 * time.Minute)
		}},
		{"silent/peer-never-answers", nil, func(l *Lab) {
			l.Hook = func(p Packet) []Packet { return nil }
			l.Run(4 * time.Minute)
		}},
		{"silent/peer-comes-back", nil, func(l *Lab) {
			l.Hook = func(p Packet) []Packet {
				if l.Now().Sub(Epoch) < 90*time.Second {
					return nil
				}
				return []Packet{p}
			}
			l.Run(5 * time.Minute)
		}},
		{"silent/no-name", func(i, _ *Site) { i.Peer().Remote = policy.Remote{FQDN: "gw.example.cn"} }, func(l *Lab) {
			l.Run(10 * time.Second)
			l.Names = map[string][]netip.Addr{"gw.example.cn": {l.Gateway("r").Addr}}
			l.Run(time.Minute)
		}},
		{"silent/first-address-is-dead", func(i, _ *Site) { i.Peer().Remote = policy.Remote{FQDN: "gw.example.cn"} }, func(l *Lab) {
			l.Names = map[string][]netip.Addr{"gw.example.cn": {netip.MustParseAddr("203.0.113.9"), l.Gateway("r").Addr}}
			l.Run(3 * time.Minute)
		}},
		{"restart/initiator", nil, func(l *Lab) {
			l.Run(time.Minute)
			l.Gateway("i").Restart()
			l.Run(2 * time.Minute)
		}},
		{"restart/responder", nil, func(l *Lab) {
			l.Run(time.Minute)
			l.Gateway("r").Restart()
			l.Gateway("i").Plane.Send("office")
			l.Run(2 * time.Minute)
		}},
		{"restart/dead-peer", func(i, _ *Site) { i.Peer().DPD = policy.DPD{Interval: 10 * time.Second, Tries: 2} }, func(l *Lab) {
			l.Run(time.Minute)
			l.Hook = func(Packet) []Packet { return nil }
			l.Run(40 * time.Second)
		}},
		{"nat/initiator-behind", behindNAT, minutes(2)},
		{"nat/forced", func(i, _ *Site) { i.Peer().Encap = policy.EncapForce }, minutes(1)},
	}
}

func behindNAT(i, r *Site) {
	i.Addr, i.Public = netip.MustParseAddr("172.16.0.5"), netip.MustParseAddr("192.0.2.1")
	r.Peer().Remote = policy.Remote{Any: true}
}

// operators are transcripts of what people and limits do.
func operators() []scene {
	return []scene{
		{"operator/down-and-up", nil, func(l *Lab) {
			l.Run(time.Minute)
			l.Story.Note("i: down office")
			l.Gateway("i").Stop("office")
			l.Run(time.Minute)
			l.Story.Note("i: up office")
			l.Gateway("i").Start("office")
			l.Run(time.Minute)
		}},
		{"operator/responder-down", nil, func(l *Lab) {
			l.Run(time.Minute)
			l.Story.Note("r: down office")
			l.Gateway("r").Stop("office")
			l.Run(10 * time.Second)
			l.Story.Note("r: up office")
			l.Gateway("r").Start("office")
			l.Run(time.Minute)
		}},
		{"operator/shut-down", nil, func(l *Lab) {
			l.Run(time.Minute)
			l.Story.Note("i: stop")
			l.Gateway("i").Stop("")
			l.Run(10 * time.Minute)
		}},
		{"operator/trap", func(i, _ *Site) { i.Tunnel().Start = policy.StartTrap }, func(l *Lab) {
			l.Run(time.Minute)
			l.Story.Note("i: the first packet")
			l.Gateway("i").Plane.Send("office")
			l.Run(time.Minute)
		}},
		{"rekey/child", func(i, _ *Site) { i.Tunnel().Lifetime = 100 * time.Second }, minutes(2)},
		{"rekey/session", func(i, r *Site) { i.Peer().IKELifetime = 100 * time.Second }, minutes(2)},
		{"rekey/refused-install", nil, func(l *Lab) {
			n := 2
			l.Gateway("r").Refuse = func(f ike.Effect) error {
				if _, ok := f.(ike.Install); ok && n > 0 {
					n--
					return errors.New("no memory")
				}
				return nil
			}
			l.Run(2 * time.Minute)
		}},
		{"rekey/refused-use", nil, func(l *Lab) {
			n := 1
			l.Gateway("i").Refuse = func(f ike.Effect) error {
				if _, ok := f.(ike.Use); ok && n > 0 {
					n--
					return errors.New("no such interface")
				}
				return nil
			}
			l.Run(2 * time.Minute)
		}},
		{"delete/lost", nil, func(l *Lab) {
			l.Run(time.Minute)
			l.Hook = first("info", 1, Lost)
			l.Gateway("i").Stop("office")
			l.Run(time.Second)
			l.Story.Note("r sends into the void")
			l.Gateway("r").Plane.Send("office")
			l.Run(time.Minute)
		}},
	}
}

// quarrels are transcripts of two ends that do not agree.
func quarrels() []scene {
	return []scene{
		{"refused/no-proposal", nil, func(l *Lab) {
			l.Hook = func(p Packet) []Packet {
				if p.Label == "main 1" { // another hash algorithm
					p.Data = []byte(strings.Replace(string(p.Data), "\x80\x02\x00\x14", "\x80\x02\x00\x02", 1))
				}
				return []Packet{p}
			}
			l.Run(70 * time.Second)
		}},
		{"refused/selector", func(_, r *Site) {
			r.Tunnel().Selector.Local = policy.NetOf(netip.MustParsePrefix("10.3.0.0/16"))
		}, func(l *Lab) { l.Run(10 * time.Second) }},
		{"refused/suite", func(_, r *Site) { r.Tunnel().Suites = []policy.Suite{policy.SM4GCM128} },
			func(l *Lab) { l.Run(10 * time.Second) }},
		{"refused/wrong-ca", func(_, r *Site) { r.Anchor = members().Foreign.PEM() },
			func(l *Lab) { l.Run(70 * time.Second) }},
		{"refused/wrong-ca-of-responder", func(i, _ *Site) { i.Anchor = members().Foreign.PEM() },
			func(l *Lab) { l.Run(70 * time.Second) }},
		{"refused/unknown-address", func(_, r *Site) { r.Peer().Remote.Addr = netip.MustParseAddr("203.0.113.5") },
			func(l *Lab) { l.Run(70 * time.Second) }},
		{"refused/swapped-certificates", func(i, _ *Site) { i.Own = members().I.Swapped() },
			func(l *Lab) { l.Run(70 * time.Second) }},
	}
}

// Each transcript in testdata is what happens, line for line.
func TestTranscripts(t *testing.T) {
	for _, s := range scenes() {
		t.Run(s.name, func(t *testing.T) {
			i, r := members().Pair()
			if s.change != nil {
				s.change(&i, &r)
			}
			l := New(1, i, r)
			s.run(l)
			for _, f := range l.Faults {
				t.Error(f)
			}
			compare(t, filepath.Join("..", "testdata", s.name+".txt"), l.Story.String()+ending(l))
		})
	}
}

// ending sums up what is left at the end of a transcript.
func ending(l *Lab) string {
	var b strings.Builder
	for _, g := range l.gateways {
		st := g.Engine.Status()
		fmt.Fprintf(&b, "= %s: %d sessions, %d half open, %d children, tunnel %s", g.Name, len(st.Sessions),
			st.HalfOpen, len(g.Plane.Installed()), st.Tunnels[0].State)
		if st.Tunnels[0].LastFailure != "" {
			fmt.Fprintf(&b, " (%s)", st.Tunnels[0].LastFailure)
		}
		b.WriteString("\n")
	}
	return b.String()
}

func compare(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v (write it with -update)", err)
	}
	if string(want) != got {
		t.Errorf("%s differs (review, then -update):\n%s", file, difference(string(want), got))
	}
}

// difference shows the first line that differs, with what stands before it.
func difference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	n := 0
	for n < len(w) && n < len(g) && w[n] == g[n] {
		n++
	}
	from := max(0, n-4)
	cut := func(l []string) string { return strings.Join(l[from:min(len(l), n+3)], "\n  ") }
	return fmt.Sprintf("line %d, want\n  %s\ngot\n  %s", n+1, cut(w), cut(g))
}
