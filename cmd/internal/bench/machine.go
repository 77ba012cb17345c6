package bench

import (
	"os"
	"runtime"
	"slices"
	"strings"

	"yumen/esp"
)

// machine looks around. What cannot be read is said to be unknown.
func machine() Machine {
	m := Machine{Cores: runtime.NumCPU(), CPU: "unknown CPU", Kernel: "unknown"}
	if b, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.Kernel = strings.TrimSpace(string(b))
	}
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		m.readCPU(string(b))
	}
	if all := esp.Kernels(); len(all) > 0 {
		best := all[len(all)-1]
		m.Path, m.ConstantTime = best.Name, best.ConstantTime
	}
	return m
}

// readCPU reads /proc/cpuinfo of x86 and of arm64.
func (m *Machine) readCPU(text string) {
	matter := []string{"aes", "pclmulqdq", "avx2", "avx512vl", "gfni", "vaes", "vpclmulqdq", "pmull", "sm3", "sm4"}
	m.Features = []string{}
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(line, ":")
		switch strings.TrimSpace(key) {
		case "model name":
			m.CPU = strings.TrimSpace(value)
		case "flags", "Features":
			has := strings.Fields(value)
			m.Features = slices.DeleteFunc(slices.Clone(matter), func(f string) bool { return !slices.Contains(has, f) })
		}
	}
}
