package tunnel

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
)

// ikeDatagram is what came by port 4500 behind a non-ESP marker.
type ikeDatagram struct {
	data          []byte
	local, remote netip.AddrPort
}

// ikeWriter is a sender that several goroutines may use.
type ikeWriter struct {
	mu     sync.Mutex // guards both
	sender *sender
	buf    []byte
}

// PushIKE makes the plane hand over IKE messages, without the non-ESP marker, where
// it reads them, instead of queueing them for ReadIKE, which from then on only waits
// for the end of the plane. So whoever knows what a flood is can refuse it before it
// is copied, and before it takes the place of honest messages. Workers call to, several
// at once: it must not block, nor keep data.
func (p *Plane) PushIKE(to func(data []byte, local, remote netip.AddrPort)) { p.push.Store(&to) }

func (p *Plane) handUp(d *datagram) {
	if push := p.push.Load(); push != nil {
		p.counts.add(ikeReceived)
		(*push)(d.data[4:], d.local, d.remote)
		return
	}
	select {
	case p.ike <- ikeDatagram{data: append([]byte(nil), d.data[4:]...), local: d.local, remote: d.remote}:
		p.counts.add(ikeReceived)
	default:
		p.counts.add(dropIKE)
	}
}

// ReadIKE waits for the next IKE message on the NAT traversal port and returns it
// without the non-ESP marker, which address of ours it was sent to, and where it
// came from. It ends with an error when the plane is closed.
func (p *Plane) ReadIKE() (data []byte, local, remote netip.AddrPort, err error) {
	d, ok := <-p.ike
	if !ok {
		return nil, local, remote, errClosed
	}
	return d.data, d.local, d.remote, nil
}

// WriteIKE sends an IKE message from the NAT traversal port behind the non-ESP
// marker (RFC 3948 2.2). A local without address leaves the choice to the host;
// its port is not used.
func (p *Plane) WriteIKE(data []byte, local, remote netip.AddrPort) error {
	return p.writeUDP([]byte{0, 0, 0, 0}, data, envelope{local: local, remote: remote})
}

// ProbeIKE sends an IKE message like WriteIKE, but whole or not at all: with DF in
// IPv4, without fragments in IPv6. A message larger than the link is an error.
func (p *Plane) ProbeIKE(data []byte, local, remote netip.AddrPort) error {
	return p.writeUDP([]byte{0, 0, 0, 0}, data, envelope{local: local, remote: remote, whole: true})
}

// WriteKeepalive sends a NAT keepalive (RFC 3948 2.3).
func (p *Plane) WriteKeepalive(local, remote netip.AddrPort) error {
	return p.writeUDP([]byte{0xff}, nil, envelope{local: local, remote: remote})
}

func (p *Plane) writeUDP(head, data []byte, to envelope) (err error) {
	remote := netip.AddrPortFrom(to.remote.Addr().Unmap(), to.remote.Port())
	to.remote = remote
	if !remote.IsValid() || remote.Port() == 0 {
		return fmt.Errorf("send ike to %s: not an address and port", remote)
	}
	w := p.writers[kindOf(remote.Addr(), true)]
	if w == nil {
		return errors.New("send ike: this host has no IPv6")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.buf = append(append(w.buf[:0], head...), data...)
	if to.whole {
		if err := w.sender.socket.probing(true); err != nil {
			return fmt.Errorf("probe the path to %s: %w", remote, err)
		}
		defer func() { err = errors.Join(err, w.sender.socket.probing(false)) }()
	}
	if err := w.sender.send(w.buf, to); err != nil {
		return fmt.Errorf("send ike to %s: %w", remote, err)
	}
	return nil
}
