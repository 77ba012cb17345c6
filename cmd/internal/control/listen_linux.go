package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Listener is the control socket of this gateway. While it is open no other
// gateway can take its path.
type Listener struct {
	*net.UnixListener
	lock   *os.File
	once   sync.Once
	closed error
}

// ErrInUse says that another gateway runs behind the same socket.
var ErrInUse = errors.New("another gateway is running")

// Listen makes a socket at path that only its owner can open, and the folder it
// is in, when there is none, for the owner alone. What a gateway that died left
// behind is replaced; a socket that answers is not, nor is anything that is no
// socket.
func Listen(path string) (*Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	lock, err := takeLock(path)
	if err != nil {
		return nil, err
	}
	l, err := bind(path)
	if err != nil {
		lock.Close()
		return nil, err
	}
	return &Listener{UnixListener: l, lock: lock}, nil
}

// Close ends listening and removes the socket. It may be called again.
func (l *Listener) Close() error {
	l.once.Do(func() { l.closed = errors.Join(l.UnixListener.Close(), l.lock.Close()) })
	return l.closed
}

// takeLock takes a lock that the kernel gives back when its holder dies. The file
// stays: removing it would let two gateways hold two files of one name.
func takeLock(path string) (*os.File, error) {
	lock, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("control socket %s: %w: stop it first, or give this one another control_socket", path, ErrInUse)
		}
		return nil, fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	return lock, nil
}

func bind(path string) (*net.UnixListener, error) {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("control socket: %w", err)
	case info.Mode()&fs.ModeSocket == 0:
		return nil, fmt.Errorf("control socket: %s is there already and is no socket: remove it or choose another control_socket", path)
	case answers(path):
		return nil, fmt.Errorf("control socket %s: %w: something answers there", path, ErrInUse)
	default:
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("remove a stale control socket: %w", err)
		}
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	// Whoever connects before the mode is set is turned away by his credentials.
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, fmt.Errorf("control socket: %w", err)
	}
	return l, nil
}

func answers(path string) bool {
	c, err := net.DialTimeout("unix", path, time.Second)
	if err != nil {
		return !errors.Is(err, unix.ECONNREFUSED) && !errors.Is(err, unix.ENOENT)
	}
	c.Close()
	return true
}

// uidKey is where the user of a connection stands in its context.
type uidKey struct{}

// withPeer notes whose process is at the other end, as the kernel saw it when it
// connected (SO_PEERCRED).
func withPeer(ctx context.Context, c net.Conn) context.Context {
	conn, ok := c.(*net.UnixConn)
	if !ok {
		return ctx
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return ctx
	}
	var cred *unix.Ucred
	raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err != nil || cred == nil {
		return ctx
	}
	return context.WithValue(ctx, uidKey{}, cred.Uid)
}

// admitted reports whether the peer is root or the user of this process. An
// unknown peer is nobody.
func admitted(ctx context.Context) bool {
	uid, known := ctx.Value(uidKey{}).(uint32)
	return known && (uid == 0 || int(uid) == os.Geteuid())
}
