package xfrm

import (
	"hash/fnv"
	"slices"

	"yumen/esp/ours"
)

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
		r := ours.Reqid | h.Sum32()&ours.ReqidBits
		for taken[r] {
			r = ours.Reqid | (r+1)&ours.ReqidBits
		}
		out[n], taken[r] = r, true
	}
	return out
}
