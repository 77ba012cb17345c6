package interop

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"yumen/test/site"
)

// Where Debian puts strongSwan.
const (
	charonPath  = "/usr/lib/ipsec/charon"
	pluginsPath = "/usr/lib/ipsec/plugins"
)

// MissingStrongSwan says what this machine lacks to run one; empty: nothing.
func MissingStrongSwan() string {
	for _, file := range []string{charonPath, pluginsPath + "/libstrongswan-kernel-libipsec.so", pluginsPath + "/libstrongswan-vici.so"} {
		if _, err := os.Stat(file); err != nil {
			return "strongSwan: " + err.Error()
		}
	}
	if _, err := exec.LookPath("swanctl"); err != nil {
		return "swanctl is not installed"
	}
	return ""
}

// StrongSwan is a charon with the userspace data plane (kernel-libipsec) in a
// namespace. All its files are in one folder, so that several run side by side and
// beside one that the machine has.
type StrongSwan struct {
	*site.Space
	Dir string
	// KeepRekeyed leaves children that were replaced to their limits, as strongSwan
	// does by default.
	KeepRekeyed bool
	process     *site.Process
}

// daemon is strongswan.conf. Retransmissions are quick, so that what is lost, or
// gone, is noticed within a test.
const daemonConf = `charon {
	load = random nonce aes sha1 sha2 hmac openssl kernel-libipsec kernel-netlink socket-default vici
	retransmit_tries = 3
	retransmit_timeout = 1.0
	retransmit_base = 1.4
	delete_rekeyed = DELETE
	fragment_size = 400
	keep_alive = 5s
	plugins {
		vici {
			socket = unix://DIR/vici.sock
		}
	}
	filelog {
		log {
			path = DIR/charon.log
			time_format = %b %e %T
			default = 1
			ike = 2
			cfg = 2
			esp = 1
			flush_line = yes
		}
	}
}
swanctl {
	load = random openssl
}
`

// Start runs charon with no connections yet. Its process has a /run of its own: the
// place of its PID file cannot be set.
func (s *StrongSwan) Start() error {
	if err := os.MkdirAll(s.Dir, 0o755); err != nil {
		return err
	}
	conf := filepath.Join(s.Dir, "strongswan.conf")
	text := strings.NewReplacer("DIR", s.Dir, "DELETE", map[bool]string{true: "no", false: "yes"}[s.KeepRekeyed]).Replace(daemonConf)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		return err
	}
	// Of its own name in the folder: where AppArmor holds the installed one to the
	// system's configuration, it does not hold this one.
	own := filepath.Join(s.Dir, "charon")
	b, err := os.ReadFile(charonPath)
	if err == nil {
		err = os.WriteFile(own, b, 0o755)
	}
	if err != nil {
		return err
	}
	_ = os.Remove(s.socket())
	s.process, err = s.Space.Start(filepath.Join(s.Dir, "charon.out.log"), "sh", "-c",
		"mount -t tmpfs none /run && STRONGSWAN_CONF="+conf+" exec "+own)
	if err != nil {
		return err
	}
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if _, err := s.swanctl("--stats"); err == nil {
			return nil
		}
		if s.process.Ended() {
			break
		}
	}
	return fmt.Errorf("charon does not answer; see %s", filepath.Join(s.Dir, "charon.log"))
}

func (s *StrongSwan) socket() string { return filepath.Join(s.Dir, "vici.sock") }

func (s *StrongSwan) swanctl(args ...string) (string, error) {
	args = append([]string{"env", "STRONGSWAN_CONF=" + filepath.Join(s.Dir, "strongswan.conf"), "swanctl"}, args...)
	return s.Run(append(args, "--uri", "unix://"+s.socket())...)
}

// Load gives charon the connections and secrets of a swanctl.conf.
func (s *StrongSwan) Load(conf string) error {
	file := filepath.Join(s.Dir, "swanctl.conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		return err
	}
	_, err := s.swanctl("--load-all", "--noprompt", "--file", file)
	return err
}

// Up initiates a child and waits for it.
func (s *StrongSwan) Up(child string) error {
	_, err := s.swanctl("--initiate", "--child", child, "--timeout", "15")
	return err
}

// Down ends the IKE SAs of a connection with a delete.
func (s *StrongSwan) Down(ike string) error {
	_, err := s.swanctl("--terminate", "--ike", ike, "--timeout", "10")
	return err
}

// DownChild ends the children of that name with a delete.
func (s *StrongSwan) DownChild(child string) error {
	_, err := s.swanctl("--terminate", "--child", child, "--timeout", "10")
	return err
}

// Rekey renews a child, or with ike the IKE SA.
func (s *StrongSwan) Rekey(kind, name string) error {
	_, err := s.swanctl("--rekey", "--"+kind, name)
	return err
}

// SAs is what charon says of its SAs, as swanctl prints it.
func (s *StrongSwan) SAs() (string, error) { return s.swanctl("--list-sas") }

// Log is what charon has written.
func (s *StrongSwan) Log() string {
	b, _ := os.ReadFile(filepath.Join(s.Dir, "charon.log"))
	return string(b)
}

// Stop ends charon: with deletes to its peers, or (kill) without a word.
func (s *StrongSwan) Stop(kill bool) error {
	if kill {
		s.process.Kill()
		return nil
	}
	// One that SIGTERM ended says so in its status; that is no fault.
	var exit *exec.ExitError
	if err := s.process.Stop(10 * time.Second); err != nil && !errors.As(err, &exit) {
		return err
	}
	return nil
}

// Freeze stops charon from doing anything at all, or lets it go on.
func (s *StrongSwan) Freeze(on bool) error {
	signal := syscall.SIGCONT
	if on {
		signal = syscall.SIGSTOP
	}
	return syscall.Kill(s.process.Pid(), signal)
}
