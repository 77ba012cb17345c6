// Package locks tells where the packet path of a program waited for a lock or a
// channel of the runtime. It knows the path by the names of its two workers.
package locks

import (
	"bytes"
	"fmt"
	"runtime"
	"runtime/pprof"
	"strings"
)

// Watch begins to record every lock and channel that somebody waits for. The function
// ends that, and returns the stacks of those that a worker of a userspace plane met.
func Watch() (met func() ([]string, error)) {
	before := runtime.SetMutexProfileFraction(1)
	runtime.SetBlockProfileRate(1)
	return func() ([]string, error) {
		runtime.SetMutexProfileFraction(before)
		runtime.SetBlockProfileRate(0)
		var list []string
		for _, name := range []string{"mutex", "block"} {
			var text bytes.Buffer
			if err := pprof.Lookup(name).WriteTo(&text, 1); err != nil {
				return nil, fmt.Errorf("%s profile: %w", name, err)
			}
			for _, stack := range Stacks(text.String()) {
				list = append(list, name+": "+stack)
			}
		}
		return list, nil
	}
}

// Stacks are those of a profile, as debug=1 writes it, in which a worker waited.
func Stacks(profile string) (list []string) {
	for stack := range strings.SplitSeq(profile, "\n\n") {
		worker := strings.Contains(stack, "tunnel.(*outWorker)") || strings.Contains(stack, "tunnel.(*inWorker)")
		if worker && !ofTheScheduler(stack) {
			list = append(list, stack)
		}
	}
	return list
}

// ofTheScheduler says that a stack of the profile is the runtime's own: where the
// collector stops a thread, or sysmon takes one over during a system call, it meets
// its scheduler's lock. A channel, select or semaphore takes such a lock too, and is
// ours; a mutex never gets there.
func ofTheScheduler(stack string) bool {
	inner := true
	for line := range strings.Lines(stack) {
		_, frame, ok := strings.Cut(line, "\t0x")
		if !ok {
			continue
		}
		_, name, _ := strings.Cut(frame, "\t")
		name, runtimes := strings.CutPrefix(name, "runtime.")
		switch {
		case !runtimes:
			return !inner
		case inner && !strings.HasPrefix(name, "unlock") && !strings.HasPrefix(name, "_LostContendedRuntimeLock"):
			return false
		case strings.HasPrefix(name, "chan"), strings.HasPrefix(name, "select"), strings.HasPrefix(name, "sem"):
			return false
		}
		inner = false
	}
	return !inner
}
