package daemon

import (
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// harden keeps keys of this process out of core files, debuggers and swap. What
// the host does not allow is returned, one error each, and is no reason not to
// run.
func harden() []error {
	var faults []error
	note := func(what string, err error) {
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", what, err))
		}
	}
	note("switch core files off", unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}))
	note("close the process to debuggers", unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0))
	note("keep memory out of the swap", lockMemory())
	return faults
}

// onFault is MCL_ONFAULT: lock pages when they are first used, so that what the
// runtime only reserves costs nothing.
const onFault = 4

// lockMemory is tried only where no limit can make a later allocation fail.
func lockMemory() error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err != nil {
		return err
	}
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&head, &data[0]); err != nil {
		return err
	}
	if limit.Cur != unix.RLIM_INFINITY && data[0].Effective&(1<<unix.CAP_IPC_LOCK) == 0 {
		return errors.New("it needs CAP_IPC_LOCK or LimitMEMLOCK=infinity: keys may reach the swap")
	}
	return unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | onFault)
}

// tellSystemd sends one line of the sd_notify protocol to whoever started us;
// nobody there is no error.
func tellSystemd(state string) error {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	// net turns a leading @ into the abstract name space, as systemd means it.
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("tell systemd: %w", err)
	}
	defer c.Close()
	_, err = c.Write([]byte(state))
	return err
}
