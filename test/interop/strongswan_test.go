package interop_test

import (
	"testing"
)

func TestYumenCallsStrongSwan(t *testing.T) {
	s := newStage(t)
	s.begin(pair{start: "start"})
	s.need(s.A.WaitUp(upLimit))
	s.traffic()
	s.settled(upLimit)
}
