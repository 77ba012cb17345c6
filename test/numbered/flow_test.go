package numbered

import (
	"testing"
	"time"
)

func TestAGapIsWhatWasSentAndNotDelivered(t *testing.T) {
	begin := time.Unix(1000, 0)
	at := func(ms int) time.Time { return begin.Add(time.Duration(ms) * time.Millisecond) }
	f := &Flow{}
	send := func(ms int) uint32 {
		f.leaves(at(ms))
		return f.Sent.Add(1) - 1
	}
	f.Take(send(0), at(1))
	f.Watch()
	f.Take(send(10), at(12))
	f.Take(send(500), at(503)) // the generator paused
	if gap := f.Gap(at(600)); gap != 3*time.Millisecond {
		t.Errorf("a generator that pauses makes a gap of %v", gap)
	}
	for i := range 5 {
		send(510 + 10*i) // lost
	}
	f.Take(send(560), at(561))
	if gap := f.Gap(at(600)); gap != 51*time.Millisecond {
		t.Errorf("five lost packets make a gap of %v", gap)
	}
	late := send(600)
	f.Take(send(601), at(602))
	f.Take(late, at(690)) // overtaken: something was delivered
	if gap := f.Gap(at(700)); gap != 51*time.Millisecond || f.Overtaken() != 1 {
		t.Errorf("a packet that was overtaken makes a gap of %v, %d overtaken", gap, f.Overtaken())
	}
	send(700)
	if gap := f.Gap(at(900)); gap != 200*time.Millisecond {
		t.Errorf("a gap that lasts is %v", gap)
	}
	f.leaves(at(901)) // refused by the host, and tried again
	f.Take(send(950), at(951))
	if gap := f.Gap(at(951)); gap != 251*time.Millisecond {
		t.Errorf("with a refused packet it is %v", gap)
	}
	if lost := f.Lost(0, f.Sent.Load()); lost != 6 {
		t.Errorf("%d lost: %s", lost, f.Missing())
	}
}

// A packet that leaves while the watch begins has its number, and no place of its own.
func TestAWatchMayBeginWhileAPacketLeaves(t *testing.T) {
	now := time.Unix(1000, 0)
	f := &Flow{}
	f.leaves(now)
	f.Watch()
	f.Take(f.Sent.Add(1)-1, now)
	for range 3 {
		now = now.Add(time.Second)
		f.leaves(now)
		f.Take(f.Sent.Add(1)-1, now.Add(time.Millisecond))
	}
	if gap := f.Gap(now.Add(time.Millisecond)); gap != time.Millisecond {
		t.Errorf("a gap of %v", gap)
	}
}
