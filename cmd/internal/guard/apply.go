package guard

import (
	"errors"
	"fmt"

	"yumen/esp/tunnel"
	"yumen/xfrm"
)

// Set puts the guards of both data planes in place: what is protected is dropped
// until a gateway runs. Where SAs of a gateway that stopped still carry traffic
// (carrying), they and their policies stay, and only what they do not guard is added.
func (g *Compiled) Set() (carrying bool, err error) {
	carrying, err = xfrm.SetGuard(g.Rules)
	if err != nil {
		// What the other plane can hold it shall hold all the same.
		err = fmt.Errorf("guard of the kernel plane: %w", err)
	}
	if carrying {
		// Rules that lead into a TUN would lead the carried traffic astray.
		return true, err
	}
	if e := tunnel.SetGuard(g.userspace(), g.Rules, g.Routes); e != nil {
		err = errors.Join(err, fmt.Errorf("guard of the userspace plane: %w", e))
	}
	return false, err
}

// Remove takes away what Set, or a gateway, left, so that what was protected is in
// clear.
func (g *Compiled) Remove() error {
	return errors.Join(tunnel.RemoveGuard(g.userspace()), xfrm.RemoveGuard())
}
