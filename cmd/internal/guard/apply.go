package guard

import (
	"errors"
	"fmt"

	"yumen/esp/tunnel"
	"yumen/xfrm"
)

// Set puts the guards of both data planes in place: what is protected is dropped
// until a gateway runs. Where SAs of a gateway that stopped still carry traffic, they
// and their policies are the guard, and nothing is changed.
func (g *Compiled) Set() error {
	carrying, err := xfrm.SetGuard(g.Rules)
	if err != nil {
		// What the other plane can hold it shall hold all the same.
		err = fmt.Errorf("guard of the kernel plane: %w", err)
	}
	if carrying {
		return err
	}
	if e := tunnel.SetGuard(g.userspace(), g.Rules, g.Routes); e != nil {
		err = errors.Join(err, fmt.Errorf("guard of the userspace plane: %w", e))
	}
	return err
}

// Remove takes away what Set, or a gateway, left, so that what was protected is in
// clear.
func (g *Compiled) Remove() error {
	return errors.Join(tunnel.RemoveGuard(g.userspace()), xfrm.RemoveGuard())
}
