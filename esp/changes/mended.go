package changes

import (
	"fmt"
	"time"
)

// Mended counts what others took away from a host and a plane put back. The zero value
// is ready.
type Mended struct {
	times, policies int
	last            time.Time
}

// Note adds policies that were set again.
func (m *Mended) Note(policies int, now time.Time) {
	m.times, m.policies, m.last = m.times+1, m.policies+policies, now
}

// Warning says so to people; empty: nothing was taken away.
func (m *Mended) Warning() []string {
	if m.times == 0 {
		return nil
	}
	return []string{fmt.Sprintf("others removed policies of the guard (ip xfrm policy flush?): %d were set again in %d times, "+
		"last at %s; what left in between was not protected", m.policies, m.times, m.last.Format(time.DateTime))}
}
