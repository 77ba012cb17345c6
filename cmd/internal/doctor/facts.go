package doctor

import (
	"net/netip"
	"time"

	"yumen/policy"
)

// Facts are what was seen of a machine. The zero value of a member means that it
// was not seen or does not exist, as said.
type Facts struct {
	Settings    Settings
	Policy      *policy.Policy // nil: could not be read
	ConfigFault string         // why not
	Blind       []string       // what could not be looked at, and why

	Now    time.Time
	Built  time.Time // of this program; zero: not known
	Synced bool      // the kernel's clock is steered (adjtimex)

	Kernel     Kernel
	TunDevice  error // of opening /dev/net/tun; nil: it can be opened
	Offloads   Offloads
	Rights     uint64 // effective capabilities, as bits
	MemoryLock uint64 // RLIMIT_MEMLOCK in bytes

	Sysctl     map[string]string // below /proc/sys/net, "ipv4/ip_forward"; absent: not there
	NFT        bool              // the program nft is installed
	Firewall   *Ruleset          // nil: none could be listed
	Paths      []Path            // one a peer with a known address
	Sockets    []Socket
	XFRM       XFRM
	Rules      []Rule   // ip rules
	TableUsers []string // routes of others in our table, as text
	Networkd   Networkd
	Links      []Link
	Files      []File // certificates and revocation lists
}

// Settings are those of the bootstrap configuration that concern the machine.
type Settings struct {
	Tun              string
	Table            uint32
	RulePriority     int
	MTU              int
	IKEPort, NATPort uint16
	ManageSysctl     bool   // the gateway switches forwarding on itself
	Dataplane        string // auto, kernel or user
	XFRMInterface    string // of the kernel plane; empty: none
}

// Kernel is what the running kernel has and could load.
type Kernel struct {
	Release      string
	Major, Minor int
	Config       map[string]string // CONFIG_X without the prefix -> y or m; nil: not readable
	Crypto       map[string]bool   // names in /proc/crypto
	Loadable     map[string]bool   // module or alias -> modprobe would find it; nil: no modprobe
	Debian       bool              // distribution, for the fix
	XFRM         bool              // netlink XFRM answers
	Tried        Trial             // of SM4-CBC with HMAC-SM3, by adding SAs in a namespace of their own
}

// Path is the way to one peer.
type Path struct {
	Peer      string
	Addr      netip.Addr
	Interface string
	MTU       int    // 0: not known
	Fault     string // why there is none
}

// Socket is a UDP socket bound to a port of ours.
type Socket struct {
	Port    uint16
	Addr    netip.Addr
	PID     int    // 0: not known
	Program string // its name
}

// XFRM is what the kernel holds.
type XFRM struct {
	States, Policies int      // all
	ForeignStates    []string // "192.0.2.1 -> 192.0.2.2 spi 0x1": up to a few
	ForeignPolicies  []string
	BlockDefault     string // directions whose default is block: "in fwd out"
}

// Rule is one ip rule.
type Rule struct {
	Priority int
	V6       bool
	Ours     bool
	Bare     bool // matches every packet and looks up a table
	Table    uint32
}

// Link is one interface and its subnets.
type Link struct {
	Name string
	Nets []netip.Prefix
}

// File is one certificate or revocation list.
type File struct {
	What      string // "own signature certificate", "CA of peer x", "CRL of peer x"
	Path      string
	Subject   string
	NotBefore time.Time
	NotAfter  time.Time // nextUpdate of a CRL; zero: none
	CRL       bool
	Fault     string // why it cannot be read
}

// suites are those that the policy allows; all when there is none.
func (f *Facts) suites() (cbc, gcm bool) {
	if f.Policy == nil {
		return true, true
	}
	for _, t := range f.Policy.Tunnels {
		for _, s := range t.Suites {
			cbc = cbc || s == policy.SM4CBCHMACSM3
			gcm = gcm || s == policy.SM4GCM128
		}
	}
	return cbc, gcm
}

// families says which the policy protects; both when there is none.
func (f *Facts) families() (v4, v6 bool) {
	if f.Policy == nil {
		return true, true
	}
	for _, t := range f.Policy.Tunnels {
		v4 = v4 || t.Selector.Local.Is4()
		v6 = v6 || !t.Selector.Local.Is4()
	}
	return v4, v6
}

// tunnels are those of the policy.
func (f *Facts) tunnels() []policy.Tunnel {
	if f.Policy == nil {
		return nil
	}
	return f.Policy.Tunnels
}

// outer is the interface towards a peer; empty: not known.
func (f *Facts) outer(peer string) string {
	for _, p := range f.Paths {
		if p.Peer == peer {
			return p.Interface
		}
	}
	return ""
}

// Offloads are what the userspace plane would use of this kernel, and what not.
type Offloads struct {
	Tried       bool // false: see Blind
	Have, Lacks []string
}

// Trial is the outcome of trying a suite in the kernel.
type Trial struct {
	Done  bool   // false: it could not be tried
	Fault string // why the kernel cannot carry it; empty: it can
}
