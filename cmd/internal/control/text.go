package control

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// page collects lines and remembers the moment that ages are counted from.
type page struct {
	strings.Builder
	now time.Time
}

func (p *page) line(format string, args ...any) { fmt.Fprintf(p, format+"\n", args...) }

// WriteText writes a status for people. A star behind a cookie marks our own.
func WriteText(w io.Writer, s Status) error {
	p := &page{now: s.Now}
	site := s.Site
	if site == "" {
		site = "gateway"
	}
	p.line("%s: yumen %s, up %s, %s plane, %d half open", site, s.Version, p.since(s.Started), s.Plane, s.HalfOpen)
	if u := s.Userspace; u != nil {
		p.userspace(u)
	}
	if s.Clock != "" {
		p.line("  CLOCK IMPLAUSIBLE: %s", s.Clock)
	}
	for _, warning := range s.Warnings {
		p.line("  warning: %s", warning)
	}
	for _, c := range s.Certificates {
		p.line("  %-4s '%s' serial %s, %s", c.Role, c.Subject, c.Serial, p.expiry(c.NotAfter))
	}
	for _, g := range s.Groups {
		p.group(g)
	}
	for _, peer := range s.Peers {
		p.peer(s, peer)
	}
	for i, x := range s.Sessions {
		if !slices.Contains(s.Peers, x.Peer) {
			p.session("(unknown peer)", i+1, x)
		}
	}
	for _, x := range s.Refusals {
		if !slices.Contains(s.Peers, x.Peer) {
			p.line("(unknown peer)")
			p.refusal(x)
		}
	}
	_, err := io.WriteString(w, p.String())
	return err
}

func (p *page) userspace(u *Userspace) {
	text := "crypto " + u.Crypto
	if !u.ConstantTime {
		text += " (with key-dependent look-ups)"
	}
	offloads := "none"
	if len(u.Offloads) > 0 {
		offloads = strings.Join(u.Offloads, " ")
	}
	text += ", offloads " + offloads
	if len(u.Missing) > 0 {
		text += "; not in use: " + strings.Join(u.Missing, " ")
	}
	p.line("  userspace plane: %s", text)
}

func (p *page) peer(s Status, name string) {
	seen := 0
	for i, x := range s.Sessions {
		if x.Peer == name {
			p.session(name, i+1, x)
			seen++
		}
	}
	if seen == 0 {
		p.line("%s: no ISAKMP SA", name)
	}
	for _, x := range s.Learned {
		if x.Peer == name {
			p.line("  learned of certificate %.16s...: dialect: %s", x.Fingerprint, x.Dialect)
		}
	}
	for _, t := range s.Tunnels {
		if t.Peer == name {
			p.tunnel(t)
		}
	}
	for _, x := range s.Refusals {
		if x.Peer == name {
			p.refusal(x)
		}
	}
}

func (p *page) refusal(x Refusal) {
	who := ""
	if x.Claimed {
		who = "claimed, "
	}
	if x.Tunnel != "" {
		who += x.Tunnel + ", "
	}
	if x.Remote != "" {
		who += bracket(x.Remote) + ", "
	}
	p.line("  last refusal: %s, %s%s ago", withDetail(x.Reason, x.Detail), who, p.since(x.At))
}

func (p *page) session(name string, n int, s Session) {
	i, r := "*", ""
	if !s.Initiator {
		i, r = "", "*"
	}
	kind := "GM"
	if s.NonGM != "" {
		kind = "NOT GM (" + s.NonGM + ")"
	}
	p.line("%s: #%d, %s, %s/%s, %s_i%s %s_r%s", name, n, strings.ToUpper(s.State), kind, s.Version, s.CookieI, i, s.CookieR, r)
	p.line("  local  '%s' @ %s", s.LocalName, bracket(s.Local))
	remote := "'" + s.RemoteName + "'"
	if s.RemoteName == "" {
		remote = "(not proven)"
	}
	p.line("  remote %s @ %s", remote, bracket(s.Remote))
	suite := "  SM4_CBC/SM3/SM2-envelope"
	if s.Suite != "" {
		suite = "  " + s.Suite
	}
	if s.NAT != "" && s.NAT != "none" {
		suite += "   nat " + s.NAT
	}
	p.line("%s", suite)
	for _, d := range s.Deviations {
		p.line("  deviation %s", d)
	}
	if s.Explicit != "" {
		p.line("  to make that explicit in the peer entry: %s", s.Explicit)
	}
	if s.Established == nil {
		p.line("  begun %s ago", p.since(s.Created))
		return
	}
	life := fmt.Sprintf("  established %s ago", p.since(*s.Established))
	if s.Rekey != nil {
		life += ", rekey " + p.until(*s.Rekey)
	}
	if s.Expires != nil {
		life += ", expires " + p.until(*s.Expires)
	}
	if s.CertExpires != nil {
		life += ", cert " + p.expiry(*s.CertExpires)
	}
	p.line("%s", life)
}

