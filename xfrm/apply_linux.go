package xfrm

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"yumen/esp"
	"yumen/esp/ours"
)

// step is one change of the kernel and how to take it back.
type step struct {
	do, undo func() error
	what     string
}

// carryOut does the steps in order. When one fails, those before it are undone,
// last first.
func carryOut(steps []step) error {
	for i, s := range steps {
		err := s.do()
		if err == nil {
			continue
		}
		err = fmt.Errorf("%s: %w", s.what, err)
		for j := i - 1; j >= 0; j-- {
			if back := steps[j].undo; back != nil {
				if e := back(); e != nil {
					err = errors.Join(err, fmt.Errorf("and undoing what was done: %s: %w", steps[j].what, e))
				}
			}
		}
		return err
	}
	return nil
}

func adding(c *conn, s state) step {
	return step{
		do:   func() error { return c.addState(s) },
		undo: func() error { return c.deleteState(s.dst, s.spi) },
		what: fmt.Sprintf("add SA %08x to %s", uint32(s.spi), s.dst),
	}
}

// addState adds an SA. One that waits for it in the kernel makes way; any other with
// its SPI is an error, since the kernel would else keep that one's keys.
func (c *conn) addState(s state) error {
	for range 3 {
		err := c.do(stateMessage(s, uint64(time.Now().Unix())), nil)
		if !errors.Is(err, unix.EEXIST) {
			return err
		}
		r, found := c.readState(s.dst, s.spi, false)
		if found == nil && !r.larval {
			return fmt.Errorf("%w: another SA has this SPI", err)
		}
		if err := c.deleteState(s.dst, s.spi); err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: the kernel keeps waiting for it", unix.EEXIST)
}

// readState reads one SA, with its keys only if asked; wipe them.
func (c *conn) readState(dst netip.Addr, spi esp.SPI, keys bool) (r reading, err error) {
	id := stateID(dst, spi)
	ok := false
	err = c.do(newMessage(nl.XFRM_MSG_GETSA, 0, id.Serialize()), func(b []byte) { r, ok = parseState(b, keys) })
	if err == nil && !ok {
		err = errors.New("the kernel's answer is cut off")
	}
	return r, err
}

// deleteState deletes an SA; one that is gone is no error.
func (c *conn) deleteState(dst netip.Addr, spi esp.SPI) error {
	id := stateID(dst, spi)
	err := c.do(newMessage(nl.XFRM_MSG_DELSA, unix.NLM_F_ACK, id.Serialize()), nil)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

// updatePorts moves an SA to other ports. The kernel takes the ports and limits of
// the request and leaves everything else as it is.
func (c *conn) updatePorts(s state) error {
	m := stateMessage(s, uint64(time.Now().Unix()))
	m.kind, m.flags = nl.XFRM_MSG_UPDSA, unix.NLM_F_ACK
	return c.do(m, nil)
}

// unwatch ends the kernel's telling of each packet of an SA.
func (c *conn) unwatch(dst netip.Addr, spi esp.SPI) error {
	const size = 48 // struct xfrm_aevent_id: SA, source, flags, reqid
	id := stateID(dst, spi)
	m := newMessage(nl.XFRM_MSG_NEWAE, unix.NLM_F_ACK|unix.NLM_F_REPLACE, append(id.Serialize(), make([]byte, size-nl.SizeofXfrmUsersaId)...))
	m.attr(nl.XFRMA_REPLAY_THRESH, word(0))
	err := c.do(m, nil)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

// ours lists the states of our reqids, with keys if asked; wipe them.
func (c *conn) ours(keys bool) (list []reading, err error) {
	err = c.dump(nl.XFRM_MSG_GETSA, func() { list = list[:0] }, func(b []byte) {
		if r, ok := parseState(b, false); ok && ours.IsReqid(r.state.reqid) && !r.larval {
			if keys {
				r, _ = parseState(b, true)
			}
			list = append(list, r)
		}
	})
	return list, err
}

// policies lists those of our band.
func (c *conn) policies() (list []placed, err error) {
	err = c.dump(nl.XFRM_MSG_GETPOLICY, func() { list = list[:0] }, func(b []byte) {
		if p, ok := parsePolicy(b); ok && ours.InKernelBand(p.priority) {
			list = append(list, p)
		}
	})
	return list, err
}

// dump lists, again when the list changed meanwhile.
func (c *conn) dump(kind uint16, restart func(), each func(b []byte)) (err error) {
	for range 5 {
		restart()
		err = c.do(newMessage(kind, unix.NLM_F_DUMP, nil), each)
		if !errors.Is(err, errInterrupted) {
			return err
		}
	}
	return err
}

// setPolicy puts a policy in the place of one with its selector.
func (c *conn) setPolicy(e entry, t *template) error { return c.do(policyMessage(e, t), nil) }

// deleteSelector deletes the policy that e put there.
func (c *conn) deleteSelector(e entry) error {
	info := nl.DeserializeXfrmUserpolicyInfo(policyMessage(e, nil).body())
	id := nl.XfrmUserpolicyId{Sel: info.Sel, Dir: info.Dir}
	m := newMessage(nl.XFRM_MSG_DELPOLICY, unix.NLM_F_ACK, id.Serialize())
	m.selected(e.ifID, e.mark)
	return c.do(m, nil)
}

// deletePolicy deletes a policy by its number; one that is gone is no error.
func (c *conn) deletePolicy(p placed) error {
	id := nl.XfrmUserpolicyId{Index: p.index, Dir: uint8(p.dir)}
	m := newMessage(nl.XFRM_MSG_DELPOLICY, unix.NLM_F_ACK, id.Serialize())
	m.selected(p.ifID, p.mark)
	err := c.do(m, nil)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}
