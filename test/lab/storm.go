package lab

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"time"

	"yumen/esp"
	"yumen/ike"
	"yumen/policy"
)

// Storm is one hostile hour between two gateways, drawn from a seed: packets are
// lost, doubled and overtake each other, private keys are slow, both ends may
// start at once, one may be restarted, lifetimes may be short, a NAT may stand
// between and forget its mappings. Then the weather clears.
type Storm struct {
	Seed uint64
	Lab  *Lab
	// What was drawn.
	Loss, Double float64
	Delay, Keys  time.Duration
	Both, Short  bool
	NAT, Wide    bool
	Faulty       bool // the data plane refuses one effect in five
	Restarts     int
	Rebindings   int  // how often the NAT forgets
	Kernel       bool // the data planes are like the kernel's
	Violent      time.Duration
	Lanes        int // children that are to stand side by side at the end

	spoilt bool // it was Faulty: what the plane refused to hear it hears later
}

// Calm is how long the weather is fine before a storm is judged: longer than
// every retry, back-off and overlap of the engine together.
const Calm = 8 * time.Minute

// draw fills in what the seed says.
func draw(seed uint64) (*Storm, *rand.Rand) {
	r := rand.New(newSource(seed, "weather").chacha)
	chance := func(p float64) bool { return r.Float64() < p }
	s := &Storm{Seed: seed, Violent: time.Duration(30+r.IntN(150)) * time.Second}
	if chance(0.8) {
		s.Loss = r.Float64() * 0.5
	}
	if chance(0.6) {
		s.Double = r.Float64() * 0.4
	}
	if chance(0.7) {
		s.Delay = time.Duration(r.IntN(4000)) * time.Millisecond
	}
	if chance(0.5) {
		s.Keys = time.Duration(r.IntN(5000)) * time.Millisecond
	}
	s.Both, s.Short, s.Wide = chance(0.5), chance(0.3), chance(0.2)
	s.NAT = !s.Both && chance(0.25)
	if chance(0.3) {
		s.Restarts = 1 + r.IntN(2)
	}
	s.Faulty = chance(0.15)
	if s.NAT {
		s.Rebindings, s.Kernel = r.IntN(5), chance(0.5)
	}
	return s, r
}

// sites are the two ends under this storm.
func (s *Storm) sites(m *Members) (i, r Site) {
	i, r = m.Pair()
	for _, x := range []*Site{&i, &r} {
		x.Peer().DPD = policy.DPD{Interval: 20 * time.Second, Tries: 3}
		x.Peer().PathProbe = policy.ProbeOn
		if s.Short {
			x.Tunnel().Lifetime = 100 * time.Second
			x.Peer().IKELifetime = 230 * time.Second
		}
		if s.Wide {
			x.Tunnel().Suites = []policy.Suite{policy.SM4GCM128, policy.SM4CBCHMACSM3}
			x.Tunnel().ESN = true
		}
	}
	if s.Both {
		r.Tunnel().Start = policy.StartNow
	}
	if s.NAT {
		i.Addr, i.Public = netip.MustParseAddr("172.16.0.5"), netip.MustParseAddr("192.0.2.1")
		r.Peer().Remote = policy.Remote{Any: true}
	}
	return i, r
}

// NewStorm prepares a storm; Rage runs it. Each change is made to the two sites
// before they start.
func NewStorm(m *Members, seed uint64, change ...func(i, r *Site)) *Storm {
	s, w := draw(seed)
	i, r := s.sites(m)
	for _, f := range change {
		f(&i, &r)
	}
	s.Lanes = 1
	if n := i.Tunnel().Children; n == r.Tunnel().Children {
		s.Lanes = max(n, 1)
	}
	i.Verifiers, r.Verifiers = m.verifiers(&i), m.verifiers(&r)
	s.Lab = New(seed, i, r)
	s.Lab.Hook = func(p Packet) []Packet {
		if w.Float64() < s.Loss {
			return nil
		}
		on := []Packet{s.late(w, p)}
		if w.Float64() < s.Double {
			on = append(on, s.late(w, p))
		}
		return on
	}
	s.Lab.KeyDelay = func() time.Duration {
		if s.Keys == 0 {
			return 0
		}
		return time.Duration(w.Int64N(int64(s.Keys)))
	}
	for _, g := range s.Lab.gateways {
		g.Kernel = s.Kernel
		g.Refuse = func(f ike.Effect) error {
			_, operation := f.(ike.PrivateOp)
			if _, gone := f.(ike.Remove); s.Faulty && !operation && !gone && w.Float64() < 0.2 {
				return errors.New("the data plane says no")
			}
			return nil
		}
	}
	for range s.Restarts {
		name := []string{"i", "r"}[w.IntN(2)]
		s.Lab.After(time.Duration(w.Int64N(int64(s.Violent))), s.Lab.Gateway(name).Restart)
	}
	for range s.Rebindings {
		s.Lab.After(time.Duration(w.Int64N(int64(s.Violent))), s.Lab.Gateway("i").ForgetNAT)
	}
	return s
}

