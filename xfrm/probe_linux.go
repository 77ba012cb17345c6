package xfrm

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"yumen/esp"
	"yumen/esp/ours"
	"yumen/policy"
	"yumen/policy/secret"
)

// Unsupported says why the kernel cannot carry a suite.
type Unsupported struct {
	Suite policy.Suite
	// Missing are kernel options with their modules; empty where no option helps.
	Missing []string
	Reason  string
}

// Error names what is missing and what to do.
func (u *Unsupported) Error() string {
	if len(u.Missing) == 0 {
		return "kernel plane: " + u.Reason
	}
	return fmt.Sprintf("kernel plane: %s; missing: %s", u.Reason, strings.Join(u.Missing, ", "))
}

const (
	optionUser = "CONFIG_XFRM_USER (module xfrm_user)"
	optionESP4 = "CONFIG_INET_ESP (module esp4)"
	optionESP6 = "CONFIG_INET6_ESP (module esp6)"
	optionSM4  = "CONFIG_CRYPTO_SM4_GENERIC (module sm4_generic)"
	optionSM3  = "CONFIG_CRYPTO_SM3_GENERIC (module sm3_generic)"
	optionMode = "CONFIG_CRYPTO_CBC, CONFIG_CRYPTO_HMAC, CONFIG_CRYPTO_AUTHENC, CONFIG_CRYPTO_ECHAINIV"
)

// Where the throw-away SAs of a probe lead: to loopback addresses, which no packet from
// outside can have, with keys that nobody knows.
var (
	probe4 = netip.MustParseAddr("127.0.86.1")
	probe6 = netip.IPv6Loopback()
)

// Probe tells whether the running kernel can carry a suite, by adding throw-away SAs
// in a network namespace of its own: over IPv4 and IPv6, with each ICV length, with
// and without UDP. A service that may make no namespaces, as systemd runs ours, tries
// the same where it is, and each SA is deleted at once. Nil: it can. An error of type
// *Unsupported says what is missing; any other, that it could not be tried
// (CAP_NET_ADMIN is needed).
func Probe(suite policy.Suite) error {
	if err := suiteSupported(suite); err != nil {
		return &Unsupported{Suite: suite, Reason: err.Error()}
	}
	var release string
	var uts unix.Utsname
	if err := unix.Uname(&uts); err == nil {
		release = unix.ByteSliceToString(uts.Release[:])
	}
	result := make(chan error, 1)
	go func() {
		// Never unlocked: the thread ends with the goroutine, and its namespace.
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil && !errors.Is(err, unix.EPERM) {
			result <- fmt.Errorf("probe the kernel plane: make a network namespace: %w", err)
			return
		}
		result <- probe(suite, release)
	}()
	return <-result
}

func probe(suite policy.Suite, release string) error {
	if old(release) {
		return &Unsupported{Suite: suite, Reason: "Linux " + release + " is older than 5.17, which first had SM4 and SM3 in XFRM"}
	}
	c, err := openConn()
	if errors.Is(err, errNoXFRM) {
		return &Unsupported{Suite: suite, Missing: []string{optionUser}, Reason: "this kernel has no XFRM"}
	}
	if err != nil {
		return err
	}
	defer c.close()
	// The parts one by one, so that the first refusal tells its cause.
	var missing []string
	for _, part := range []struct {
		addr                netip.Addr
		cipher, mac, option string
	}{
		{probe4, "ecb(cipher_null)", "digest_null", optionESP4},
		{probe6, "ecb(cipher_null)", "digest_null", optionESP6},
		{probe4, "cbc(sm4)", "digest_null", optionSM4},
		{probe4, "ecb(cipher_null)", "hmac(sm3)", optionSM3},
	} {
		err := c.tryPart(part.addr, part.cipher, part.mac)
		if errors.Is(err, unix.EPERM) {
			return fmt.Errorf("probe the kernel plane: %w (CAP_NET_ADMIN is needed)", err)
		}
		algorithm := strings.Contains(part.option, "CRYPTO")
		if absent(err, algorithm) {
			missing = append(missing, part.option)
		}
	}
	if err := c.trySuite(); err != nil {
		if len(missing) == 0 {
			missing = append(missing, optionMode)
		}
		return &Unsupported{Suite: suite, Missing: missing, Reason: "the kernel refuses an SA: " + err.Error()}
	}
	return nil
}

const probeSPI esp.SPI = 0x59754d31 // rare, so that nobody's is met

// absent tells a missing part from another that fails in its place: a missing
// protocol refuses every algorithm.
func absent(err error, algorithm bool) bool {
	if algorithm {
		return errors.Is(err, unix.ENOSYS)
	}
	return errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.ENOENT)
}

// old reports whether a release is below 5.17. One that cannot be read is tried.
func old(release string) bool {
	var major, minor int
	if n, _ := fmt.Sscanf(release, "%d.%d", &major, &minor); n != 2 {
		return false
	}
	return major < 5 || major == 5 && minor < 17
}

// trySuite adds SAs of every form that we use.
func (c *conn) trySuite() error {
	key := make([]byte, esp.KeymatLen(policy.SM4CBCHMACSM3))
	for _, bits := range []int{96, 128, 256} {
		for _, to := range []netip.Addr{probe4, probe6} {
			for _, port := range []uint16{0, 4500} {
				for _, esn := range []bool{false, true} {
					if _, err := rand.Read(key); err != nil {
						return err
					}
					s := state{src: to.Next(), dst: to, spi: probeSPI, reqid: ours.Reqid, icvBits: bits, window: 1024, esn: esn,
						sport: port, dport: port, keymat: secret.New(key)}
					err := c.addState(s)
					s.keymat.Wipe()
					if err == nil {
						err = c.deleteState(s.dst, s.spi)
					}
					if err != nil {
						return fmt.Errorf("%d-bit ICV to %s, udp %t, esn %t: %w", bits, s.dst, port != 0, esn, err)
					}
				}
			}
		}
	}
	return nil
}

// tryPart adds an SA of two algorithms, to see which the kernel has.
func (c *conn) tryPart(to netip.Addr, cipher, mac string) error {
	info := nl.XfrmUsersaInfo{
		Id:    nl.XfrmId{Daddr: address(to), Spi: swap(uint32(probeSPI)), Proto: unix.IPPROTO_ESP},
		Saddr: address(to.Next()), Lft: limitsOf(lifetime{}), Family: familyOf(to), Mode: modeTunnel,
		Flags: nl.XFRM_STATE_AF_UNSPEC,
	}
	m := newMessage(nl.XFRM_MSG_NEWSA, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK, info.Serialize())
	sizes := map[string]int{"cbc(sm4)": 16, "hmac(sm3)": 32}
	put := func(attr uint16, name string) {
		var b [64]byte
		copy(b[:], name)
		m.attr(attr, b[:], word(uint32(sizes[name]*8)), make([]byte, sizes[name]))
	}
	put(nl.XFRMA_ALG_CRYPT, cipher)
	put(nl.XFRMA_ALG_AUTH, mac)
	err := c.do(m, nil)
	if err == nil {
		err = c.deleteState(to, probeSPI)
	}
	return err
}
