package lab

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"yumen/ike"
)

// Lab is a small world. Make it with New, then let time pass with Run.
type Lab struct {
	// Hook says what becomes of each packet; nil delivers every one.
	Hook func(Packet) []Packet
	// KeyDelay is how long a private key takes; nil: no time.
	KeyDelay func() time.Duration
	// Names is what Resolve finds for an FQDN.
	Names map[string][]netip.Addr
	// Random is for hooks, so that a whole run hangs on one seed.
	Random *rand.Rand
	// Faults are rules of the data plane that somebody broke. Empty in a good run.
	Faults []string
	// Story is the transcript so far.
	Story Story

	now      time.Time
	queue    queue
	seq      uint64
	gateways []*Gateway
	seen     observer
}

// New builds the sites and starts nothing: the first Run does.
func New(seed uint64, sites ...Site) *Lab {
	l := &Lab{now: Epoch, seen: newObserver(), Random: rand.New(newSource(seed, "hooks").chacha)}
	l.Story.last = Epoch
	for _, s := range sites {
		l.add(s, seed)
	}
	return l
}

// Add builds one more site. It draws like one of a lab with seed 1.
func (l *Lab) Add(s Site) *Gateway { return l.add(s, 1) }

func (l *Lab) add(s Site, seed uint64) *Gateway {
	g := &Gateway{Site: s, lab: l, seed: seed}
	g.nat.next = uint16(20000 + 1000*len(l.gateways)) // several may share one address
	l.gateways = append(l.gateways, g)
	g.Restart()
	return g
}

// Gateway returns the gateway of that name.
func (l *Lab) Gateway(name string) *Gateway {
	for _, g := range l.gateways {
		if g.Name == name {
			return g
		}
	}
	panic("no gateway " + name)
}

// Now is the virtual time.
func (l *Lab) Now() time.Time { return l.now }

// After plans do for d from now.
func (l *Lab) After(d time.Duration, do func()) {
	l.seq++
	heap.Push(&l.queue, &planned{l.now.Add(d), l.seq, do})
}

// Run lets d pass, carrying out everything that falls due.
func (l *Lab) Run(d time.Duration) { l.until(l.now.Add(d), func() bool { return false }) }

// RunUntil lets time pass until done or until d has passed, and says which.
func (l *Lab) RunUntil(d time.Duration, done func() bool) bool {
	return l.until(l.now.Add(d), done)
}

func (l *Lab) until(end time.Time, done func() bool) bool {
	for !done() {
		if len(l.queue) == 0 || l.queue[0].at.After(end) {
			l.now = end
			return false
		}
		p := heap.Pop(&l.queue).(*planned)
		l.now = p.at
		p.do()
	}
	return true
}

// Pending counts what is planned: a lab at rest has only alarms.
func (l *Lab) Pending() int { return len(l.queue) }

func (l *Lab) fault(format string, args ...any) {
	l.Faults = append(l.Faults, fmt.Sprintf("%v: ", l.now.Sub(Epoch))+fmt.Sprintf(format, args...))
}

// planned is one thing that will happen.
type planned struct {
	at  time.Time
	seq uint64
	do  func()
}

type queue []*planned

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	if !q[i].at.Equal(q[j].at) {
		return q[i].at.Before(q[j].at)
	}
	return q[i].seq < q[j].seq
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)   { *q = append(*q, x.(*planned)) }
func (q *queue) Pop() any {
	old := *q
	last := old[len(old)-1]
	*q = old[:len(old)-1]
	return last
}

// Start and Stop are the operator's "up" and "down".
func (g *Gateway) Start(tunnel string) { g.Feed(ike.Start{Tunnel: tunnel}) }
func (g *Gateway) Stop(tunnel string)  { g.Feed(ike.Stop{Tunnel: tunnel}) }
