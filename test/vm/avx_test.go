package vm

import (
	"os"
	"strings"
	"testing"
)

// The kernel's AVX drivers against our own ESP. They are chosen by the CPU that the
// guest sees: the second boot of make vm shows one with AVX2.
func TestAVXDriversAgreeWithOurs(t *testing.T) {
	w := inside(t)
	cpu, err := os.ReadFile("/proc/cpuinfo")
	check(t, err)
	if !strings.Contains(string(cpu), " avx2 ") {
		t.Skip("SKIP AVX drivers: this machine shows no AVX2; the next boot does")
	}
	a, b := w.open(t, false, kernel), w.open(t, true, user)
	for n, f := range []form{{icv: 96}, {icv: 256, udp: true, esn: true}} {
		install(t, n, f, a, b)
		w.everyWay(t, 2)
		remove(t, n, a, b)
	}
	list, err := os.ReadFile("/proc/crypto")
	check(t, err)
	for _, driver := range []string{"cbc-sm4-aesni-avx2", "sm3-avx"} {
		if !strings.Contains(string(list), driver) {
			t.Errorf("the kernel did not use %s", driver)
		}
	}
}
