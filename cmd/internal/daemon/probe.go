package daemon

import (
	"errors"
	"net/netip"

	"yumen/ike/server"
)

// ProbeIKE sends whole or not at all, where the data plane can.
func (w natWire) ProbeIKE(data []byte, local, remote netip.AddrPort) error {
	if p, ok := any(w.plane).(server.Prober); ok {
		return p.ProbeIKE(data, local, remote)
	}
	return errors.ErrUnsupported
}
