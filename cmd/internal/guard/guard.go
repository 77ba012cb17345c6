// Package guard keeps what is protected out of the clear while no gateway runs. It
// works from a compiled file that the gateway writes at each policy that it applies,
// so that it depends on nothing that an editor may break. It refuses to know peers,
// keys and certificates.
package guard

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"yumen/cmd/internal/atomicfile"
	"yumen/cmd/internal/config"
	"yumen/esp/tunnel"
	"yumen/policy"
)

// Compiled is everything that the guards of both data planes need.
type Compiled struct {
	Site   string             `json:"site"`
	Rules  []policy.Rule      `json:"rules"`  // in order of precedence: tunnels, rules, management
	Routes []policy.RouteRule `json:"routes"` // exceptions from the routing of the tunnels

	Tun           string `json:"tun"`
	Mark          uint32 `json:"mark"`
	Table         uint32 `json:"table"`
	RulePriority  int    `json:"rule_priority"`
	ControlSocket string `json:"control_socket"` // of the gateway that it belongs to
}

// Compile is what the guard needs of a configuration and its policy.
func Compile(c *config.Config, p *policy.Policy) (*Compiled, error) {
	spd, err := policy.Compile(p)
	if err != nil {
		return nil, fmt.Errorf("compile the guard: %w", err)
	}
	routes, err := p.BypassRules()
	if err != nil {
		return nil, fmt.Errorf("compile the guard: %w", err)
	}
	g := Of(c)
	g.Site, g.Rules, g.Routes = p.Site, spd.Rules(), routes
	return g, nil
}

// Of is the guard of a configuration without a policy: good for Remove alone.
func Of(c *config.Config) *Compiled {
	socket, err := filepath.Abs(c.ControlSocket)
	if err != nil {
		socket = c.ControlSocket
	}
	return &Compiled{Tun: c.Tun, Mark: c.Mark, Table: c.Table, RulePriority: c.RulePriority, ControlSocket: socket}
}

// userspace is what the guard of the userspace plane is placed with.
func (g *Compiled) userspace() tunnel.Config {
	return tunnel.Config{Name: g.Tun, Mark: g.Mark, Table: int(g.Table), RulePriority: g.RulePriority}
}

// The file is sealed JSON.
const (
	kind     = "yumen-guard"
	version  = 1
	mostSize = 16 << 20
)

// ErrDamaged is wrapped by every refusal of a file that is there.
var ErrDamaged = atomicfile.ErrDamaged

// Encode writes the content of a compiled file.
func (g *Compiled) Encode() ([]byte, error) {
	body, err := json.Marshal(g)
	if err != nil {
		return nil, fmt.Errorf("encode the guard: %w", err)
	}
	if len(body) > mostSize {
		return nil, fmt.Errorf("encode the guard: %d bytes, above %d: use fewer selectors", len(body), mostSize)
	}
	return atomicfile.Seal(kind, version, body), nil
}

// Decode reads the content of a compiled file. Anything but what Encode wrote is
// refused.
func Decode(b []byte) (*Compiled, error) {
	body, err := atomicfile.Open(kind, version, b)
	if err != nil {
		return nil, err
	}
	g := &Compiled{}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(g); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: something follows it", ErrDamaged)
	}
	return g, nil
}
