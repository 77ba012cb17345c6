package xfrm

import (
	"errors"
	"fmt"
	"slices"

	"yumen/policy"
)

// SetGuard drops what rules protect, without a plane: block policies in our band
// take the place of everything of ours. rules are in order of precedence, as those
// of policy.SPD. It is for the time before a gateway runs, in the calling thread's
// namespace, and needs CAP_NET_ADMIN. A kernel without XFRM: no error, nothing done.
//
// Where SAs of an earlier process still live (carrying), nothing is taken away: its
// policies with templates stand and guard. What rules protect and they do not, and what
// rules exempt from that, is added: blocks stand below templates for the same addresses.
func SetGuard(rules []policy.Rule) (carrying bool, err error) {
	c, err := openConn()
	if errors.Is(err, errNoXFRM) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer c.close()
	states, err := c.ours(false)
	if err != nil {
		return false, fmt.Errorf("list SAs: %w", err)
	}
	have, err := c.policies()
	if err != nil {
		return false, fmt.Errorf("list ipsec policies: %w (CAP_NET_ADMIN is needed)", err)
	}
	carrying = len(states) > 0 && slices.ContainsFunc(have, func(h placed) bool { return h.template != nil })
	h, err := openHost()
	if err != nil {
		return false, err
	}
	defer h.close()
	connected, err := h.connected()
	if err != nil {
		return false, err
	}
	plan := planGuard(zonesOf(rules), surroundings{connected: connected, bare: true})
	return carrying, errors.Join(c.block(plan, have, carrying), setQuotedGuard(plan))
}

// block makes our band what the plan says, which has no templates: new policies
// first, then old ones go. With keep nothing goes, and templates stay what they are.
func (c *conn) block(plan []entry, have []placed, keep bool) error {
	there := make(map[selector]placed, len(have))
	for _, h := range have {
		there[h.selector] = h
	}
	for _, e := range plan {
		h, found := there[e.selector()]
		delete(there, e.selector())
		if found && (h.is(e, nil) || keep && h.template != nil) {
			continue
		}
		if err := c.setPolicy(e, nil); err != nil {
			return fmt.Errorf("set policy %s to %s: %w", e.src, e.dst, err)
		}
	}
	if keep {
		return nil
	}
	for _, h := range there {
		if err := c.deletePolicy(h); err != nil {
			return fmt.Errorf("remove old policy %s to %s: %w", h.src, h.dst, err)
		}
	}
	return nil
}
