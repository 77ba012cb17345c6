package lab

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"yumen/ike"
)

// A path drops fragments, so that large messages vanish while small ones pass: the end
// that sent them says so, with their size, to the log and where it has a tunnel to show
// in its status too.
func TestLargeMessagesThatVanishAreNamed(t *testing.T) {
	for _, c := range []struct {
		who, message string
		small        func(i, r *Site)
	}{
		{"i", "message 3", func(i, r *Site) { r.Own, i.Peer().Identity.Subject = members().R, SubjectR }},
		{"r", "message 2", func(i, r *Site) { i.Own, r.Peer().Identity.Subject = members().I, SubjectI }},
	} {
		l := large(1, c.small)
		size := 0
		l.Hook = func(p Packet) []Packet {
			if p.Data == nil || p.Size() <= 1280 {
				return []Packet{p}
			}
			if p.From == c.who && size == 0 {
				size = len(p.Data)
			}
			return nil
		}
		g := l.Gateway(c.who)
		var told string
		g.Told = func(v ike.Event) {
			if v.Kind == ike.IKEFailed && v.Reason == ike.FragmentsBlocked && told == "" {
				told = v.Detail
			}
		}
		l.Run(2 * time.Minute)
		if want := fmt.Sprintf("%s has %d bytes", c.message, size); size == 0 || !strings.HasPrefix(told, want) {
			t.Errorf("%s: told %q, want %q", c.who, told, want)
		}
		if st := g.Engine.Status().Tunnels[0]; c.who == "i" && (st.LastFailure != ike.FragmentsBlocked || st.LastDetail != told) {
			t.Errorf("%s: status says %s: %s", c.who, st.LastFailure, st.LastDetail)
		}
	}
}
