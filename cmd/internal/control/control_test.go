package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// gateway answers as it is told and notes what it was asked.
type gateway struct {
	asked  []string
	status Status
	err    error
}

func (g *gateway) Status(context.Context) (Status, error) { return g.status, g.err }
func (g *gateway) Up(_ context.Context, t string) error {
	g.asked = append(g.asked, "up "+t)
	return g.err
}
func (g *gateway) Down(_ context.Context, t string) error {
	g.asked = append(g.asked, "down "+t)
	return g.err
}

func (g *gateway) Rekey(_ context.Context, t string) error {
	g.asked = append(g.asked, "rekey "+t)
	return g.err
}
func (g *gateway) Remark(t string) string { return t + " is a net" }
func (g *gateway) Handover(context.Context) error {
	g.asked = append(g.asked, "handover")
	return g.err
}

func (g *gateway) RekeyIKE(_ context.Context, t string) error {
	g.asked = append(g.asked, "rekey-ike "+t)
	return g.err
}
func (g *gateway) Move(_ context.Context, t, plane string) error {
	g.asked = append(g.asked, "move "+t+" "+plane)
	return g.err
}

// serve runs a server for the length of a test and returns its socket.
func serve(t *testing.T, g Gateway) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "control.sock")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, l, g) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("ended with %v", err)
		}
		l.Close()
		if _, err := os.Lstat(path); err == nil {
			t.Error("the socket is still there")
		}
	})
	return path
}

func TestACommandReachesTheGateway(t *testing.T) {
	g := &gateway{status: Status{Version: "1", Peers: []string{"b"}}}
	c := NewClient(serve(t, g))
	s, err := c.Status(t.Context())
	if err != nil || s.Version != "1" || len(s.Peers) != 1 {
		t.Errorf("status %+v, %v", s, err)
	}
	if remark, err := c.Up(t.Context(), "net"); err != nil || remark != "net is a net" {
		t.Error(err)
	}
	if _, err := c.Down(t.Context(), "net"); err != nil {
		t.Error(err)
	}
	if err := c.Move(t.Context(), "net", "kernel"); err != nil {
		t.Error(err)
	}
	if got := strings.Join(g.asked, ", "); got != "up net, down net, move net kernel" {
		t.Errorf("asked for %s", got)
	}
	g.err = fmt.Errorf("%w: %q; it has: net", ErrUnknownTunnel, "x")
	if _, err := c.Up(t.Context(), "x"); err == nil || !strings.Contains(err.Error(), "it has: net") {
		t.Errorf("an unknown tunnel gave %v", err)
	}
	if _, err := c.Status(t.Context()); err == nil {
		t.Error("a failed status came without an error")
	}
}

func TestTheSocketIsForItsOwnerAlone(t *testing.T) {
	path := serve(t, &gateway{})
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	deep := filepath.Join(t.TempDir(), "run", "yumen", "c.sock")
	l, err := Listen(deep)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if info, err := os.Stat(filepath.Dir(deep)); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("its folder has mode %v, %v", info.Mode(), err)
	}
}

// TestAnotherUserIsTurnedAway connects as a user that is neither root nor the
// gateway's, through a socket that somebody opened to the world.
func TestAnotherUserIsTurnedAway(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can take another user's place")
	}
	g := &gateway{}
	path := serve(t, g)
	if err := errors.Join(os.Chmod(path, 0o666), os.Chmod(filepath.Dir(path), 0o755), os.Chmod(filepath.Dir(filepath.Dir(path)), 0o755)); err != nil {
		t.Fatal(err)
	}
	type result struct {
		conn net.Conn
		err  error
	}
	connected := make(chan result)
	go func() {
		// The raw call changes this thread only; locked for ever, it ends here.
		runtime.LockOSThread()
		const nobody = 65534
		if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, nobody, nobody, nobody); e != 0 {
			connected <- result{nil, e}
			return
		}
		conn, err := net.Dial("unix", path)
		connected <- result{conn, err}
	}()
	r := <-connected
	if r.err != nil {
		t.Fatal(r.err)
	}
	defer r.conn.Close()
	r.conn.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprintf(r.conn, "POST /v1/down HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 16\r\n\r\n{\"tunnel\":\"net\"}")
	answer, err := io.ReadAll(r.conn)
	if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 403") {
		t.Errorf("nobody was answered %q, %v", answer, err)
	}
	if len(g.asked) != 0 {
		t.Errorf("nobody got %v done", g.asked)
	}
}

