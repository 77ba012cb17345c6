package changes

import (
	"fmt"
	"time"
)

// Mended counts what others took away from a host and a plane put back. The zero value
// is ready.
type Mended struct {
	times, parts int
	last         time.Time
}

// Note adds policies, ip rules and routes that were set again.
func (m *Mended) Note(parts int, now time.Time) {
	m.times, m.parts, m.last = m.times+1, m.parts+parts, now
}

// Warning says so to people; empty: nothing was taken away.
func (m *Mended) Warning() []string {
	if m.times == 0 {
		return nil
	}
	return []string{fmt.Sprintf("others removed policies of the guard, or its ip rules or routes (ip xfrm policy flush? systemd-networkd?): "+
		"%d were set again in %d times, last at %s; what left in between was not protected, or dropped",
		m.parts, m.times, m.last.Format(time.DateTime))}
}
