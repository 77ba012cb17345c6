package daemon

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestAWallClockBeforeTheBuildOrTheLastSavedTimeIsImplausible(t *testing.T) {
	at := func(year int) time.Time { return time.Date(year, 6, 1, 12, 0, 0, 0, time.UTC) }
	for _, c := range []struct {
		now, built, last time.Time
		want             string
	}{
		{at(2030), at(2029), at(2028), ""},
		{at(2030), at(2029), time.Time{}, ""},
		{at(2030), at(2031), time.Time{}, "when this program was made"},
		{at(2030), at(2029), at(2031), "last seen running"},
		{at(1970), time.Time{}, time.Time{}, "when this program was made"},
		{at(2030), time.Time{}, time.Time{}, ""},
	} {
		got := implausible(c.now, c.built, c.last)
		if (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
			t.Errorf("now %v, built %v, last %v: %q, want %q", c.now, c.built, c.last, got, c.want)
		}
	}
}

func TestTheSavedTimeOnlyRises(t *testing.T) {
	dir := t.TempDir()
	if got := lastTime(dir); !got.IsZero() {
		t.Errorf("an empty state knows %v", got)
	}
	late := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, now := range []time.Time{late, late.Add(-time.Hour)} {
		if err := saveTime(dir, now); err != nil {
			t.Fatal(err)
		}
		if got := lastTime(dir); !got.Equal(late) {
			t.Errorf("saved %v, want %v", got, late)
		}
	}
	for _, junk := range []string{"", "yesterday", strings.Repeat("2", 100)} {
		if err := os.WriteFile(filepath.Join(dir, timeFile), []byte(junk), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := lastTime(dir); !got.IsZero() {
			t.Errorf("%q is the time %v", junk, got)
		}
	}
}

func TestTheStateFolderIsForItsOwnerAlone(t *testing.T) {
	base := t.TempDir()
	dir := filepath.Join(base, "var", "state")
	for range 2 {
		if err := openState(dir); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(base, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if openState(file) == nil || checkState(file) == nil {
		t.Error("a file was taken for a folder")
	}
	for _, unfit := range []string{filepath.Join(file, "below"), filepath.Join(file, "far", "below")} {
		if checkState(unfit) == nil || openState(unfit) == nil {
			t.Errorf("%s is said to be fit", unfit)
		}
	}
	if err := checkState(filepath.Join(base, "much", "later")); err != nil {
		t.Error(err)
	}
	if os.Geteuid() == 0 {
		theirs := filepath.Join(base, "theirs")
		if err := errors.Join(os.Mkdir(theirs, 0o700), os.Chown(theirs, 1234, 1234)); err != nil {
			t.Fatal(err)
		}
		if checkState(theirs) == nil || openState(theirs) == nil {
			t.Error("the folder of another user is said to be fit")
		}
	}
	if err := checkState(filepath.Join(base, "later")); err != nil {
		t.Errorf("a folder that run would make: %v", err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(dir, 65534, 65534); err != nil {
			t.Fatal(err)
		}
		if err := openState(dir); err == nil || !strings.Contains(err.Error(), "belongs to user 65534") {
			t.Errorf("a stranger's folder: %v", err)
		}
	}
}

// A folder that others use too is refused and left as it is: the owner's alone it
// would lock them out.
func TestAFolderOfOthersIsNoStateFolder(t *testing.T) {
	for name, c := range map[string]struct {
		mode  os.FileMode
		holds string // a folder, or with a / before it a file
		fit   bool
	}{
		"sticky":               {os.ModeSticky | 0o777, "", false},
		"sticky, for one":      {os.ModeSticky | 0o700, "", false},
		"with other things":    {0o755, "systemd", false},
		"for a group":          {0o710, "systemd", false},
		"with our own":         {0o755, "/" + timeFile, true},
		"with a configuration": {0o755, "/gateway.yaml", true},
		"empty":                {0o755, "", true},
		"ours, with anything":  {0o700, "systemd", true},
	} {
		dir := t.TempDir()
		if c.holds != "" {
			name, isFile := strings.CutPrefix(c.holds, "/")
			path := filepath.Join(dir, name)
			create := func() error { return os.Mkdir(path, 0o700) }
			if isFile {
				create = func() error { return os.WriteFile(path, nil, 0o600) }
			}
			if err := create(); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Chmod(dir, c.mode); err != nil {
			t.Fatal(err)
		}
		check, open := checkState(dir), openState(dir)
		if (check == nil) != c.fit || (open == nil) != c.fit {
			t.Errorf("%s: check says %v, run %v", name, check, open)
		}
		want := c.mode
		if c.fit {
			want = 0o700
		}
		if info, err := os.Stat(dir); err != nil || info.Mode()&(os.ModeSticky|os.ModePerm) != want {
			t.Errorf("%s: mode is now %v, %v", name, info.Mode(), err)
		}
	}
}

func TestSystemdHearsThatTheGatewayIsReady(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	if err := tellSystemd("READY=1"); err != nil {
		t.Errorf("without systemd: %v", err)
	}
	path := filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	if err := tellSystemd("READY=1"); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 64)
	if n, err := l.Read(b); err != nil || string(b[:n]) != "READY=1" {
		t.Errorf("heard %q, %v", b[:n], err)
	}
	t.Setenv("NOTIFY_SOCKET", path+".gone")
	if err := tellSystemd("READY=1"); err == nil {
		t.Error("nobody listens, and no error")
	}
}
