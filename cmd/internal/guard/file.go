package guard

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"yumen/cmd/internal/atomicfile"
)

// FileName is the compiled file in the state folder of a gateway.
const FileName = "guard"

// ErrAbsent says that no policy was ever compiled here.
var ErrAbsent = errors.New("no guard has been compiled")

// Save replaces the compiled file in a state folder.
func (g *Compiled) Save(dir string) error {
	b, err := g.Encode()
	if err != nil {
		return err
	}
	if err := atomicfile.Write(filepath.Join(dir, FileName), b); err != nil {
		return fmt.Errorf("write the guard for the next boot: %w", err)
	}
	return nil
}

// Load reads a compiled file: ErrAbsent, ErrDamaged, or an error of the file system.
// A file that others than its owner may write, or that is not ours, is refused.
func Load(path string) (*Compiled, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s does not exist", ErrAbsent, path)
	}
	if err != nil {
		return nil, fmt.Errorf("read the guard: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read the guard: %w", err)
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); !info.Mode().IsRegular() || ok && int(owner.Uid) != os.Geteuid() || info.Mode().Perm()&0o022 != 0 {
		return nil, fmt.Errorf("%s: %w: it must be a file of this user that nobody else may write", path, ErrDamaged)
	}
	b, err := io.ReadAll(io.LimitReader(f, mostSize+1024))
	if err != nil {
		return nil, fmt.Errorf("read the guard: %w", err)
	}
	g, err := Decode(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; write it anew with `yumen guard compile`, or by starting the gateway", path, err)
	}
	return g, nil
}

// Forget removes the compiled file, so that no later boot sets the guard. One that
// is not there is no error.
func Forget(path string) error {
	err := os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return errors.Join(err, atomicfile.SyncDir(filepath.Dir(path)))
}
