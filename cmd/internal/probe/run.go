package probe

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"yumen/esp"
	"yumen/ike"
	"yumen/ike/server"
	"yumen/policy"
	"yumen/policy/secret"
)

// ports of IKE, without and with NAT traversal (RFC 3947 4).
const portNAT = 4500

// Run opens UDP 500 and 4500 and drives m until it is done or ctx ends, when it
// still takes its leave. Keys may be nil for a machine without credentials.
func Run(ctx context.Context, m Machine, p *policy.Policy, keys server.PrivateKeys, bypass server.Bypass) (err error) {
	if keys == nil {
		keys = noKeys{}
	}
	sockets, err := server.Listen(portIKE, bypass)
	if err != nil {
		return err
	}
	defer sockets.Close()
	marked, err := server.Listen(portNAT, bypass)
	if err != nil {
		return err
	}
	defer marked.Close()
	wires := sockets.Wires()
	for _, w := range marked.Wires() {
		w.Wire = markedWire{w.Wire}
		wires = append(wires, w)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := server.New(server.Config{Engine: &watched{m, cancel}, Plane: noPlane{}, Wires: wires, Keys: keys, Policy: p})
	if err != nil {
		return err
	}
	return s.Run(ctx)
}

// watched ends the run once the machine is done.
type watched struct {
	Machine
	cancel func()
}

func (w *watched) Step(now time.Time, in ike.Input) ike.Output {
	out := w.Machine.Step(now, in)
	if w.Done() {
		w.cancel() // what out holds is still sent: the loop looks between two steps
	}
	return out
}

// markedWire puts the non-ESP marker (RFC 3948 2.2) before each message.
type markedWire struct{ server.Wire }

const marker = "\x00\x00\x00\x00"

func (w markedWire) ReadIKE(buf []byte) (int, netip.AddrPort, netip.AddrPort, error) {
	n, local, remote, err := w.Wire.ReadIKE(buf)
	if err != nil || n <= len(marker) || string(buf[:len(marker)]) != marker {
		return 0, local, remote, err // ESP, or a keepalive
	}
	return copy(buf, buf[len(marker):n]), local, remote, nil
}

func (w markedWire) WriteIKE(data []byte, local, remote netip.AddrPort) error {
	return w.Wire.WriteIKE(append([]byte(marker), data...), local, remote)
}

// noPlane is the data plane of a probe: it is never asked for anything.
type noPlane struct{}

var errNoPlane = errors.New("a probe has no data plane")

func (noPlane) SetPolicy(*policy.Policy) error              { return nil }
func (noPlane) Install(esp.Child, esp.State) error          { return errNoPlane }
func (noPlane) Use(esp.ChildID) error                       { return errNoPlane }
func (noPlane) Rebind(esp.ChildID, esp.Path) error          { return errNoPlane }
func (noPlane) Remove(esp.ChildID) (s esp.State, err error) { return s, nil }
func (noPlane) Usage(esp.ChildID) (u esp.Usage, known bool) { return u, false }
func (noPlane) Events() <-chan esp.Event                    { return nil }

// noKeys are those of a probe without credentials.
type noKeys struct{}

var errNoKeys = errors.New("a probe without credentials has no keys")

func (noKeys) Sign([]byte) ([]byte, error) { return nil, errNoKeys }
func (noKeys) Open([]byte) (s secret.Secret, f policy.SKEncoding, err error) {
	return s, f, errNoKeys
}
