package esp

import "sync/atomic"

// notice is something told once: quiet, raised, told.
type notice struct{ v atomic.Uint32 }

func (n *notice) raise() {
	if n.v.Load() == 0 {
		n.v.CompareAndSwap(0, 1)
	}
}

func (n *notice) raised() bool { return n.v.Load() != 0 }

// take answers true exactly once after raise. It costs one load otherwise.
func (n *notice) take() bool { return n.v.Load() == 1 && n.v.CompareAndSwap(1, 2) }

// meter counts one direction against its limits. One goroutine writes, any may
// read.
type meter struct {
	bytes, packets atomic.Uint64
	soft, hard     notice
	limits         Limits
}

func (m *meter) start(c Count, l Limits) {
	m.bytes.Store(c.Bytes)
	m.packets.Store(c.Packets)
	m.limits = l
}

// room says whether a packet of n inner bytes still fits below the hard limits.
// The first that does not fit closes the door for all that follow.
func (m *meter) room(n int) bool {
	if m.hard.raised() {
		return false
	}
	l := &m.limits
	if beyond(m.packets.Load(), 1, l.HardPackets) || beyond(m.bytes.Load(), uint64(n), l.HardBytes) {
		m.hard.raise()
		return false
	}
	return true
}

// beyond is have+more > limit without overflow; limit 0 is none.
func beyond(have, more, limit uint64) bool {
	return limit != 0 && (have > limit || more > limit-have)
}

func (m *meter) add(n int) {
	bytes, packets := m.bytes.Add(uint64(n)), m.packets.Add(1)
	l := &m.limits
	if l.SoftBytes != 0 && bytes >= l.SoftBytes || l.SoftPackets != 0 && packets >= l.SoftPackets {
		m.soft.raise()
	}
}

func (m *meter) count() Count {
	return Count{Bytes: m.bytes.Load(), Packets: m.packets.Load()}
}
