// Package config reads the bootstrap configuration: one small file, YUMEN_*
// variables and flags, later ones winning. It says where everything else is and
// refuses to know what the policy means.
package config

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"yumen/esp/tunnel"
)

// DefaultFile is where the configuration is looked for when nobody says where.
const DefaultFile = "/etc/yumen/gateway.yaml"

// Config is a checked bootstrap configuration. Paths are absolute or relative to
// the working directory: those of the file were relative to the file.
type Config struct {
	File string // that was read

	Policy         string
	StateDir       string
	ControlSocket  string
	SignCert       string
	SignKey        string
	EncCert        string
	EncKey         string
	PassphraseFile string        // empty: the keys are not encrypted
	KeyDeadline    time.Duration // of one private-key operation

	LogJSON  bool
	LogLevel slog.Level

	MetricsListen string // empty: off

	ManageSysctl bool
	Dataplane    string // auto, kernel or user
	Tun          string // name of the TUN device
	Mark         uint32 // of our own sockets
	Table        uint32 // routing table of the protected prefixes
	RulePriority int    // first of our ip rules, which take 2000 priorities
	MTU          int    // of the path outside, bytes
	IKEPort      uint16
	NATPort      uint16

	Without tunnel.Offload // that the userspace plane is not to use

	XFRMInterface string // tunnels of the kernel plane carry what is routed into it; empty: whatever matches
	XFRMID        uint32 // its if_id
}

// setting is one key of the file: the one place that knows its default, what may
// stand there, and where it goes. A setting with path set is a file name.
type setting struct {
	key      string
	standard string
	path     bool
	put      func(*Config, string) error
}

// settings are all keys. The text forms are those of the file, the environment
// and the flags alike.
func settings() []setting {
	return []setting{
		{"policy", "policy.yaml", true, func(c *Config, s string) error { c.Policy = s; return need(s) }},
		{"state_dir", "/var/lib/yumen", true, func(c *Config, s string) error { c.StateDir = s; return need(s) }},
		{"control_socket", "/run/yumen/control.sock", true, putSocket},
		{"sign_cert", "sign.crt", true, func(c *Config, s string) error { c.SignCert = s; return need(s) }},
		{"sign_key", "sign.key", true, func(c *Config, s string) error { c.SignKey = s; return need(s) }},
		{"enc_cert", "enc.crt", true, func(c *Config, s string) error { c.EncCert = s; return need(s) }},
		{"enc_key", "enc.key", true, func(c *Config, s string) error { c.EncKey = s; return need(s) }},
		{"passphrase_file", "", true, func(c *Config, s string) error { c.PassphraseFile = s; return nil }},
		{"key_deadline", "10s", false, putDeadline},
		{"log.format", "text", false, putFormat},
		{"log.level", "info", false, putLevel},
		{"metrics_listen", "", false, func(c *Config, s string) error { c.MetricsListen = s; return nil }},
		{"metrics_allow_remote", "false", false, func(c *Config, s string) error { _, err := truth(s); return err }},
		{"manage_sysctl", "false", false, func(c *Config, s string) (err error) { c.ManageSysctl, err = truth(s); return err }},
		{"dataplane", "auto", false, putDataplane},
		{"tun", "yumen0", false, putTun},
		{"mark", "0x59756d65", false, func(c *Config, s string) (err error) { c.Mark, err = number[uint32](s, 1, 1<<32-1); return err }},
		{"table", "4950", false, putTable},
		{"rule_priority", "4950", false, putPriority},
		{"mtu", "1500", false, putMTU},
		{"offloads_without", "", false, func(c *Config, s string) (err error) { c.Without, err = tunnel.ParseOffloads(s); return err }},
		{"ike_port", "500", false, func(c *Config, s string) (err error) { c.IKEPort, err = number[uint16](s, 1, 65535); return err }},
		{"xfrm_interface", "", false, putInterface},
		{"xfrm_if_id", "89", false, func(c *Config, s string) (err error) { c.XFRMID, err = number[uint32](s, 1, 1<<32-1); return err }},
		{"nat_port", "4500", false, func(c *Config, s string) (err error) { c.NATPort, err = number[uint16](s, 1, 65535); return err }},
	}
}

// values are what was given for each key, and where.
type values struct {
	text  map[string]string
	where map[string]string // "gateway.yaml:7", "YUMEN_MTU", "--log-level"; absent: the default
}

// fault names one bad value by its place and its key.
func (v values) fault(key string, err error) error {
	if place := v.where[key]; place != "" {
		return fmt.Errorf("%s: %s: %w", place, key, err)
	}
	return fmt.Errorf("%s: %w", key, err)
}

