package bench

import (
	"fmt"
	"slices"

	"yumen/policy"
)

// Way is a suite and what carries ESP outside.
type Way struct {
	Name    string `json:"way"`
	Suite   string `json:"suite"`
	Outside string `json:"outside"`
	MTU     int    `json:"mtu"` // of the wire, bytes

	suite policy.Suite
	udp   bool
}

// ways are all that can be measured. With UDP the wire takes 8 bytes more, so that the
// lengths of GM/T 0023, which fill an Ethernet frame with protocol 50, pass whole.
func ways() []Way {
	one := func(name string, suite policy.Suite, udp bool) Way {
		w := Way{Name: name, Suite: suite.Describe(0), Outside: "ESP, protocol 50", MTU: linkMTU, suite: suite, udp: udp}
		if suite == policy.SM4CBCHMACSM3 {
			w.Suite = suite.Describe(96)
		}
		if udp {
			w.Outside, w.MTU = "ESP in UDP", linkMTU+8
		}
		return w
	}
	return []Way{one("cbc", policy.SM4CBCHMACSM3, false), one("cbc-udp", policy.SM4CBCHMACSM3, true),
		one("gcm", policy.SM4GCM128, false), one("gcm-udp", policy.SM4GCM128, true)}
}

// Ways are the words that Options.Ways may hold.
func Ways() (names []string) {
	for _, w := range ways() {
		names = append(names, w.Name)
	}
	return names
}

// word is the suite as a policy names it.
func (w Way) word() string {
	if w.suite == policy.SM4GCM128 {
		return "sm4gcm128"
	}
	return suiteWord
}

// encap is the key of a peer that brings about what the way says.
func (w Way) encap() string {
	if w.udp {
		return "    encap: force\n"
	}
	return ""
}

// chosen are the ways that the options name, in their own order.
func (o Options) chosen() (list []Way) {
	for _, w := range ways() {
		if slices.Contains(o.Ways, w.Name) {
			list = append(list, w)
		}
	}
	return list
}

func (o Options) checkWays() error {
	for _, name := range o.Ways {
		if !slices.Contains(Ways(), name) {
			return fmt.Errorf("ways %q: want some of %v", name, Ways())
		}
	}
	if len(o.Ways) == 0 {
		return fmt.Errorf("ways: none; want some of %v", Ways())
	}
	return nil
}
