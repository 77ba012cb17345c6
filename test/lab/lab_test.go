package lab

import (
	"sync"
	"testing"
	"time"
)

var members = sync.OnceValue(NewMembers)

func TestTwoGatewaysBringUpAChild(t *testing.T) {
	i, r := members().Pair()
	l := New(1, i, r)
	l.Run(3 * time.Minute)
	t.Log("\n" + l.Story.String())
	for _, f := range l.Faults {
		t.Error(f)
	}
	if _, ok := l.Gateway("r").Plane.InUse("office"); !ok {
		t.Error("r uses no child")
	}
}
