package daemon

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"yumen/cmd/internal/config"
	"yumen/ike"
)

// NewLogger writes one line for each record, text or JSON.
func NewLogger(w io.Writer, cfg *config.Config) *slog.Logger {
	options := &slog.HandlerOptions{Level: cfg.LogLevel}
	if cfg.LogJSON {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// narrator turns each event of the engine into one line and one count.
type narrator struct {
	log     *slog.Logger
	metrics *metrics
}

func (n narrator) tell(e ike.Event) {
	n.log.LogAttrs(context.Background(), levelOf(e), eventName(e.Kind), attributes(e)...)
	n.metrics.count(e)
}

// eventName is the word of an event in the log and in metrics. The set is closed.
func eventName(k ike.EventKind) string {
	switch k {
	case ike.IKEStarted:
		return "ike-started"
	case ike.IKEUp:
		return "ike-up"
	case ike.IKEDown:
		return "ike-down"
	case ike.IKEFailed:
		return "ike-failed"
	case ike.ChildUp:
		return "child-up"
	case ike.ChildRekeyed:
		return "child-rekeyed"
	case ike.ChildDown:
		return "child-down"
	case ike.ChildFailed:
		return "child-failed"
	case ike.Dropped:
		return "dropped"
	case ike.Refused:
		return "refused"
	case ike.NotifyIn:
		return "notify-in"
	case ike.NotifyOut:
		return "notify-out"
	case ike.Repeated:
		return "repeated"
	case ike.Deviation:
		return "deviation"
	case ike.Limited:
		return "limited"
	case ike.PlaneFailed:
		return "plane-failed"
	case ike.PeerDead:
		return "peer-dead"
	case ike.NATFound:
		return "nat-found"
	case ike.Retrying:
		return "retrying"
	case ike.PeerMoved:
		return "peer-moved"
	case ike.KeyOpFailed:
		return "key-operation-failed"
	case ike.DialectLearned:
		return "dialect-learned"
	case ike.ICVFound:
		return "icv-found"
	case ike.PathChanged:
		return "path-mtu"
	case ike.StandingBy:
		return "standing-by"
	case ike.TakingOver:
		return "taking-over"
	}
	return "unknown"
}

// levelOf: what an operator must see is a warning, what anybody on the Internet
// can cause without a certificate at hand is not shown by default.
func levelOf(e ike.Event) slog.Level {
	switch e.Kind {
	case ike.IKEFailed, ike.ChildFailed, ike.Refused, ike.PlaneFailed, ike.PeerDead, ike.KeyOpFailed, ike.Limited:
		return slog.LevelWarn
	case ike.Repeated:
		return slog.LevelDebug
	case ike.Dropped:
		if stray(e.Reason) {
			return slog.LevelDebug
		}
		return slog.LevelWarn
	}
	return slog.LevelInfo
}

// stray reports whether a message was dropped before anything of it was believed.
func stray(r ike.Reason) bool {
	switch r {
	case ike.Malformed, ike.BadVersion, ike.BadExchange, ike.BadFlags, ike.UnknownCookies, ike.UnknownPeer,
		ike.WrongSource, ike.UnexpectedState, ike.PayloadOrder, ike.Duplicate, ike.HalfOpenLimit, ike.RateLimited:
		return true
	}
	return false
}

func roleName(r ike.Role) string {
	if r == ike.Initiator {
		return "initiator"
	}
	return "responder"
}

// attributes lists what an event holds, in a fixed order, without what it does
// not hold. None is a key: an event has none.
func attributes(e ike.Event) []slog.Attr {
	var out []slog.Attr
	add := func(there bool, a slog.Attr) {
		if there {
			out = append(out, a)
		}
	}
	session := e.CookieI != [8]byte{}
	name := "peer"
	if e.Claimed {
		name = "claimed_peer" // not proven
	}
	add(e.Reason != "", slog.String("reason", string(e.Reason)))
	add(e.Peer != "", slog.String(name, e.Peer))
	add(e.NonGM != "", slog.String("non_gm", e.NonGM))
	add(e.Tunnel != "", slog.String("tunnel", e.Tunnel))
	add(session, slog.String("role", roleName(e.Role)))
	add(session, slog.String("cookie_i", fmt.Sprintf("%x", e.CookieI[:])))
	add(e.CookieR != [8]byte{}, slog.String("cookie_r", fmt.Sprintf("%x", e.CookieR[:])))
	add(e.MessageID != 0, slog.String("message_id", fmt.Sprintf("%08x", e.MessageID)))
	add(e.Local.IsValid(), slog.String("local", e.Local.String()))
	add(e.Remote.IsValid(), slog.String("remote", e.Remote.String()))
	add(e.Child != 0, slog.Uint64("child", uint64(e.Child)))
	add(e.InSPI != 0, slog.String("in_spi", fmt.Sprintf("%08x", uint32(e.InSPI))))
	add(e.OutSPI != 0, slog.String("out_spi", fmt.Sprintf("%08x", uint32(e.OutSPI))))
	add(e.Notify != 0, slog.Int("notify", int(e.Notify)))
	add(e.Detail != "", slog.String("detail", e.Detail))
	return out
}
