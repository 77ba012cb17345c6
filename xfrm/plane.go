package xfrm

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"yumen/esp"
	"yumen/esp/changes"
	"yumen/esp/ours"
	"yumen/policy"
)

// Config says what a plane takes of the host. Every zero field has a default.
type Config struct {
	MTU        int    // of the path outside, in bytes; 1500
	Mark       uint32 // of IKE packets on the NAT traversal port; 0x59756d65
	OutputMark uint32 // of ESP packets (Linux 4.19); 0: none
	NATPort    uint16 // of IKE and ESP in UDP; 4500
	// SharePort lets a userspace plane of this process, opened later, have the ESP on
	// the NAT traversal port that is not the kernel's. Until it says what that is, all
	// comes here; IKE always does.
	SharePort bool
	// Interface is an XFRM interface and InterfaceID its number: tunnels carry
	// what is routed into it. One that does not exist is made, and goes with
	// RemoveGuard. Empty: tunnels carry whatever matches.
	Interface   string
	InterfaceID uint32
	// Overlap is how long SAs of a dead daemon stay after a new child took over,
	// if no packet came by the new one before; 30 s.
	Overlap time.Duration
	// ManageSysctl allows to set net.core.xfrm_larval_drop to 0 for the whole host.
	ManageSysctl bool
}

func (c Config) withDefaults() Config {
	c.MTU = cmp.Or(c.MTU, 1500)
	c.Mark = cmp.Or(c.Mark, 0x59756d65)
	c.NATPort = cmp.Or(c.NATPort, 4500)
	c.Overlap = cmp.Or(c.Overlap, 30*time.Second)
	return c
}

const (
	eventQueue = 256
	ikeQueue   = 1024
	acquireGap = time.Second // between two acquires of one tunnel
)

// Plane is a running data plane. All methods may be called by any goroutine.
type Plane struct {
	cfg      Config
	conn     *conn
	host     *host
	listener *listener
	wire     *wire
	stat     *os.File // nil: the kernel has no counters
	icmp     *reporter
	ping     *pinger
	device   int
	running  sync.WaitGroup
	done     chan struct{}
	events   chan esp.Event
	ike      chan ikeDatagram
	push     atomic.Pointer[func(data []byte, local, remote netip.AddrPort)]
	lost     atomic.Uint64
	warnings []string

	mu       sync.Mutex // guards what follows
	closed   bool
	policy   *policy.Policy
	zones    []zone
	entries  []entry // in the kernel
	groups   []*group
	reqids   map[string]uint32 // by tunnel; those of a group have one
	numbers  map[string]uint32 // by tunnel or group
	marks    map[string]uint32 // of probes, by tunnel of a group with a target
	muted    map[string]bool
	pairs    map[esp.ChildID]*pair
	turn     uint64
	idleTurn uint32
	leftover map[string][]Leftover // by tunnel
	adopted  map[string]template   // out templates of a dead daemon whose SA lives
	unfit    []Leftover            // SAs of a dead daemon that go when the policies stand
	sizes    map[ends]known        // of paths
	read     bool                  // what a dead daemon left
	lent     lent
	trouble  error // the last; told for a while
	since    time.Time
	behind   error // of the last change of the host
	mended   changes.Mended
	quoted   string // what nft was told last; empty: not known
	unquoted string // why nft does not judge quoted packets
}

// New opens the sockets in the network namespace of the calling thread. It changes
// nothing in the kernel: that begins with SetPolicy. It needs CAP_NET_ADMIN; errors
// name what is missing.
func New(cfg Config) (*Plane, error) {
	p := &Plane{
		cfg: cfg.withDefaults(), done: make(chan struct{}), events: make(chan esp.Event, eventQueue),
		ike: make(chan ikeDatagram, ikeQueue), pairs: map[esp.ChildID]*pair{}, sizes: map[ends]known{},
		leftover: map[string][]Leftover{}, adopted: map[string]template{}, muted: map[string]bool{},
		// Other addresses than those of a process before us: see idle.
		idleTurn: uint32(time.Now().UnixMilli()),
	}
	if err := p.open(); err != nil {
		p.release()
		return nil, err
	}
	p.running.Go(p.listen)
	for i, f := range p.ping.files {
		if f != nil {
			p.running.Go(func() { p.ping.read(i == 1) })
		}
	}
	for _, c := range p.wire.conns {
		if c != nil {
			p.running.Go(func() { p.wire.read(c, p.handUp) })
		}
	}
	return p, nil
}

func (p *Plane) open() (err error) {
	if p.conn, err = openConn(); err != nil {
		return err
	}
	if _, err = p.conn.policies(); err != nil {
		return fmt.Errorf("list ipsec policies: %w (CAP_NET_ADMIN is needed)", err)
	}
	if p.host, err = openHost(); err != nil {
		return err
	}
	if p.cfg.Interface != "" {
		if p.device, err = p.host.ensureInterface(p.cfg.Interface, p.cfg.InterfaceID); err != nil {
			return err
		}
	}
	p.warnings = prepareHost(larvalDrop, p.cfg.ManageSysctl)
	if p.stat, err = openStats(); err != nil {
		return err
	}
	if p.wire, err = openWire(p.cfg.NATPort, p.cfg.Mark, p.cfg.SharePort); err != nil {
		return err
	}
	if p.icmp, err = openReporter(p.cfg.Mark); err != nil {
		return err
	}
	if p.ping, err = openPinger(); err != nil {
		return err
	}
	if p.listener, err = openListener(p.conn.port); err != nil {
		return err
	}
	if err = changes.Routes(p.done, ours.RouteProtocol, false, p.followHost); err != nil {
		return err
	}
	return changes.Policies(p.done, ours.InKernelBand, p.mendGuard)
}

