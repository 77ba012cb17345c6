package xfrm

import (
	"hash/fnv"
	"slices"
)

// Our reqids are reqidFirst and a number of 24 bits.
const (
	reqidFirst = uint32(0x59) << 24
	reqidMask  = uint32(0xff) << 24
)

func isReqid(r uint32) bool { return r&reqidMask == reqidFirst }

// numberTunnels gives each tunnel a reqid that follows from its name, so that a new
// process finds the same ones. Tunnels that had one keep it. Where two names fall
// on the same number, the later in the alphabet takes the next.
func numberTunnels(names []string, had map[string]uint32) map[string]uint32 {
	out := make(map[string]uint32, len(names))
	taken := make(map[uint32]bool, len(names))
	for _, n := range names {
		if r, ok := had[n]; ok {
			out[n], taken[r] = r, true
		}
	}
	names = slices.Sorted(slices.Values(names))
	for _, n := range names {
		if _, ok := out[n]; ok {
			continue
		}
		h := fnv.New32a()
		h.Write([]byte(n))
		r := reqidFirst | h.Sum32()&^reqidMask
		for taken[r] {
			r = reqidFirst | (r+1)&^reqidMask
		}
		out[n], taken[r] = r, true
	}
	return out
}
