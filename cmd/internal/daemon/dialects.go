package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"yumen/cmd/internal/atomicfile"
	"yumen/ike"
	"yumen/policy"
)

// dialectFile holds what was learned of peers with profile: auto. It is no
// secret and grants nothing: what stands in it is tried first, and no more.
const dialectFile = "dialects.json"

// maxDialects bounds the file in bytes: thousands of peers fit.
const maxDialects = 4 << 20

// dialectState is the content of the file.
type dialectState struct {
	Learned []learnedDialect `json:"learned"` // the newest last
}

type learnedDialect struct {
	Peer        string `json:"peer"`
	Fingerprint string `json:"fingerprint"` // SM3 of its signing certificate
	Dialect     string `json:"dialect"`     // as in a policy file
}

// loadDialects reads what was learned. Without a file that is nothing; a file that
// cannot be used is an error, and the gateway learns afresh.
func loadDialects(dir string) ([]ike.Learned, error) {
	path := filepath.Join(dir, dialectFile)
	afresh := func(err error) error {
		return fmt.Errorf("%s: %w; nothing of it is used, and the dialects of peers are learned afresh", path, err)
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, afresh(err)
	case info.Size() > maxDialects:
		return nil, afresh(fmt.Errorf("longer than %d bytes", maxDialects))
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, afresh(err)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	var state dialectState
	if err := d.Decode(&state); err != nil {
		return nil, afresh(err)
	}
	var out []ike.Learned
	for i, x := range state.Learned {
		if _, err := policy.Relearn(policy.Auto.Dialect(), x.Dialect); err != nil {
			return nil, afresh(fmt.Errorf("entry %d, peer %q: %w", i+1, x.Peer, err))
		}
		out = append(out, ike.Learned(x))
	}
	return out, nil
}

// saveDialects replaces the file.
func saveDialects(dir string, list []ike.Learned) error {
	state := dialectState{Learned: []learnedDialect{}}
	for _, x := range list {
		state.Learned = append(state.Learned, learnedDialect(x))
	}
	b, err := json.MarshalIndent(state, "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.Write(filepath.Join(dir, dialectFile), append(b, '\n'))
}

// keepDialects writes down what the engine has learned. A state that cannot be
// written costs a search after the next start, not the tunnels.
func (g *gateway) keepDialects(ctx context.Context) {
	status, err := g.server.Snapshot(ctx)
	if err == nil {
		err = saveDialects(g.plan.Load().Config.StateDir, status.Learned)
	}
	if err != nil {
		g.log.Warn("dialects are not kept", "error", err)
	}
}
