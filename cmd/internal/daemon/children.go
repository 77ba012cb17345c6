package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"yumen/cmd/internal/atomicfile"
	"yumen/esp"
	"yumen/ike"
	"yumen/policy"
)

// A data plane in the kernel carries on without us. So that the next process can
// take its children back, what the kernel does not know of them is kept in a file:
// which two SAs are a pair, of which tunnel, since when, with whom. It holds no key.
const (
	childrenFile    = "children"
	childrenKind    = "yumen-children"
	childrenVersion = 1
	// childrenSettle gathers a burst of changes. Children that a process which is
	// killed made so late are not adopted: they stay until new ones took over.
	childrenSettle = time.Second
)

// adopter is a data plane whose children may outlive the process.
type adopter interface {
	// Adopt takes children back that are still there, and says which.
	Adopt(children []esp.Child) ([]esp.ChildID, error)
	// Outlives reports whether a child would carry on without us.
	Outlives(id esp.ChildID) bool
}

// left is one child in the file.
type left struct {
	ID        esp.ChildID
	Tunnel    string
	Peer      string
	Selector  policy.Selector
	Suite     policy.Suite
	ICVBits   int
	ESN       bool
	Window    int
	Lane      uint8
	Outer     policy.Outer
	Path      esp.Path
	In, Out   esp.SPI
	Limits    esp.Limits
	Installed time.Time
	Origin    ike.Origin // of files of before: empty, and such children are not adopted
}

func leftOf(c esp.Child, installed time.Time, origin ike.Origin) left {
	return left{c.ID, c.Tunnel, c.Peer, c.Selector, c.Suite, c.ICVBits, c.ESN, c.Window, c.Lane, c.Outer, c.Path,
		c.In.SPI, c.Out.SPI, c.Limits, installed, origin}
}

func (l left) child() esp.Child {
	return esp.Child{ID: l.ID, Tunnel: l.Tunnel, Peer: l.Peer, Selector: l.Selector, Suite: l.Suite, ICVBits: l.ICVBits,
		ESN: l.ESN, Window: l.Window, Lane: l.Lane, Outer: l.Outer, Path: l.Path, In: esp.Half{SPI: l.In}, Out: esp.Half{SPI: l.Out},
		Limits: l.Limits}
}

// leftIn are the children in use that outlive the process.
func leftIn(s ike.Status, outlives func(esp.ChildID) bool) []left {
	list := []left{}
	for _, t := range s.Tunnels {
		for i, c := range t.Children {
			if c.ID == t.InUse && outlives(c.ID) {
				list = append(list, leftOf(c, t.Installed[i], t.Origins[i]))
			}
		}
	}
	return list
}

func saveChildren(dir string, list []left) error {
	b, err := json.Marshal(list)
	if err == nil {
		err = atomicfile.Write(filepath.Join(dir, childrenFile), atomicfile.Seal(childrenKind, childrenVersion, b))
	}
	if err != nil {
		return fmt.Errorf("remember the children for the next start: %w", err)
	}
	return nil
}

// loadChildren reads what a process before left; a file that is not there is empty.
func loadChildren(dir string) (list []left, err error) {
	path := filepath.Join(dir, childrenFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		b, err = atomicfile.Open(childrenKind, childrenVersion, b)
	}
	if err == nil {
		err = json.Unmarshal(b, &list)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w; its children are replaced and not adopted", path, err)
	}
	return list, nil
}

// takeBack adopts what a process before left in the data plane. What goes wrong costs
// a renewal, not the start.
func (g *gateway) takeBack(dir string) []ike.Adopted {
	plane, ok := g.plane.(adopter)
	if !ok {
		return nil
	}
	list, err := loadChildren(dir)
	if err != nil {
		g.log.Warn("state_dir", "error", err)
	}
	var children []esp.Child
	for _, l := range list {
		children = append(children, l.child())
	}
	taken, err := plane.Adopt(children)
	if err != nil {
		g.log.Warn("adoption", "error", err)
	}
	mine := map[esp.ChildID]bool{}
	for _, id := range taken {
		mine[id] = true
	}
	var out []ike.Adopted
	for _, l := range list {
		if mine[l.ID] {
			out = append(out, ike.Adopted{Child: l.child(), Installed: l.Installed, Origin: l.Origin})
		}
	}
	return out
}

func (g *gateway) outlives(id esp.ChildID) bool {
	plane, ok := g.plane.(adopter)
	return ok && id != 0 && plane.Outlives(id)
}

// remember notes that children changed; see serve.
func (g *gateway) remember(e ike.Event) {
	switch e.Kind {
	case ike.ChildUp, ike.ChildRekeyed, ike.ChildDown, ike.PeerMoved, ike.ICVFound:
		select {
		case g.changed <- struct{}{}:
		default: // known already
		}
	}
}

// rememberNow writes which children the next process finds.
func (g *gateway) rememberNow(ctx context.Context) {
	if _, ok := g.plane.(adopter); !ok {
		return
	}
	s, err := g.server.Snapshot(ctx)
	if err != nil {
		return // it is ending
	}
	if err := saveChildren(g.plan.Load().Config.StateDir, leftIn(s, g.outlives)); err != nil {
		g.log.Warn("state_dir", "error", err)
	}
}

// Handover answers `yumen handover`: it lets go of what the kernel carries on with,
// ends the rest as a stop does, and then the process. Peers hear nothing of the
// former.
func (g *gateway) Handover(ctx context.Context) error {
	g.handed.Store(true)
	s, err := g.server.Leave(ctx, func(t ike.TunnelStatus) bool { return g.outlives(t.InUse) })
	if err != nil {
		g.handed.Store(false)
		return err
	}
	list := leftIn(s, g.outlives)
	g.log.Info("handed over", "children", len(list))
	return saveChildren(g.plan.Load().Config.StateDir, list)
}

// forget removes the file after a stop that ended all children.
func (g *gateway) forget(dir string) error {
	if g.handed.Load() {
		return nil
	}
	err := os.Remove(filepath.Join(dir, childrenFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