func TestAConnectionWithoutCredentialsIsNobody(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if admitted(withPeer(t.Context(), a)) || admitted(t.Context()) {
		t.Error("an unknown peer was admitted")
	}
}

func TestRequestsAreBoundedAndStrict(t *testing.T) {
	g := &gateway{}
	c := NewClient(serve(t, g))
	for name, r := range map[string]struct {
		method, path, body string
		code               int
	}{
		"nothing":         {"POST", upPath, "", 400},
		"no tunnel":       {"POST", upPath, "{}", 400},
		"unknown field":   {"POST", upPath, `{"tunnel":"a","key":"00"}`, 400},
		"two values":      {"POST", downPath, `{"tunnel":"a"}{"tunnel":"b"}`, 400},
		"too large":       {"POST", upPath, `{"tunnel":"` + strings.Repeat("a", maxBody) + `"}`, 400},
		"wrong method":    {"GET", upPath, "", 405},
		"status is read":  {"POST", statusPath, "", 405},
		"no such place":   {"GET", "/v1/keys", "", 404},
		"not even a word": {"GET", "/", "", 404},
	} {
		req, err := http.NewRequest(r.method, "http://gateway"+r.path, strings.NewReader(r.body))
		if err != nil {
			t.Fatal(err)
		}
		answer, err := c.http.Do(req)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		answer.Body.Close()
		if answer.StatusCode != r.code {
			t.Errorf("%s: %s, want %d", name, answer.Status, r.code)
		}
	}
	if len(g.asked) != 0 {
		t.Errorf("got done: %v", g.asked)
	}
}

func TestTheClientSaysWhyNobodyAnswers(t *testing.T) {
	dir := t.TempDir()
	missing := filepath.Join(dir, "none.sock")
	_, err := NewClient(missing).Status(t.Context())
	if !errors.Is(err, ErrNotRunning) || !strings.Contains(err.Error(), missing) || !strings.Contains(err.Error(), "yumen run") {
		t.Errorf("no socket: %v", err)
	}
	stale := leaveStale(t, filepath.Join(dir, "stale.sock"))
	if _, err := NewClient(stale).Status(t.Context()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("a stale socket: %v", err)
	}
	if err := NewClient(stale).explain(fmt.Errorf("dial: %w", os.ErrPermission)); !strings.Contains(err.Error(), "be root") {
		t.Errorf("no permission: %v", err)
	}
}

// leaveStale leaves a socket behind as a process that was killed does.
func leaveStale(t *testing.T, path string) string {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	return path
}

func TestAStaleSocketIsReplacedAndALiveOneIsNot(t *testing.T) {
	dir := t.TempDir()
	path := leaveStale(t, filepath.Join(dir, "c.sock"))
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path); !errors.Is(err, ErrInUse) {
		t.Errorf("a second gateway got %v", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if l, err = Listen(path); err != nil {
		t.Errorf("after a clean stop: %v", err)
	} else {
		l.Close()
	}
	stranger := filepath.Join(dir, "other.sock")
	other, err := net.Listen("unix", stranger)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, err := Listen(stranger); !errors.Is(err, ErrInUse) {
		t.Errorf("another program's socket: %v", err)
	}
}

func TestAFileInTheWayIsNotRemoved(t *testing.T) {
	path := filepath.Join(t.TempDir(), "precious")
	if err := os.WriteFile(path, []byte("data"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("a file: %v", err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "data" {
		t.Errorf("the file is now %q, %v", b, err)
	}
}
