package tunnel

import (
	"fmt"

	"yumen/policy"
)

// SetGuard is the part of a guard without a plane that XFRM policies are not: ip
// rules and blackhole routes of a plane of this configuration, without a TUN to lead
// into; and in a kernel without XFRM, nftables. The policies are left to the kernel
// plane's guard, because of two with one selector the kernel keeps the later. rules
// and routes are those of the policy (SPD.Rules, BypassRules). It is for the time
// before a gateway runs, in the calling thread's namespace, and needs CAP_NET_ADMIN.
//
// Packets of this host that have no address yet are not led astray, so that a host
// whose selector is 0.0.0.0/0 is reached on its outside addresses.
func SetGuard(cfg Config, rules []policy.Rule, routes []policy.RouteRule) error {
	cfg = cfg.withDefaults()
	k, err := openKernel()
	if err != nil {
		return err
	}
	defer k.close()
	around, err := k.look(0)
	if err != nil {
		return fmt.Errorf("guard: %w", err)
	}
	// Our own addresses are allowed towards a TUN only, and there is none.
	around.own = nil
	zones := zonesOf(rules)
	if k.xfrm == nil {
		if err := k.setGuard(planGuard(zones, around), cfg.Name, 0, cfg.Mark); err != nil {
			return err
		}
	}
	var blackholes []route
	for _, r := range planRoutes(zones, around, func(zone) int { return 0 }) {
		if r.kind != tunRoute {
			blackholes = append(blackholes, r)
		}
	}
	if _, err := k.setRoutes(blackholes, cfg.Table, 0); err != nil {
		return err
	}
	ipRules, err := planRules(zones, routes, around, cfg)
	if err != nil {
		return fmt.Errorf("guard: %w", err)
	}
	_, err = k.setRules(withoutOwn(ipRules), cfg.Table, cfg.RulePriority)
	return err
}

// withoutOwn leaves out the look-up for what this host sends from whatever address:
// only a TUN has a way for it.
func withoutOwn(list []rule) []rule {
	var out []rule
	for _, r := range list {
		if !(r.kind == lookupRule && r.ownOnly) {
			out = append(out, r)
		}
	}
	return out
}
