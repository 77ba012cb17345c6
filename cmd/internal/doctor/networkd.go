package doctor

import "strings"

// Networkd is systemd-networkd, which takes away routes and ip rules that it did not make
// when it starts, and when it configures a link anew.
type Networkd struct {
	Runs          bool
	Routes, Rules bool // it keeps those of others
}

// ParseNetworkd reads networkd.conf and what is dropped in beside it, in that order: the
// last word holds (networkd.conf(5)).
func ParseNetworkd(files ...string) (n Networkd) {
	for _, file := range files {
		section := ""
		for line := range strings.Lines(file) {
			line = strings.TrimSpace(line)
			if strings.HasPrefix(line, "[") {
				section = line
			}
			key, value, found := strings.Cut(line, "=")
			if !found || section != "[Network]" {
				continue
			}
			keeps := false
			switch strings.ToLower(strings.TrimSpace(value)) {
			case "no", "n", "false", "f", "off", "0":
				keeps = true
			}
			switch strings.TrimSpace(key) {
			case "ManageForeignRoutes":
				n.Routes = keeps
			case "ManageForeignRoutingPolicyRules":
				n.Rules = keeps
			}
		}
	}
	return n
}

// checkNetworkd warns of it. A gateway that runs lays again what is taken away, the guard
// of a boot does not.
func checkNetworkd(f *Facts) []Finding {
	if !f.Networkd.Runs || f.Networkd.Routes && f.Networkd.Rules || f.Settings.Dataplane == "kernel" {
		return nil
	}
	return one("networkd", Warn, "systemd-networkd runs and removes routes and ip rules that it did not make, ours too",
		"install configs/yumen-networkd.conf as /etc/systemd/networkd.conf.d/yumen.conf, then systemctl restart systemd-networkd")
}
