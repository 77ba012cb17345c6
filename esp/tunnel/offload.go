package tunnel

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

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
	names := o.Names()
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, " ")
}

// offloadNames are in the order of the bits.
var offloadNames = [...]string{"tun-tso", "tun-uso", "udp-segment", "udp-gro", "multi-queue"}

// ParseOffloads reads names of offloads with spaces or commas between them.
func ParseOffloads(s string) (o Offload, err error) {
	for _, word := range strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == ',' }) {
		i := slices.Index(offloadNames[:], word)
		if i < 0 {
			return 0, fmt.Errorf("%q is none of %s", word, strings.Join(offloadNames[:], ", "))
		}
		o |= 1 << i
	}
	return o, nil
}

// Names are those of the offloads of a set.
func (o Offload) Names() (names []string) {
	for i, name := range offloadNames {
		if o&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return names
}

// Missing are the offloads that o does not have.
func (o Offload) Missing() Offload { return allOffloads &^ o }

// Offloads are those in use: what the kernel has, less what Config.Without named
// and what a network card refused since.
func (p *Plane) Offloads() Offload {
	if len(p.bulk) == 0 || p.noBulk.Load() {
		return p.offloads &^ OffloadSend
	}
	return p.offloads
}

// ProbeOffloads tells which offloads a plane would find in this kernel, by opening a
// TUN and a UDP socket in a network namespace of its own, which is gone afterwards.
// OffloadQueues is among them if the device takes a second queue, however many cores
// there are. It needs CAP_SYS_ADMIN and CAP_NET_ADMIN. A network card may refuse later
// what the kernel offers here.
func ProbeOffloads() (Offload, error) {
	type answer struct {
		on  Offload
		err error
	}
	result := make(chan answer, 1)
	go func() {
		// Never unlocked: the thread ends with the goroutine, and its namespace.
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			result <- answer{err: fmt.Errorf("make a network namespace: %w", err)}
			return
		}
		on, err := probeOffloads()
		result <- answer{on, err}
	}()
	a := <-result
	if a.err != nil {
		return 0, fmt.Errorf("probe offloads: %w", a.err)
	}
	return a.on, nil
}

func probeOffloads() (Offload, error) {
	tuns, on, err := openTUN("probe0", 2, 0)
	if err != nil {
		return 0, err
	}
	for _, q := range tuns {
		defer q.file.Close()
	}
	s, err := newMuteSocket([3]int{unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_UDP}, udp4, 0)
	if err != nil {
		return 0, err
	}
	defer s.file.Close()
	err = s.control(func(fd int) error {
		for option, bit := range map[int]Offload{unix.UDP_SEGMENT: OffloadSend, unix.UDP_GRO: OffloadReceive} {
			// Segments of size 0 are what a socket has anyway.
			value := map[int]int{unix.UDP_GRO: 1}[option]
			switch err := unix.SetsockoptInt(fd, unix.SOL_UDP, option, value); {
			case err == nil:
				on |= bit
			case !errors.Is(err, unix.ENOPROTOOPT) && !errors.Is(err, unix.EINVAL):
				return fmt.Errorf("socket option %d: %w", option, err)
			}
		}
		return nil
	})
	return on, err
}
