package tunnel

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"yumen/esp"
	"yumen/esp/changes"
	"yumen/esp/ours"
	"yumen/policy"
)

// Config says what a plane takes of the host. Every zero field has a default.
type Config struct {
	Name         string // of the TUN device; "yumen0"
	MTU          int    // of the path outside, in bytes; 1500
	Mark         uint32 // of packets that the gateway itself sends outside; 0x59756d65
	Table        int    // of our routes; 4950
	RulePriority int    // first of our ip rules, which take 2000 priorities; 4950
	NATPort      uint16 // of IKE and ESP in UDP; 4500
	// ManageSysctl allows to switch on forwarding for the whole host. Without it
	// a host that does not forward gives a warning.
	ManageSysctl bool
	Queues       int     // workers in each direction; one for each core, 8 at most
	Without      Offload // what is not to be tried though the kernel may have it
	// Beside: a kernel plane runs too, and this one carries what Carry says. That plane
	// was opened before and shares its NAT traversal port with this one: ESP of what
	// Foreign does not name comes here, IKE there, and ReadIKE waits until this plane
	// is closed.
	Beside bool
	Rand   io.Reader        // nil: crypto/rand
	Now    func() time.Time // nil: time.Now
}

func (c Config) withDefaults() Config {
	c.Name = cmp.Or(c.Name, "yumen0")
	c.MTU = cmp.Or(c.MTU, 1500)
	c.Mark = cmp.Or(c.Mark, 0x59756d65)
	c.Table = cmp.Or(c.Table, 4950)
	c.RulePriority = cmp.Or(c.RulePriority, 4950)
	c.NATPort = cmp.Or(c.NATPort, 4500)
	c.Queues = cmp.Or(c.Queues, min(runtime.GOMAXPROCS(0), mostQueues))
	if c.Rand == nil {
		c.Rand = rand.Reader
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

const (
	eventQueue = 256
	ikeQueue   = 1024
)

var errClosed = errors.New("data plane is closed")

// Plane is a running data plane. All methods may be called by any goroutine.
type Plane struct {
	cfg      Config
	kernel   *kernel
	tuns     []*tunQueue // all of one device
	offloads Offload     // that are in use
	noBulk   atomic.Bool
	tunIndex int
	sockets  [kinds]*socket           // IPv6 ones are nil on a host without IPv6
	spread   [kinds][]*socket         // further ones beside each, each with SPIs of its own
	divided  [kinds][]unix.SockFilter // what the shared port goes by
	bulk     []*socket                // for runs of ESP in UDP over IPv4, one for each worker; empty: one by one
	senders  []*socket                // of whole IPv4 packets, one for each worker
	sender6  *socket                  // of whole IPv6 packets; nil like the others
	gathered [kinds]*gathered         // fragments from inside
	asker    *socket                  // of probes over IPv4, with room of its own: they leave though traffic fills its socket
	icmp     [2]*socket               // errors about size, IPv4 and IPv6
	workers  []*worker
	openers  []*worker // those of them that receive
	running  sync.WaitGroup
	done     chan struct{}
	snap     atomic.Pointer[snapshot]
	counts   counts
	events   chan esp.Event
	echoes   chan esp.Echo
	probe    prober
	token    esp.PingToken // only we know what pings of ours carry
	flowSeed uint64
	reports  chan report
	ike      chan ikeDatagram
	push     atomic.Pointer[func(data []byte, local, remote netip.AddrPort)]
	writers  [kinds]*ikeWriter
	warnings []string

	mu      sync.Mutex // guards what follows; never taken by a worker
	closed  bool
	policy  *policy.Policy
	spd     *policy.SPD
	tunnels []tunnelEntry
	places  map[string]int // of tunnels in the policy, by name; replaced, never changed
	groups  map[string]*group
	sides   map[uint16]esp.Spread // by the set of lanes
	muted   map[string]bool       // by tunnel
	zones   []zone
	extra   []policy.RouteRule
	table   *esp.Table
	pairs   map[esp.ChildID]*pair
	paths   map[netip.Addr]learned // by remote address
	probed  map[ends]learned
	turn    uint64
	around  surroundings
	own4    netip.Addr
	own6    netip.Addr
	tunMTU  int
	within  map[zone][]int // which tunnels may carry the packets of a zone
	share   Share
	foreign foreign
	laid    []route // what our table holds; nil: unknown
	routed  []int   // MTUs of the tunnels as the routes have them; nil: unknown
	trouble error   // of the last change of the host that we could not follow
	mended  changes.Mended
}

// New opens the TUN device and the sockets in the network namespace of the
// calling thread and starts the workers. Nothing passes before SetPolicy. It
// needs CAP_NET_ADMIN and CAP_NET_RAW; errors name what is missing.
func New(cfg Config) (*Plane, error) {
	p := &Plane{
		cfg: cfg.withDefaults(), done: make(chan struct{}), pairs: map[esp.ChildID]*pair{},
		paths: map[netip.Addr]learned{}, probed: map[ends]learned{}, reports: make(chan report, 16),
		events: make(chan esp.Event, eventQueue), ike: make(chan ikeDatagram, ikeQueue), muted: map[string]bool{},
	}
	if err := p.open(); err != nil {
		p.release()
		return nil, err
	}
	p.spd, _ = policy.Compile(&policy.Policy{}) // drops everything
	p.publish()
	if err := p.startProbes(); err != nil {
		p.release()
		return nil, err
	}
	p.start()
	return p, nil
}

func (p *Plane) open() (err error) {
	if p.kernel, err = openKernel(); err != nil {
		return err
	}
	p.kernel.beside = p.cfg.Beside
	if p.tuns, p.offloads, err = openTUN(p.cfg.Name, p.cfg.Queues, p.cfg.Without); err != nil {
		return err
	}
	if err := applySysctls(tunSysctls(p.cfg.Name)); err != nil {
		return err
	}
	p.tunMTU = p.cfg.MTU
	if p.tunIndex, err = p.kernel.link(p.cfg.Name, p.tunMTU); err != nil {
		return err
	}
	if p.warnings, err = checkHost(p.cfg.ManageSysctl); err != nil {
		return err
	}
	if w := p.kernel.gapWarning(); w != "" {
		p.warnings = append(p.warnings, w)
	}
	for k := raw4; k < kinds; k++ {
		p.sockets[k], err = openSocket(k, p.cfg.NATPort, p.cfg.Mark, p.cfg.Beside)
		if k.v6() && errors.Is(err, unix.EAFNOSUPPORT) {
			p.sockets[k] = nil
			continue
		}
		if err != nil {
			return err
		}
		if k.udp() {
			p.writers[k] = &ikeWriter{sender: newSender(p.sockets[k])}
		}
	}
	if err := p.openSenders(); err != nil {
		return err
	}
	p.openMany()
	if err = changes.Routes(p.done, ours.RouteProtocol, true, p.followHost); err != nil {
		return err
	}
	if err = changes.Removals(p.done, ours.RouteProtocol, p.mendRoutes); err != nil {
		return err
	}
	if p.kernel.xfrm == nil || p.cfg.Beside { // a kernel plane has the policies, and looks after them
		return nil
	}
	return changes.Policies(p.done, ours.InGuardBand, p.mendGuard)
}

// openSenders opens what carries whole packets, and what hears of their size.
func (p *Plane) openSenders() (err error) {
	for range p.tuns {
		s, err := openSender(false, p.cfg.Mark)
		if err != nil {
			return err
		}
		p.senders = append(p.senders, s)
	}
	if p.asker, err = openSender(false, p.cfg.Mark); err != nil {
		return err
	}
	if p.icmp[0], err = openICMP(false, p.cfg.Mark); err != nil || p.sockets[raw6] == nil {
		return err
	}
	if p.sender6, err = openSender(true, p.cfg.Mark); err != nil {
		return err
	}
	p.icmp[1], err = openICMP(true, p.cfg.Mark)
	return err
}

// start begins one goroutine for each queue of the TUN and one for each socket.
func (p *Plane) start() {
	for i := range p.tuns {
		p.startOut(i)
	}
	for k, first := range p.sockets {
		if first == nil {
			continue
		}
		for i, s := range append([]*socket{first}, p.spread[k]...) {
			in := newInWorker(p, kind(k), i)
			in.from = newInbox(s, p.cfg.NATPort, p.offloads&OffloadReceive != 0)
			p.workers, p.openers = append(p.workers, &in.worker), append(p.openers, &in.worker)
			p.running.Go(in.run)
		}
	}
	for _, s := range p.icmp {
		if s != nil {
			p.running.Go(func() { p.listen(s) })
		}
	}
	p.running.Go(p.mind)
}

func (p *Plane) startOut(i int) {
	out := newOutWorker(p, i)
	out.send4 = newOutbox(p.senders[i])
	if p.sender6 != nil {
		out.whole6 = newOutbox(p.sender6)
	}
	for k, s := range p.sockets {
		if s != nil && kind(k).v6() {
			out.send6[k] = newOutbox(s)
		}
	}
	if i < len(p.bulk) {
		out.bulk4, out.bulkDF = newOutbox(p.bulk[i]), newCutting(p.bulk[i])
	}
	p.workers = append(p.workers, &out.worker)
	p.running.Go(out.run)
}

// pause keeps a worker whose file keeps failing from spinning. False: it is over.
func (p *Plane) pause() bool {
	select {
	case <-p.done:
		return false
	case <-time.After(time.Millisecond):
		return true
	}
}

// emit tells an event, or counts it as lost: the packet path waits for nobody.
func (p *Plane) emit(e esp.Event) {
	select {
	case p.events <- e:
	default:
		p.counts.add(lostEvent)
	}
}

// Events is what the plane tells. It is closed by Close.
func (p *Plane) Events() <-chan esp.Event { return p.events }

// Warnings are what New found about the host that an administrator should know, and
// that others took parts of the guard away.
func (p *Plane) Warnings() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append(slices.Clone(p.warnings), p.mended.Warning()...)
}

// Trouble is why the last change of the host's addresses or routes could not be
// followed; nil: it could. The guard stands in any case.
func (p *Plane) Trouble() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.trouble
}

