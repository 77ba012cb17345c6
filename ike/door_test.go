package ike

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"yumen/ike/wire"
)

// crowd is a door under attack on a virtual clock: the attacker sends so many
// datagrams a second, each made by shoot.
type crowd struct {
	door  *Door
	now   time.Time
	dice  *rand.Rand
	each  int // a second
	shoot func(*crowd) (data []byte, from netip.AddrPort)
	got   int // of the attacker's, admitted
}

var doorOpens = time.Unix(1_800_000_000, 0)

func newCrowd(each int, shoot func(*crowd) ([]byte, netip.AddrPort)) *crowd {
	return &crowd{door: newDoor(), now: doorOpens, dice: rand.New(rand.NewPCG(1, 2)), each: each, shoot: shoot}
}

// pass lets the attacker send for so long.
func (c *crowd) pass(d time.Duration) {
	n := int(d.Seconds() * float64(c.each))
	for i := range n {
		data, from := c.shoot(c)
		if c.door.Ask(c.now.Add(time.Duration(i)*d/time.Duration(n)), data, from) == Admitted {
			c.got++
		}
	}
	c.now = c.now.Add(d)
}

// message is the header of one, which is all that a door reads.
func message(i, r uint64, exchange wire.ExchangeType, flags wire.Flags) []byte {
	b := make([]byte, 100)
	binary.BigEndian.PutUint64(b, i)
	binary.BigEndian.PutUint64(b[8:], r)
	b[17], b[18], b[19] = wire.Version11, byte(exchange), byte(flags)
	binary.BigEndian.PutUint32(b[24:], uint32(len(b)))
	return b
}

func (c *crowd) opening() []byte { return message(c.dice.Uint64()|1, 0, wire.MainMode, 0) }

func at(addr string, low byte) netip.AddrPort {
	a := netip.MustParseAddr(addr).As16()
	a[15] = low
	return netip.AddrPortFrom(netip.AddrFrom16(a).Unmap(), 500)
}

func (c *crowd) anywhere() netip.AddrPort {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], c.dice.Uint32())
	return netip.AddrPortFrom(netip.AddrFrom4(b), 500)
}

// joins has an honest peer begin now and repeat its first message like one, and
// reports after how long it was admitted; a new attempt follows a failed one.
func (c *crowd) joins(from netip.AddrPort) time.Duration {
	begun := c.now
	for c.now.Sub(begun) < 2*time.Minute {
		first := c.opening()
		for resend := firstResend; resend <= firstResend<<(maxSends-1); resend *= 2 {
			c.pass(time.Duration(c.dice.IntN(20_000)) * time.Microsecond) // not in step with the limits
			if c.door.Ask(c.now, first, from) == Admitted {
				return c.now.Sub(begun)
			}
			c.pass(resend)
		}
	}
	return c.now.Sub(begun)
}

const (
	strongFlood = 100_000
	soon        = 20 * time.Millisecond // the first message was admitted
)

func TestANewPeerGetsInWhateverFloodsTheDoor(t *testing.T) {
	for _, x := range []struct {
		name  string
		each  int
		most  time.Duration
		shoot func(*crowd) ([]byte, netip.AddrPort)
	}{
		{"one address", strongFlood / 5, soon, func(c *crowd) ([]byte, netip.AddrPort) { return c.opening(), at("198.51.100.0", 9) }},
		{"one prefix", strongFlood / 5, soon, func(c *crowd) ([]byte, netip.AddrPort) {
			return c.opening(), at("198.51.100.0", byte(c.dice.Uint32()))
		}},
		{"one prefix of IPv6", strongFlood / 5, soon, func(c *crowd) ([]byte, netip.AddrPort) {
			a := netip.MustParseAddr("2001:db8::").As16()
			binary.BigEndian.PutUint64(a[6:], c.dice.Uint64())
			return c.opening(), netip.AddrPortFrom(netip.AddrFrom16(a), 500)
		}},
		{"one message, again and again", strongFlood / 5, soon, func(c *crowd) ([]byte, netip.AddrPort) {
			return message(5, 0, wire.MainMode, 0), at("198.51.100.0", 9)
		}},
		// What a peer repeats after 2, 6 and 14 seconds passes for patient.
		{"forged addresses", strongFlood, 7 * time.Second, func(c *crowd) ([]byte, netip.AddrPort) { return c.opening(), c.anywhere() }},
		{"garbage from forged addresses", strongFlood / 5, soon, func(c *crowd) ([]byte, netip.AddrPort) {
			return message(c.dice.Uint64(), c.dice.Uint64(), wire.ExchangeType(c.dice.Uint32()), wire.Flags(c.dice.Uint32())), c.anywhere()
		}},
	} {
		t.Run(x.name, func(t *testing.T) {
			c := newCrowd(x.each, x.shoot)
			c.pass(3 * time.Second)
			// Whoever shares a cell with the attacker by bad luck waits for the next
			// epoch: so two of three, and no luck is needed.
			in := 0
			for low := range byte(3) {
				took := c.joins(netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, low, 113, 7}), 500))
				t.Logf("in after %v", took)
				if took <= x.most {
					in++
				}
			}
			if in < 2 {
				t.Errorf("of three peers %d were in after %v", in, x.most)
			}
			if limit := 440 + 200*int(c.now.Sub(doorOpens).Seconds()); c.got > limit {
				t.Errorf("%d of the attacker's were admitted in %v, want at most %d", c.got, c.now.Sub(doorOpens), limit)
			}
		})
	}
}