func (s *Storm) late(w *rand.Rand, p Packet) Packet {
	p.Delay = 5 * time.Millisecond
	if s.Delay > 0 {
		p.Delay += time.Duration(w.Int64N(int64(s.Delay)))
	}
	return p
}

// Rage runs the storm, clears the weather and lets both ends settle. It returns
// what is wrong at the end; nothing when all is well.
func (s *Storm) Rage() []string {
	l := s.Lab
	s.traffic()
	l.Run(s.Violent)
	l.Hook, l.KeyDelay = func(p Packet) []Packet { p.Delay = 5 * time.Millisecond; return []Packet{p} }, nil
	s.Faulty, s.spoilt = false, s.Faulty
	l.Run(Calm)
	wrong := s.judge()
	if s.Short { // short lives end all the time: look until they are between two rekeys
		l.RunUntil(2*time.Minute, func() bool { wrong = s.judge(); return len(wrong) == 0 })
	}
	return append(wrong, l.Faults...)
}

// traffic lets both ends send a packet every five seconds for ever.
func (s *Storm) traffic() {
	for _, g := range s.Lab.gateways {
		if _, ok := g.Plane.InUse("office"); ok {
			g.Plane.Send("office")
		}
	}
	s.Lab.After(5*time.Second, s.traffic)
}

// judge says what differs from two ends at rest with one tunnel between them.
func (s *Storm) judge() (wrong []string) {
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	for n, g := range s.Lab.gateways {
		st := g.Engine.Status()
		if len(st.Sessions) > 1 || st.HalfOpen != 0 {
			say("%s: %d sessions, %d half open", g.Name, len(st.Sessions), st.HalfOpen)
		}
		if n := len(g.Plane.Installed()); n != s.Lanes || len(st.Tunnels[0].Children) != s.Lanes {
			say("%s: %d children installed, %d known", g.Name, n, len(st.Tunnels[0].Children))
		}
		if n := g.Plane.Unwiped(); n != 0 {
			say("%s: %d keys of ended children are not wiped", g.Name, n)
		}
		for to, mtu := range g.Plane.Paths {
			if mtu < 1500 && !s.spoilt {
				say("%s: takes the path to %v for one of %d bytes", g.Name, to, mtu)
			}
		}
		for lane := range uint8(s.Lanes) {
			wrong = append(wrong, s.judgeLane(n, lane)...)
		}
	}
	return wrong
}

// judgeLane says what is wrong with the child that the n-th gateway uses on a lane.
func (s *Storm) judgeLane(n int, lane uint8) []string {
	g := s.Lab.gateways[n]
	st := g.Engine.Status().Tunnels[0]
	used := append([]esp.ChildID{st.InUse}, st.Beside...)
	own, ok := g.Plane.InUseOn("office", lane)
	theirs, both := s.Lab.gateways[1-n].Plane.InUseOn("office", lane)
	switch {
	case !ok || len(used) != s.Lanes || own.ID != used[lane] || st.State != "up":
		return []string{fmt.Sprintf("%s: no child in use on lane %d (tunnel is %s, %s %s)", g.Name, lane, st.State, st.LastFailure, st.LastDetail)}
	case both && (own.In.SPI != theirs.Out.SPI || own.Out.SPI != theirs.In.SPI):
		return []string{fmt.Sprintf("%s: on lane %d it sends on %x, the peer receives on %x", g.Name, lane, own.Out.SPI, theirs.In.SPI)}
	}
	return nil
}

// Digest is a hash over the transcript.
func (s *Storm) Digest() string {
	return fmt.Sprintf("%x", sha256.Sum256([]byte(s.Lab.Story.String())))
}

// String says what was drawn.
func (s *Storm) String() string {
	words := []string{fmt.Sprintf("seed %d, %v: loss %.2f, double %.2f, delay %v, keys %v, restarts %d, rebindings %d", s.Seed,
		s.Violent, s.Loss, s.Double, s.Delay, s.Keys, s.Restarts, s.Rebindings)}
	for _, x := range []struct {
		on   bool
		word string
	}{{s.Both, "both start"}, {s.Short, "short lives"}, {s.Wide, "gcm and esn"}, {s.NAT, "nat"}, {s.Faulty, "faulty plane"}, {s.Kernel, "like the kernel"}} {
		if x.on {
			words = append(words, x.word)
		}
	}
	return strings.Join(words, ", ")
}

// Gateways are the two ends.
func (s *Storm) Gateways() []*Gateway { return s.Lab.gateways }
