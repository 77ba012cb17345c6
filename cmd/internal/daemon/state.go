package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"yumen/cmd/internal/atomicfile"
)

const (
	timeFile  = "last-time"
	saveEvery = 5 * time.Minute
)

// oldest is a moment before which no clock of a host that runs this program can
// be right, for builds that do not know their own time.
func oldest() time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) }

// openState makes the folder of our own state, for its owner alone, or refuses
// one that others may write to.
func openState(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("state_dir: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("state_dir: %w", err)
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); ok && int(owner.Uid) != os.Geteuid() {
		return foreignState(dir, owner.Uid)
	}
	if err := ownFolder(dir, info); err != nil {
		return err
	}
	if info.Mode().Perm()&0o077 != 0 {
		if err := os.Chmod(dir, 0o700); err != nil {
			return fmt.Errorf("state_dir: %w", err)
		}
	}
	return nil
}

// saveTime remembers that it was now, unless a later moment is remembered.
func saveTime(dir string, now time.Time) error {
	if lastTime(dir).After(now) {
		return nil
	}
	return atomicfile.Write(filepath.Join(dir, timeFile), []byte(now.UTC().Format(time.RFC3339)+"\n"))
}

// lastTime is the last moment that a gateway with this state knew of; zero when
// none is saved or what is saved is no time.
func lastTime(dir string) time.Time {
	b, err := os.ReadFile(filepath.Join(dir, timeFile))
	if err != nil || len(b) > 64 {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339, strings.TrimSpace(string(b)))
	if err != nil {
		return time.Time{}
	}
	return t
}

// implausible says why a wall clock cannot be right: it lies before the program
// was built, or before a moment that the gateway has already lived through. The
// validity of certificates is then judged by a wrong clock.
func implausible(now, built, last time.Time) string {
	const form = "2006-01-02 15:04 UTC"
	if built.IsZero() {
		built = oldest()
	}
	switch {
	case now.Before(built):
		return fmt.Sprintf("%s lies before %s, when this program was made: set the clock", now.UTC().Format(form), built.UTC().Format(form))
	case now.Before(last):
		return fmt.Sprintf("%s lies before %s, when this gateway was last seen running: set the clock, or remove %s if that was wrong",
			now.UTC().Format(form), last.UTC().Format(form), timeFile)
	}
	return ""
}

// checkState says whether run could use the state folder, without making it.
func checkState(dir string) error {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		above := filepath.Dir(filepath.Clean(dir))
		if above == dir {
			return fmt.Errorf("state_dir: %w", err)
		}
		return checkParent(dir, above)
	case err != nil:
		return fmt.Errorf("state_dir: %w", err)
	case !info.IsDir():
		return fmt.Errorf("state_dir: %s is not a folder", dir)
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); ok && int(owner.Uid) != os.Geteuid() {
		return foreignState(dir, owner.Uid)
	}
	return errors.Join(ownFolder(dir, info), writable(dir))
}

// ownFolder refuses a folder that others use too (/tmp, /run): openState would lock
// them out of it. They are known by the folders in them; beside a gateway's state there
// may be its configuration, its keys and its log.
func ownFolder(dir string, info fs.FileInfo) error {
	if info.Mode()&fs.ModeSticky != 0 {
		return fmt.Errorf("state_dir: %s is for everybody (sticky): give the gateway a folder of its own", dir)
	}
	if info.Mode().Perm()&0o077 == 0 {
		return nil
	}
	list, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("state_dir: %w", err)
	}
	for _, e := range list {
		if e.IsDir() {
			return fmt.Errorf("state_dir: %s is open to others and holds the folder %s, which is not the gateway's: give it a folder of its own, or chmod 700 this one", dir, e.Name())
		}
	}
	return nil
}

// checkParent looks for the folder that exists, below which dir will be made.
func checkParent(dir, above string) error {
	info, err := os.Stat(above)
	switch next := filepath.Dir(above); {
	case errors.Is(err, fs.ErrNotExist) && next != above:
		return checkParent(dir, next)
	case err != nil:
		return fmt.Errorf("state_dir: %w", err)
	case !info.IsDir():
		return fmt.Errorf("state_dir: %s cannot be made: %s is not a folder", dir, above)
	}
	return writable(above)
}

// writable asks the kernel, which also knows of file systems that are read only.
func writable(dir string) error {
	const enter, write = 1, 2
	if err := syscall.Access(dir, enter|write); err != nil {
		return fmt.Errorf("state_dir: %s cannot be written to: %w", dir, err)
	}
	return nil
}

func foreignState(dir string, owner uint32) error {
	return fmt.Errorf("state_dir: %s belongs to user %d: it must belong to the user of the gateway", dir, owner)
}
