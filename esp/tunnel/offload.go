package tunnel

import "strings"

// Offload is a way to move many packets by one system call or one walk through
// the host's network stack. Each is tried when a plane is opened, and where the
// kernel has it not, packets go one by one with the same result.
type Offload uint8

// The offloads, and the first Linux that has them.
const (
	OffloadTSO     Offload = 1 << iota // large TCP packets from and to the TUN; 2.6.27
	OffloadUSO                         // large UDP packets from and to the TUN; 6.2
	OffloadSend                        // runs of ESP in UDP sent as one, UDP_SEGMENT; 4.18
	OffloadReceive                     // runs of ESP in UDP received as one, UDP_GRO; 5.0
	OffloadQueues                      // several queues of the TUN and several sockets; 3.8
	allOffloads    = OffloadTSO | OffloadUSO | OffloadSend | OffloadReceive | OffloadQueues

	mostQueues = 8
)

// String names the offloads of a set; "none" when it is empty.
func (o Offload) String() string {
	var names []string
	for i, name := range []string{"tun-tso", "tun-uso", "udp-segment", "udp-gro", "multi-queue"} {
		if o&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, " ")
}

// Offloads are those in use: what the kernel has, less what Config.Without named
// and what a network card refused since.
func (p *Plane) Offloads() Offload {
	if len(p.bulk) == 0 || p.noBulk.Load() {
		return p.offloads &^ OffloadSend
	}
	return p.offloads
}
