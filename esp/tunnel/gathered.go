package tunnel

import (
	"time"

	"yumen/esp"
)

// gathered are the inner packets that wait for fragments, of all workers of one kind:
// the fragments of one packet may come to several of them.
type gathered struct {
	claim
	list    *esp.Reassembler
	expired time.Time
}

// gatheredBy is what the workers of a kind share. It is for the time before they start.
func (p *Plane) gatheredBy(k kind) *gathered {
	if p.gathered[k] == nil {
		p.gathered[k] = &gathered{list: esp.NewReassembler(esp.ReassemblyLimits{})}
	}
	return p.gathered[k]
}

// add does what esp.Reassembler.Add does.
func (g *gathered) add(now time.Time, from esp.ChildID, fragment []byte) ([]byte, error) {
	g.take()
	defer g.release()
	if now.Sub(g.expired) > expireEvery {
		g.list.Expire(now)
		g.expired = now
	}
	return g.list.Add(now, from, fragment)
}