func TestWhoWasInBeforeComesBackThroughAFloodOfThePatient(t *testing.T) {
	before, now := at("203.0.113.0", 7), at("203.0.7.0", 99) // dialled in anew: of the same /16
	for _, x := range []struct {
		name  string
		forge func(*crowd) netip.AddrPort
		peer  netip.AddrPort
	}{
		{"any address, the peer's is new", (*crowd).anywhere, now},
		{"any address, the peer's is old", (*crowd).anywhere, before},
		{"addresses around the peer's old one", func(c *crowd) netip.AddrPort {
			return netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, byte(c.dice.Uint32()), byte(c.dice.Uint32()) | 8}), 500)
		}, before},
	} {
		t.Run(x.name, func(t *testing.T) {
			// Each forged message comes twice, half a second apart and more: all are patient.
			var sent []func() ([]byte, netip.AddrPort)
			c := newCrowd(strongFlood/5, nil)
			c.shoot = func(c *crowd) ([]byte, netip.AddrPort) {
				if len(sent) > strongFlood/10 && len(sent)%2 == 0 {
					again := sent[0]
					sent = sent[1:]
					return again()
				}
				m, from := c.opening(), x.forge(c)
				sent = append(sent, func() ([]byte, netip.AddrPort) { return m, from })
				return m, from
			}
			c.door.welcome(before.Addr())
			c.pass(5 * time.Second)
			if took := c.joins(x.peer); took > soon {
				t.Errorf("in after %v", took)
			}
		})
	}
}

func TestHomesAreBoundedAndTheOldestGoes(t *testing.T) {
	d := newDoor()
	for i := range 2 * maxHomes {
		d.welcome(netip.AddrFrom4([4]byte{byte(i >> 8), byte(i), 1, 1}))
		d.welcome(netip.AddrFrom4([4]byte{250, 1, 1, 1}))
	}
	if n := len(d.homes.of); n > maxHomes || n != len(d.homes.order) {
		t.Errorf("%d homes, %d in order, want at most %d", n, len(d.homes.order), maxHomes)
	}
	last := surroundings(netip.AddrFrom4([4]byte{250, 1, 9, 9}))[1]
	if d.homes.of[last] == nil || d.homes.of[surroundings(netip.AddrFrom4([4]byte{0, 0, 1, 1}))[0]] != nil {
		t.Error("what is proven again and again went before the oldest")
	}
}

func TestTheDoorForgetsNobodyWhoseAddressIsForged(t *testing.T) {
	peer := at("203.0.113.0", 7)
	c := newCrowd(strongFlood, func(c *crowd) ([]byte, netip.AddrPort) { return c.opening(), peer })
	c.door.settle([]netip.Addr{peer.Addr()})
	c.pass(3 * time.Second)
	if took := c.joins(peer); took > 7*time.Second {
		t.Errorf("the configured peer was in after %v only", took)
	}
	other := at("203.0.113.0", 8)
	c.door.settle([]netip.Addr{peer.Addr(), other.Addr()})
	if took := c.joins(other); took > soon {
		t.Errorf("another configured peer had to wait %v", took)
	}
}

