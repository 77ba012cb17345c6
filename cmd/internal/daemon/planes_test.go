package daemon

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// A kernel plane that cannot be opened gives way to userspace where the choice was left
// to us, with the reason; else it ends the start.
func TestUserspaceTakesThePlaceOfAKernelPlaneThatCannotBeOpened(t *testing.T) {
	for _, c := range []struct {
		asked, name   string
		broken        []string
		opened        string // empty: the start ends
		tried, reason string
	}{
		{auto, auto, nil, auto, auto, "a reason"},
		{auto, auto, []string{auto}, userspace, auto + " " + userspace, "cannot be opened: no auto"},
		{auto, userspace, []string{userspace}, "", userspace, "no userspace"},
		{auto, auto, []string{auto, userspace}, "", auto + " " + userspace, "no auto\nand in its place: no userspace"},
		{kernel, kernel, []string{kernel}, "", kernel, "no kernel"},
	} {
		var tried []string
		x, name, why, err := orUserspace(c.asked, c.name, "a reason", func(name string) (plane, error) {
			tried = append(tried, name)
			if slices.Contains(c.broken, name) {
				return nil, errors.New("no " + name)
			}
			return &fakeSide{name: name}, nil
		})
		if err != nil {
			why = err.Error()
		}
		if (x == nil) != (c.opened == "") || name != c.opened || strings.Join(tried, " ") != c.tried || !strings.Contains(why, c.reason) {
			t.Errorf("asked for %s, %v broken: %s, tried %v, because %s", c.asked, c.broken, name, tried, why)
		}
	}
}