// build turns texts into a Config and returns every fault that it finds. base is
// the folder that relative paths of the file start from.
func build(v values, base string) (*Config, []error) {
	c := &Config{}
	var faults []error
	for _, s := range settings() {
		text := v.text[s.key]
		if s.path && text != "" && !filepath.IsAbs(text) && fromFile(v.where[s.key]) {
			text = filepath.Join(base, text)
		}
		if err := s.put(c, text); err != nil {
			faults = append(faults, v.fault(s.key, err))
		}
	}
	if remote, err := truth(v.text["metrics_allow_remote"]); err == nil {
		if err := checkListener(c.MetricsListen, remote); err != nil {
			faults = append(faults, v.fault("metrics_listen", err))
		}
	}
	if c.XFRMInterface != "" && c.Dataplane != "kernel" {
		faults = append(faults, v.fault("xfrm_interface", errors.New("only the kernel plane has XFRM interfaces: write dataplane: kernel, or leave it out")))
	}
	if c.IKEPort != 0 && c.IKEPort == c.NATPort {
		faults = append(faults, v.fault("nat_port", fmt.Errorf("%d is ike_port already", c.NATPort)))
	}
	return c, faults
}

// fromFile: paths of flags and variables are relative to where the command runs,
// those of the file, and the defaults, to the file.
func fromFile(where string) bool {
	return !strings.HasPrefix(where, "--") && !strings.HasPrefix(where, envPrefix)
}

func need(s string) error {
	if s == "" {
		return errors.New("must not be empty")
	}
	return nil
}

// maxSocket is what fits into a sockaddr_un with its final zero.
const maxSocket = 107

func putSocket(c *Config, s string) error {
	c.ControlSocket = s
	if len(s) > maxSocket {
		return fmt.Errorf("%d bytes are too long for the path of a socket: at most %d", len(s), maxSocket)
	}
	return need(s)
}

func putDeadline(c *Config, s string) error {
	d, err := time.ParseDuration(s)
	if err != nil || d < 100*time.Millisecond || d > time.Minute {
		return fmt.Errorf("%q is no duration from 100ms to 1m, such as 10s", s)
	}
	c.KeyDeadline = d
	return nil
}

func putFormat(c *Config, s string) error {
	c.LogJSON = s == "json"
	if s != "text" && s != "json" {
		return fmt.Errorf("%q is neither text nor json", s)
	}
	return nil
}

func putLevel(c *Config, s string) error {
	levels := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}
	level, ok := levels[s]
	if !ok {
		return fmt.Errorf("%q is none of debug, info, warn, error", s)
	}
	c.LogLevel = level
	return nil
}

func putInterface(c *Config, s string) error {
	c.XFRMInterface = s
	if s == "" {
		return nil
	}
	return interfaceName(s)
}

func putTun(c *Config, s string) error {
	c.Tun = s
	return interfaceName(s)
}

func interfaceName(s string) error {
	if s == "" || len(s) > 15 || s == "." || s == ".." || strings.ContainsAny(s, "/:% \t\n") {
		return fmt.Errorf("%q is no name of an interface: 1 to 15 characters, no slash, colon, percent sign or space", s)
	}
	return nil
}

func putTable(c *Config, s string) error {
	n, err := number[uint32](s, 1, 1<<32-1)
	if err == nil && n >= 253 && n <= 255 {
		err = fmt.Errorf("table %d belongs to the system (253 default, 254 main, 255 local): take one of your own", n)
	}
	c.Table = n
	return err
}

func putMTU(c *Config, s string) error {
	n, err := number[int](s, 0, 65535)
	if err == nil && n < 1280 {
		err = fmt.Errorf("%d is below 1280, the least that IPv6 allows", n)
	}
	c.MTU = n
	return err
}

// putPriority keeps our rules between local (0) and main (32766): below main they
// would never be asked.
func putPriority(c *Config, s string) error {
	n, err := number[int](s, 1, 30000)
	if err != nil {
		err = fmt.Errorf("%w: our rules take 2000 priorities and stand before the main table (32766)", err)
	}
	c.RulePriority = n
	return err
}

func putDataplane(c *Config, s string) error {
	c.Dataplane = s
	switch s {
	case "auto", "kernel", "user":
		return nil
	}
	return fmt.Errorf("%q is not auto, kernel or user", s)
}

func truth(s string) (bool, error) {
	switch s {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, fmt.Errorf("%q is neither true nor false", s)
}

func number[T int | uint16 | uint32](s string, low, high uint64) (T, error) {
	n, err := strconv.ParseUint(s, 0, 64)
	if err != nil || n < low || n > high {
		return 0, fmt.Errorf("%q is no number from %d to %d", s, low, high)
	}
	return T(n), nil
}

// checkListener: metrics tell who talks to whom, so they stay on this host unless
// somebody says otherwise.
func checkListener(listen string, remote bool) error {
	if listen == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return fmt.Errorf("%q is no address and port, such as 127.0.0.1:9808", listen)
	}
	if _, err := number[uint16](port, 0, 65535); err != nil {
		return fmt.Errorf("the port of %q: %w", listen, err)
	}
	addr, err := netip.ParseAddr(host)
	if err != nil && host != "localhost" {
		return fmt.Errorf("%q: give an IP address or localhost", listen)
	}
	if host != "localhost" && !addr.IsLoopback() && !remote {
		return fmt.Errorf("%q is not a loopback address: metrics name peers and traffic; metrics_allow_remote: true if that is meant", listen)
	}
	return nil
}
