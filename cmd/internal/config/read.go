package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const (
	envPrefix = "YUMEN_"
	maxFile   = 1 << 20
)

// Flags are the settings that were given on the command line, by key.
type Flags map[string]string

// FlagName is the flag of a key: log.format is --log-format. The control socket
// is --socket, because every command has it.
func FlagName(key string) string {
	if key == "control_socket" {
		return "socket"
	}
	return strings.NewReplacer("_", "-", ".", "-").Replace(key)
}

// Load reads the file, the environment and flags, in rising order of weight, and
// checks everything. All faults come at once, each with its place and its key. A
// key that nobody knows is a fault.
func Load(file string, flags Flags) (*Config, error) {
	raw, err := readFile(file)
	if err != nil {
		return nil, err
	}
	lines, faults := outline(file, raw)
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	v, err := collect(raw, flags)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	for key, line := range lines {
		if v.where[key] == "" {
			v.where[key] = fmt.Sprintf("%s:%d", file, line)
		}
	}
	c, faults := build(v, filepath.Dir(file))
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	c.File = file
	return c, nil
}

// Socket is the path of the control socket for a command that needs nothing else:
// the flag, or the environment, or the file where that can be read, or the
// default.
func Socket(file, flag string) string {
	if flag != "" {
		return flag
	}
	if env := os.Getenv(envPrefix + "CONTROL_SOCKET"); env != "" {
		return env
	}
	if c, err := Load(file, nil); err == nil {
		return c.ControlSocket
	}
	return standard("control_socket")
}

// StandardStateDir is where a gateway keeps its state when nobody says where.
func StandardStateDir() string { return standard("state_dir") }

// StateDir is the state folder for a command that needs nothing else and must work
// when the configuration is broken: of the environment, of the file where that can
// be read, or the default. Not sure: the file is there and cannot be understood, so
// it may name another folder.
func StateDir(file string) (dir string, sure bool) {
	if env := os.Getenv(envPrefix + "STATE_DIR"); env != "" {
		return env, true
	}
	c, err := Load(file, nil)
	if err != nil {
		return standard("state_dir"), false
	}
	return c.StateDir, true
}

func standard(key string) string {
	all := settings()
	return all[slices.IndexFunc(all, func(s setting) bool { return s.key == key })].standard
}

func readFile(file string) ([]byte, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w (name another with --config)", err)
	}
	if info.IsDir() || info.Mode()&(os.ModeNamedPipe|os.ModeSocket) != 0 || info.Size() > maxFile {
		return nil, fmt.Errorf("%s: not a configuration: it must be a file of at most %d bytes", file, maxFile)
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	return raw, nil
}
