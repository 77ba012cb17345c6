package main

import (
	"fmt"
	"time"

	"yumen/test/numbered"
)

// How the children of a class of tunnels are renewed.
type renewal uint8

const (
	byLimit renewal = iota // the gateway itself, at a soft limit
	byOne                  // an order to one end, turn about
	byBoth                 // an order to both ends in the same instant
)

// String is the word of the report.
func (r renewal) String() string {
	return [...]string{"by soft limits", "by order at one end", "by both ends at once"}[r]
}

// class is a number of tunnels that are treated alike.
type class struct {
	how     renewal
	keys    func(n int) string // policy keys of the nth
	tunnels []int
	rate    float64       // packets a second, tunnel and direction
	every   time.Duration // between two orders for a tunnel
}

// scenario is a run.
type scenario struct {
	rekeys  int
	loss    float64 // part of 1
	pairs   int
	ikeLife time.Duration
	classes []class
	peers   string // further keys of each peer, each after a comma
	limit   time.Duration
	settle  time.Duration // for old children to go, afterwards; 0: not waited for
}

const (
	leastPackets = 50 // of a generation, each way; what carried less does not count
	inBetween    = 62 // packets of the shortest limit: its soft limit is above the least
)

// softTunnels adds n tunnels of each kind of limit whose children live for about
// generation. A tenth and more of that is left between soft and hard limit: with
// a lossy wire it has to last for some retransmissions (2, 4, 8 s).
func (s *scenario) softTunnels(n int, generation time.Duration) {
	rate := 72 / generation.Seconds()
	packets := func(i int) int { return inBetween + 2*(i%12) } // so that not all fall due at once
	s.add(class{how: byLimit, rate: rate, keys: func(i int) string { return fmt.Sprintf(", packets: %d", packets(i)) }}, n)
	s.add(class{how: byLimit, rate: rate, keys: func(i int) string {
		return fmt.Sprintf(", bytes: %d", packets(i)*(numbered.Size+48)) // 48: headers of IPv6 and UDP
	}}, n)
	// The soft limit of time is at 76 to 90 parts of a hundred.
	life := max(time.Second, (generation * 100 / 90).Round(time.Second))
	s.add(class{how: byLimit, rate: 54 / (0.76 * life.Seconds()), keys: func(int) string {
		return fmt.Sprintf(", lifetime: %ds", int(life.Seconds()))
	}}, n)
}

// ordered adds tunnels that are renewed by command.
func (s *scenario) ordered(how renewal, n int, every time.Duration) {
	s.add(class{how: how, every: every, rate: 60 / every.Seconds(), keys: func(int) string { return "" }}, n)
}

func (s *scenario) add(c class, n int) {
	first := s.count()
	for i := range n {
		c.tunnels = append(c.tunnels, first+i)
	}
	s.classes = append(s.classes, c)
}

func (s *scenario) count() (n int) {
	for _, c := range s.classes {
		n += len(c.tunnels)
	}
	return n
}

// plan is the policy of the scenario. Both ends may start what is wanted, as in
// the field; end b waits at first so that every run begins alike.
func (s *scenario) plan() plan {
	p := plan{pairs: s.pairs, keysOfB: ", start: respond"}
	for _, c := range s.classes {
		for i := range c.tunnels {
			p.tunnels = append(p.tunnels, c.keys(i))
		}
	}
	p.peerKeys = s.peers
	if s.ikeLife > 0 {
		p.peerKeys += fmt.Sprintf(", ike_lifetime: %ds", int(s.ikeLife.Seconds()))
	}
	return p
}

// soak is the long run; short is for the test of every day.
func soak(rekeys int, loss float64) *scenario {
	s := &scenario{rekeys: rekeys, loss: loss, pairs: mostPairs, ikeLife: 5 * time.Minute, settle: time.Minute}
	if loss == 0 {
		s.softTunnels(48, 24*time.Second) // some 4 s between the limits, for a busy machine
		s.ordered(byOne, 36, 12*time.Second)
		s.ordered(byBoth, 24, 12*time.Second)
		s.limit = 5*time.Minute + time.Duration(rekeys)*300*time.Millisecond
		return s
	}
	s.softTunnels(180, 180*time.Second)
	s.ordered(byOne, 32, 20*time.Second)
	s.ordered(byBoth, 16, 20*time.Second)
	s.limit = 15*time.Minute + time.Duration(rekeys)*600*time.Millisecond
	return s
}

func short(rekeys int, loss float64) *scenario {
	s := &scenario{rekeys: rekeys, loss: loss, pairs: mostPairs, limit: 3 * time.Minute, settle: time.Minute}
	if loss == 0 {
		s.softTunnels(16, 9*time.Second)
		s.ordered(byOne, 18, 8*time.Second)
		s.ordered(byBoth, 14, 8*time.Second)
		return s
	}
	s.softTunnels(40, 34*time.Second)
	s.ordered(byOne, 12, 10*time.Second)
	s.ordered(byBoth, 12, 10*time.Second)
	s.settle = 0 // a delete may be lost: the other end then waits for 30 s
	return s
}