// emit tells an event, or counts it as lost: the kernel waits for nobody.
func (p *Plane) emit(e esp.Event) {
	select {
	case p.events <- e:
	default:
		p.lost.Add(1)
	}
}

// Events is what the plane tells. It is closed by Close.
func (p *Plane) Events() <-chan esp.Event { return p.events }

// LostEvents counts events that nobody took in time.
func (p *Plane) LostEvents() uint64 { return p.lost.Load() }

// Warnings are what New and SetPolicy found about the host that an administrator should
// know, and that others took policies away.
func (p *Plane) Warnings() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.warned()
}

// Trouble is why the last change of the host's routes could not be followed, and what
// else went wrong last, for ten minutes or until the next SetPolicy; nil: nothing. The
// guard stands in any case.
func (p *Plane) Trouble() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Since(p.since) > faultTold {
		return p.behind
	}
	return errors.Join(p.behind, p.trouble)
}

// faultTold: much that goes wrong mends itself unseen, and a gateway with trouble is
// not ready.
const faultTold = 10 * time.Minute

// fault notes what went wrong. The caller holds mu.
func (p *Plane) fault(err error) { p.trouble, p.since = err, time.Now() }

// Stats reads the kernel's counters of the namespace that the plane was opened in.
// Empty: this kernel does not count.
func (p *Plane) Stats() (Stats, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stat == nil || p.closed {
		return Stats{}, nil
	}
	b := make([]byte, 16<<10)
	n, err := p.stat.ReadAt(b, 0)
	if n == 0 && err != nil {
		return nil, fmt.Errorf("read xfrm counters: %w", err)
	}
	return parseStats(b[:n]), nil
}

// Close ends the conversation with the kernel and leaves everything in it: SAs carry
// on until a limit ends them, and the next process finds them (Leftovers). Keys in
// our own memory are wiped.
func (p *Plane) Close() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closed = true
	for _, x := range p.pairs {
		x.wipe()
	}
	p.mu.Unlock()
	p.release()
	close(p.events)
	close(p.ping.out)
	return nil
}

// release closes what is open and waits for the readers.
func (p *Plane) release() {
	close(p.done)
	if p.listener != nil {
		p.listener.file.Close()
	}
	if p.wire != nil {
		p.wire.close()
	}
	p.ping.close()
	p.running.Wait()
	close(p.ike)
	if p.conn != nil {
		p.conn.close()
	}
	if p.host != nil {
		p.host.close()
	}
	p.icmp.close()
	if p.stat != nil {
		p.stat.Close()
	}
}

// RemoveGuard takes away every policy, SA and XFRM interface of ours in the calling thread's
// namespace. It is for the administrator who no longer wants the traffic protected;
// it needs no running plane, and one that runs sets its guard again.
func RemoveGuard() error {
	c, err := openConn()
	if errors.Is(err, errNoXFRM) {
		return nil // nothing can be there
	}
	if err != nil {
		return err
	}
	defer c.close()
	states, err := c.ours(false)
	if err != nil {
		return fmt.Errorf("list SAs: %w", err)
	}
	// Policies last: until then nothing leaves in clear.
	for _, r := range states {
		err = errors.Join(err, c.deleteState(r.state.dst, r.state.spi))
	}
	have, e := c.policies()
	err = errors.Join(err, e)
	for _, q := range have {
		err = errors.Join(err, c.deletePolicy(q))
	}
	return errors.Join(err, removeQuoted(), removeInterfaces())
}

// PushIKE makes the plane hand over IKE messages, without the non-ESP marker, where
// it reads them, instead of queueing them for ReadIKE, which from then on only waits
// for the end of the plane. So whoever knows what a flood is can refuse it before it
// is copied, and before it takes the place of honest messages. Several readers call
// to at once: it must not block, nor keep data.
func (p *Plane) PushIKE(to func(data []byte, local, remote netip.AddrPort)) { p.push.Store(&to) }

func (p *Plane) handUp(data []byte, local, remote netip.AddrPort) {
	if push := p.push.Load(); push != nil {
		(*push)(data, local, remote)
		return
	}
	select {
	case p.ike <- ikeDatagram{append([]byte(nil), data...), local, remote}:
	default: // whatever was dropped is repeated by its sender
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
// marker (RFC 3948 2.2). A local without address leaves the choice to the host; its
// port is not used.
func (p *Plane) WriteIKE(data []byte, local, remote netip.AddrPort) error {
	return p.wire.write([]byte{0, 0, 0, 0}, data, local, remote)
}

// WriteKeepalive sends a NAT keepalive (RFC 3948 2.3).
func (p *Plane) WriteKeepalive(local, remote netip.AddrPort) error {
	return p.wire.write([]byte{0xff}, nil, local, remote)
}
