package esp

import (
	"bytes"
	"testing"

	"yumen/esp/internal/lanes"
)

// Every kernel opens what every other sealed, and the best one is the default.
func TestKernelsUnderstandEachOther(t *testing.T) {
	list := Kernels()
	if list[0].Name != "generic" || list[0].ConstantTime || list[len(list)-1].path != lanes.Best() {
		t.Fatalf("%+v", list)
	}
	for _, v := range variants() {
		a, b := v.ends()
		for _, from := range list {
			for _, to := range list {
				out, err := from.NewOutbound(a, State{}, counterReader(1))
				if err != nil {
					t.Fatal(err)
				}
				in, err := to.NewInbound(b, State{})
				if err != nil {
					t.Fatal(err)
				}
				for n := range 50 {
					inner := v.packet(n * 29)
					if got, err := in.Open(nil, must(t, out, inner)); err != nil || !bytes.Equal(got, inner) {
						t.Fatalf("%v, %s to %s: %v", v, from.Name, to.Name, err)
					}
				}
			}
		}
	}
	for _, k := range list[1:] {
		if !k.ConstantTime || k.Name == "generic" {
			t.Errorf("%+v", k)
		}
	}
}
