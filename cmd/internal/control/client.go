package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"

	"golang.org/x/sys/unix"
)

// ErrNotRunning says that no gateway is behind the socket.
var ErrNotRunning = errors.New("no gateway is running")

// Client talks to the gateway behind a socket.
type Client struct {
	socket string
	http   *http.Client
}

// NewClient returns a client that connects when it is first used.
func NewClient(socket string) *Client {
	var d net.Dialer
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) { return d.DialContext(ctx, "unix", socket) }
	return &Client{socket, &http.Client{Timeout: 2 * patience, Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}
}

// Status asks how the gateway is.
func (c *Client) Status(ctx context.Context) (s Status, err error) {
	return s, c.ask(ctx, http.MethodGet, statusPath, nil, &s)
}

// Up asks for a tunnel to be up.
func (c *Client) Up(ctx context.Context, tunnel string) (remark string, err error) {
	return c.order(ctx, upPath, tunnel)
}

// Down takes a tunnel down and keeps it down until Up.
func (c *Client) Down(ctx context.Context, tunnel string) (remark string, err error) {
	return c.order(ctx, downPath, tunnel)
}

// Rekey renews the session keys of a tunnel.
func (c *Client) Rekey(ctx context.Context, tunnel string) (remark string, err error) {
	return c.order(ctx, rekeyPath, tunnel)
}

// RekeyIKE renews the working keys of a tunnel's peer.
func (c *Client) RekeyIKE(ctx context.Context, tunnel string) (remark string, err error) {
	return c.order(ctx, rekeyIKE, tunnel)
}

// order gives an order about a tunnel and returns what the gateway remarks on it.
func (c *Client) order(ctx context.Context, path, tunnel string) (remark string, err error) {
	var out done
	err = c.ask(ctx, http.MethodPost, path, request{Tunnel: tunnel}, &out)
	return out.Remark, err
}

// Move takes a tunnel to another data plane, user or kernel.
func (c *Client) Move(ctx context.Context, tunnel, plane string) error {
	return c.ask(ctx, http.MethodPost, movePath, request{tunnel, plane}, nil)
}

// Handover ends the gateway and leaves in the kernel what the next one shall go on
// with. It returns when the gateway has let go of it.
func (c *Client) Handover(ctx context.Context) error {
	return c.ask(ctx, http.MethodPost, handover, struct{}{}, nil)
}

func (c *Client) ask(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://gateway"+path, body)
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", contentType)
	answer, err := c.http.Do(r)
	if err != nil {
		return c.explain(err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return c.explain(err)
	}
	if answer.StatusCode != http.StatusOK {
		var p problem
		if json.Unmarshal(b, &p) != nil || p.Error == "" {
			p.Error = answer.Status
		}
		return fmt.Errorf("the gateway behind %s: %s", c.socket, p.Error)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("the gateway behind %s answers in a form that this program does not know (another version?): %w", c.socket, err)
	}
	return nil
}

// explain says what an error of the socket means to whoever typed the command.
func (c *Client) explain(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ECONNREFUSED):
		return fmt.Errorf("%w behind %s: start it with `yumen run`, or name its socket with --socket", ErrNotRunning, c.socket)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s may not be opened by this user: be root, or the user of the gateway", c.socket)
	}
	return fmt.Errorf("talk to the gateway behind %s: %w", c.socket, err)
}
