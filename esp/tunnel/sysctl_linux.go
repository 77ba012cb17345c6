package tunnel

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

const sysctlRoot = "/proc/sys/net"

type sysctl struct{ path, value string }

// tunSysctls are what our own device needs, set before it comes up.
func tunSysctls(name string) []sysctl {
	v4, v6 := "ipv4/conf/"+name+"/", "ipv6/conf/"+name+"/"
	return []sysctl{
		{v4 + "rp_filter", "2"}, // loose: what comes out of a tunnel may be routed elsewhere
		{v4 + "disable_policy", "1"},
		{v4 + "accept_redirects", "0"},
		{v4 + "send_redirects", "0"}, // a hub sends out what came in by the same device
		{v6 + "disable_policy", "1"},
		{v6 + "accept_redirects", "0"},
		{v6 + "accept_ra", "0"},
		{v6 + "addr_gen_mode", "1"}, // no link-local address: nobody is on that link
	}
}

// applySysctls sets all. A missing IPv6 tree means that the host has no IPv6.
func applySysctls(list []sysctl) error {
	for _, s := range list {
		err := os.WriteFile(filepath.Join(sysctlRoot, s.path), []byte(s.value), 0)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("set net/%s to %s: %w", s.path, s.value, err)
		}
	}
	return nil
}

// hostSysctls are the settings of the whole host without which a gateway does
// not forward. They belong to the administrator: see checkHost.
func hostSysctls() []sysctl {
	return []sysctl{{"ipv4/ip_forward", "1"}, {"ipv6/conf/all/forwarding", "1"}}
}

// checkHost compares the settings of the host, sets them if manage, and otherwise
// says in one line each what is not as it should be.
func checkHost(manage bool) (warnings []string, err error) {
	for _, s := range hostSysctls() {
		have, err := os.ReadFile(filepath.Join(sysctlRoot, s.path))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return warnings, fmt.Errorf("read net/%s: %w", s.path, err)
		}
		if string(bytes.TrimSpace(have)) == s.value {
			continue
		}
		if !manage {
			warnings = append(warnings, fmt.Sprintf(
				"net/%s is %s: this host does not forward; set it to %s or allow manage_sysctl",
				s.path, bytes.TrimSpace(have), s.value))
			continue
		}
		if err := applySysctls([]sysctl{s}); err != nil {
			return warnings, err
		}
	}
	return warnings, nil
}
