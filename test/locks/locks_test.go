package locks

import (
	"strings"
	"testing"
)

// A mutex, a channel and a semaphore of the packet path are found; the scheduler's own
// lock, and what others wait for, are not.
func TestOnlyWhatAWorkerWaitsForIsFound(t *testing.T) {
	frame := func(names ...string) string {
		text := "1 1 @ 0x1 0x2\n"
		for _, n := range names {
			text += "#\t0x1\t" + n + "+0x1\tfile.go:1\n"
		}
		return text
	}
	const worker = "yumen/esp/tunnel.(*outWorker).flush"
	found := []string{
		frame("sync.(*Mutex).Unlock", worker),
		frame("runtime.chansend1", worker),
		frame("runtime.unlock", "runtime.chansend", "runtime.chansend1", "yumen/esp/tunnel.(*inWorker).isESP"),
		frame("runtime.unlock", "runtime.semrelease1", "sync.(*Mutex).unlockSlow", worker),
		frame("runtime.selectgo", worker),
	}
	passed := []string{
		frame("runtime.unlock", "runtime.exitsyscall", "syscall.Syscall6", worker),
		frame("runtime._LostContendedRuntimeLock", worker),
		frame("sync.(*Mutex).Unlock", "yumen/esp/tunnel.(*Plane).Install"),
	}
	list := Stacks("--- mutex:\n" + strings.Join(append(found, passed...), "\n\n"))
	if len(list) != len(found) {
		t.Errorf("%d of %d found: %s", len(list), len(found), strings.Join(list, "\n\n"))
	}
}
