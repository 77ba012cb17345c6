package doctor

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
)

// gatherNetworkd looks whether systemd-networkd runs, and how it is configured.
func (f *Facts) gatherNetworkd() {
	const name = "systemd-network" // the kernel cuts names
	places := []string{"/etc/systemd/", "/run/systemd/", "/usr/local/lib/systemd/", "/usr/lib/systemd/"}
	var files []string
	dropped := map[string]string{} // by name: the first place holds
	for _, place := range places {
		if b, err := os.ReadFile(place + "networkd.conf"); err == nil && len(files) == 0 {
			files = append(files, string(b))
		}
		list, _ := filepath.Glob(place + "networkd.conf.d/*.conf") // the pattern is good
		for _, path := range list {
			if base := filepath.Base(path); dropped[base] == "" {
				dropped[base] = path
			}
		}
	}
	var names []string
	for base := range dropped {
		names = append(names, base)
	}
	slices.Sort(names)
	for _, base := range names {
		b, err := os.ReadFile(dropped[base])
		f.blind(dropped[base], err)
		files = append(files, string(b))
	}
	f.Networkd = ParseNetworkd(files...)
	running, _ := filepath.Glob("/proc/[0-9]*/comm")
	for _, path := range running {
		if b, err := os.ReadFile(path); err == nil && string(bytes.TrimSpace(b)) == name {
			f.Networkd.Runs = true
		}
	}
}
