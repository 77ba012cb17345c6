package vm

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// Where the kernel has SM3 and SM4, `yumen bench` measures both planes by protocol 50
// and in UDP, and says of SM4-GCM why the kernel has no figure. The machine is
// emulated: that there are figures is asked, not how large they are.
func TestBenchMeasuresBothPlanes(t *testing.T) {
	inside(t)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, os.Getenv("YUMEN_BIN"), "bench", "--quick", "--seconds", "0.05", "--accept-loss", "95",
		"--only", "loss,latency", "--ways", "cbc,cbc-udp,gcm", "--json", "-")
	var progress strings.Builder
	c.Stderr = &progress
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, progress.String())
	}
	var r struct {
		Loss []struct {
			Plane, Way string
			Received   float64 `json:"received_mbit_per_s"`
		}
		Latency []struct {
			Plane, Way string
			Median     float64 `json:"median_us"`
		}
		NotMeasured []struct{ What, Reason string } `json:"not_measured"`
	}
	check(t, json.Unmarshal(out, &r))
	found := map[string]int{}
	for _, x := range r.Loss {
		if x.Received > 0 {
			found[x.Plane+" "+x.Way]++
		}
	}
	for _, x := range r.Latency {
		if x.Median > 0 {
			found[x.Plane+" "+x.Way]++
		}
	}
	for _, want := range []string{"user cbc", "user cbc-udp", "user gcm", "kernel cbc", "kernel cbc-udp"} {
		if found[want] < 12 { // six loads
			t.Errorf("%s: %d figures of 12: %+v", want, found[want], r.NotMeasured)
		}
	}
	told := false
	for _, x := range r.NotMeasured {
		told = told || strings.Contains(x.What, "kernel, gcm") && strings.Contains(x.Reason, "GCM")
	}
	if !told || found["kernel gcm"] > 0 {
		t.Errorf("SM4-GCM of the kernel: %+v", r.NotMeasured)
	}
}