// Close stops the plane and removes the TUN. The guard, the ip rules and the
// blackhole routes stay, so that nothing protected leaves in clear: see
// RemoveGuard.
func (p *Plane) Close() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closed = true
	p.mu.Unlock()
	p.probe.mu.Lock()
	p.probe.closed = true
	p.probe.mu.Unlock()
	p.release()
	for _, x := range p.pairs {
		x.in.Close()
		x.out.Close()
	}
	close(p.events)
	close(p.echoes)
	return nil
}

// release closes what is open and waits for the workers.
func (p *Plane) release() {
	close(p.done)
	for _, q := range p.tuns {
		q.file.Close()
	}
	all := append(append(slices.Concat(p.spread[:]...), p.bulk...), p.senders...)
	all = append(append(all, p.sockets[:]...), p.sender6, p.asker, p.icmp[0], p.icmp[1])
	for _, s := range all {
		if s != nil {
			s.file.Close()
		}
	}
	p.running.Wait()
	close(p.ike)
	if p.kernel != nil {
		p.kernel.close()
	}
}

// RemoveGuard takes away the guard, ip rules and routes that a plane of this
// configuration left behind. It is for the administrator who no longer wants the
// traffic protected; it needs no running plane, and with one running, which sets
// its policies again, its tunnels stop working until SetPolicy.
func RemoveGuard(cfg Config) error {
	cfg = cfg.withDefaults()
	k, err := openKernel()
	if err != nil {
		return err
	}
	defer k.close()
	_, rules := k.setRules(nil, cfg.Table, cfg.RulePriority)
	_, routes := k.setRoutes(nil, cfg.Table, 0)
	return errors.Join(rules, routes, k.removeGuard(cfg.Name))
}

// SetPolicy replaces the whole policy: the guard first, then routes and rules,
// then what the workers go by. Until an SA is used everything protected is
// dropped. It may be repeated. Children stay installed; the caller removes those
// that the policy no longer has.
func (p *Plane) SetPolicy(pol *policy.Policy) error {
	spd, err := policy.Compile(pol)
	if err != nil {
		return fmt.Errorf("set policy: %w", err)
	}
	extra, err := pol.BypassRules()
	if err != nil {
		return fmt.Errorf("set policy: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return errClosed
	}
	zones := p.shared(zonesOf(spd.Rules()))
	_, err = planRules(zones, extra, surroundings{}, p.cfg)
	if err = cmp.Or(err, guardable(zones)); err != nil {
		return fmt.Errorf("set policy: %w", err)
	}
	p.policy, p.spd, p.zones, p.extra = pol, spd, zones, extra
	p.within = tunnelsOf(zones, pol)
	p.enlist(pol)
	return p.apply()
}