func (p *page) tunnel(t Tunnel) {
	if len(t.Children) == 0 {
		p.line("  %s: %s, path %s", t.Name, strings.ToUpper(t.State), t.Plane)
		p.line("    local %s  remote %s", t.Local, t.Remote)
	}
	for _, c := range t.Children {
		p.child(t, c)
	}
	if t.Explicit != "" {
		p.line("    to make that explicit in the tunnel entry: %s", t.Explicit)
	}
	if t.LastFailure != "" {
		p.line("    last failure: %s", withDetail(t.LastFailure, t.LastDetail))
	}
	if t.NextTry != nil {
		p.line("    next try %s", p.until(*t.NextTry))
	}
}

func (p *page) child(t Tunnel, c Child) {
	state := "INSTALLED"
	if !c.InUse {
		state = "INSTALLED (receiving only)"
	}
	head := fmt.Sprintf("  %s: #%d, %s, TUNNEL, %s, path %s", t.Name, c.ID, state, c.Suite, c.Plane)
	if c.Lane > 0 {
		head += fmt.Sprintf(", lane %d", c.Lane)
	}
	if c.ESN {
		head += ", esn"
	}
	if c.Encap {
		head += ", in UDP"
	}
	if c.MTU > 0 {
		head += fmt.Sprintf(", mtu %d", c.MTU)
	}
	if c.Expires != nil {
		head += ", expires " + p.until(*c.Expires)
	}
	p.line("%s", head)
	in := fmt.Sprintf("    in  %s, %s, %d replay, %d auth-fail", c.In.SPI, p.half(c.In), c.Replayed, c.BadAuth)
	if c.Plane != "kernel" { // which counts these for all children together
		in += fmt.Sprintf(", %d policy", c.BadPolicy)
	}
	p.line("%s", in)
	p.line("    out %s, %s", c.Out.SPI, p.half(c.Out))
	p.line("    local %s  remote %s", c.Local, c.Remote)
}

func (p *page) half(h Half) string {
	last := "never"
	if h.Last != nil {
		last = p.since(*h.Last) + " ago"
	}
	return fmt.Sprintf("%d bytes, %d packets, %s", h.Bytes, h.Packets, last)
}

func withDetail(reason, detail string) string {
	if detail == "" {
		return reason
	}
	return reason + " (" + detail + ")"
}

// bracket writes 192.0.2.1:500 as 192.0.2.1[500].
func bracket(addr string) string {
	at := strings.LastIndexByte(addr, ':')
	if at < 0 {
		return addr
	}
	return strings.Trim(addr[:at], "[]") + "[" + addr[at+1:] + "]"
}

func (p *page) since(t time.Time) string { return span(p.now.Sub(t)) }

func (p *page) until(t time.Time) string {
	if !t.After(p.now) {
		return "now"
	}
	return "in " + span(t.Sub(p.now))
}

func (p *page) expiry(t time.Time) string {
	if !t.After(p.now) {
		return "EXPIRED " + p.since(t) + " ago"
	}
	return "expires " + p.until(t)
}

// span writes a duration with two units at most: 812s, 22h51m, 211d.
func span(d time.Duration) string {
	d = max(d, 0).Round(time.Second)
	switch {
	case d < 20*time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd", int(d.Hours())/24)
}