func TestWhatBelongsToASessionPassesAFlood(t *testing.T) {
	c := newCrowd(strongFlood, func(c *crowd) ([]byte, netip.AddrPort) {
		switch c.dice.IntN(3) {
		case 0:
			return message(c.dice.Uint64(), c.dice.Uint64(), wire.QuickMode, wire.FlagEncrypted), c.anywhere()
		case 1:
			return message(7, c.dice.Uint64(), wire.MainMode, 0), c.anywhere()
		}
		return c.opening(), c.anywhere()
	})
	peer := at("203.0.113.0", 7)
	live := message(1, 2, wire.QuickMode, wire.FlagEncrypted)
	answer := message(3, 4, wire.MainMode, 0)
	c.door.keep(pairKey{wire.Cookie(live[:8]), wire.Cookie(live[8:])}, true)
	c.door.expect(wire.Cookie(answer[:8]), true)
	for range 20 {
		c.pass(100 * time.Millisecond)
		if c.door.Ask(c.now, live, peer) != Admitted || c.door.Ask(c.now, answer, peer) != Admitted {
			t.Fatal("a message of a session, or an answer that is awaited, was refused")
		}
	}
	c.door.keep(pairKey{wire.Cookie(live[:8]), wire.Cookie(live[8:])}, false)
	c.door.expect(wire.Cookie(answer[:8]), false)
	if c.door.Ask(c.now, live, peer) == Admitted && c.door.Ask(c.now, answer, peer) == Admitted {
		t.Error("what has ended has still a place of its own")
	}
}

func TestTheCookiesOfASessionAreNoKeyToTheEngine(t *testing.T) {
	for _, x := range []struct {
		flags wire.Flags
		most  int
	}{{0, 64 + 20*10}, {wire.FlagEncrypted, 2000 + 1000*10}} {
		known := message(1, 2, wire.MainMode, x.flags)
		c := newCrowd(strongFlood, func(c *crowd) ([]byte, netip.AddrPort) { return known, c.anywhere() })
		c.door.keep(pairKey{wire.Cookie(known[:8]), wire.Cookie(known[8:])}, true)
		c.pass(10 * time.Second)
		if c.got > x.most {
			t.Errorf("flags %02x: %d were admitted in 10 s, want at most %d", x.flags, c.got, x.most)
		}
	}
}

func TestPrivateKeyOperationsAreSharedAmongSources(t *testing.T) {
	c := newCrowd(1, nil)
	greedy, others, at0 := 0, 0, c.now
	for i := range 10_000 {
		now := at0.Add(time.Duration(i) * time.Millisecond)
		if c.door.third(now, netip.MustParseAddr("198.51.100.9")) {
			greedy++
		}
		if i%1000 == 0 && c.door.third(now, netip.AddrFrom4([4]byte{203, byte(i / 1000), 113, 7})) {
			others++
		}
	}
	if greedy > 8+2*10 || others < 9 {
		t.Errorf("the greedy source got %d operations in 10 s, ten others %d", greedy, others)
	}
}

func TestRefusingAllocatesNothing(t *testing.T) {
	c := newCrowd(strongFlood, func(c *crowd) ([]byte, netip.AddrPort) { return c.opening(), c.anywhere() })
	c.pass(time.Second) // all tables are made
	first, stray, odd, from := c.opening(), message(9, 9, wire.QuickMode, 0), []byte{1, 2, 3}, c.anywhere()
	n := testing.AllocsPerRun(1000, func() {
		for _, m := range [][]byte{first, stray, odd} {
			c.door.Ask(c.now, m, from)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations for three datagrams", n)
	}
}

func TestRefusalsAreToldButNotEachOfAFlood(t *testing.T) {
	c := newCrowd(strongFlood, func(c *crowd) ([]byte, netip.AddrPort) { return c.opening(), c.anywhere() })
	told := 0
	for i := range 5 * strongFlood {
		data, from := c.shoot(c)
		if c.door.Ask(c.now.Add(time.Duration(i)*time.Second/strongFlood), data, from) == Turned {
			told++
		}
	}
	if told < 20 || told > 20+10*5+1 {
		t.Errorf("%d refusals were told in 5 s", told)
	}
}

func BenchmarkDoorUnderAFlood(b *testing.B) {
	c := newCrowd(strongFlood, func(c *crowd) ([]byte, netip.AddrPort) { return c.opening(), c.anywhere() })
	c.pass(time.Second)
	first := c.opening()
	b.ReportAllocs()
	for i := range b.N {
		binary.BigEndian.PutUint64(first, uint64(i)+1)
		c.door.Ask(c.now, first, netip.AddrPortFrom(netip.AddrFrom4([4]byte{byte(i), byte(i >> 8), byte(i >> 16), 1}), 500))
	}
}
