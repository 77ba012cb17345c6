package tunnel

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// openTUN creates the device name. It lives as long as the file is open.
func openTUN(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return nil, fmt.Errorf("open /dev/net/tun: %w (load the kernel module: modprobe tun)", err)
	case err != nil:
		return nil, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	request, err := unix.NewIfreq(name)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("tun device name %q: %w (at most 15 bytes)", name, err)
	}
	request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		unix.Close(fd)
		switch {
		case errors.Is(err, unix.EPERM):
			return nil, fmt.Errorf("create tun device %s: %w (run as root or grant CAP_NET_ADMIN)", name, err)
		case errors.Is(err, unix.EBUSY):
			return nil, fmt.Errorf("create tun device %s: %w (another process owns it: stop it or choose another name)", name, err)
		}
		return nil, fmt.Errorf("create tun device %s: %w", name, err)
	}
	// Only now: the poller must not see the file before it is a device.
	return os.NewFile(uintptr(fd), "/dev/net/tun"), nil
}
