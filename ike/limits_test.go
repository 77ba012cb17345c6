package ike

import (
	"math"
	"testing"
	"time"

	"yumen/policy"
)

// TestSoftLimitsOfSmallAndLargeAmountsComeBeforeTheHardOnes: a soft limit of 0
// would be none, and traffic would stop at every hard limit.
func TestSoftLimitsOfSmallAndLargeAmountsComeBeforeTheHardOnes(t *testing.T) {
	for _, n := range []uint64{10, 62, 99, 100, 199, 1 << 20, math.MaxInt64} {
		for _, ours := range []bool{true, false} {
			l := limits(policy.Tunnel{Packets: n, Bytes: n, Lifetime: time.Hour}, lifetimes{}, ours)
			for _, soft := range []uint64{l.SoftPackets, l.SoftBytes} {
				if soft < n/5*4 || soft >= n {
					t.Errorf("hard limit %d, started by us %v: soft limit %d", n, ours, soft)
				}
			}
		}
	}
}
