package main

import (
	"crypto/ecdh"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"yumen/test/interop"
	"yumen/test/site"
)

// wireguardGo is the userspace WireGuard, configured by its control socket.
func wireguardGo(program string) *contender {
	c := &contender{name: "wireguard-go", about: "ChaCha20-Poly1305; one TCP stream", rate: (*pairing).stream}
	if _, err := os.Stat(program); err != nil {
		c.why = "no " + program + ": test/bench/setup.sh makes it"
		return c
	}
	c.start = func(p *pairing) error {
		var keys [2]*ecdh.PrivateKey
		for i := range keys {
			k, err := ecdh.X25519().GenerateKey(rand.Reader)
			if err != nil {
				return err
			}
			keys[i] = k
		}
		for i, end := range []struct {
			at                                *site.Space
			own, inside, remote, remoteInside string
		}{{p.a, outsideA, insideA, outsideB, insideB}, {p.b, outsideB, insideB, outsideA, insideA}} {
			// Its control sockets share one folder: the name tells them apart.
			name := fmt.Sprintf("wg%d%c", os.Getpid()%100000, 'a'+i)
			if _, err := end.at.Start(filepath.Join(p.dir, name+".log"), program, "-f", name); err != nil {
				return err
			}
			conf := fmt.Sprintf("set=1\nprivate_key=%s\nlisten_port=51820\npublic_key=%s\nendpoint=%s:51820\nallowed_ip=%s/32\n\n",
				hex.EncodeToString(keys[i].Bytes()), hex.EncodeToString(keys[1-i].PublicKey().Bytes()), end.remote, end.remoteInside)
			if err := tellWireguard(name, conf); err != nil {
				return err
			}
			for _, args := range [][]string{
				{"ip", "link", "set", name, "up"},
				{"ip", "route", "add", end.remoteInside + "/32", "dev", name, "src", end.inside},
			} {
				if _, err := end.at.Run(args...); err != nil {
					return err
				}
			}
		}
		return p.reachable()
	}
	return c
}

func tellWireguard(name, conf string) error {
	var c net.Conn
	var err error
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if c, err = net.Dial("unix", "/var/run/wireguard/"+name+".sock"); err == nil {
			break
		}
	}
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(c, conf); err != nil {
		return err
	}
	answer := make([]byte, 256)
	n, err := c.Read(answer)
	if err != nil {
		return err
	}
	if !strings.HasPrefix(string(answer[:n]), "errno=0") {
		return fmt.Errorf("wireguard-go refuses its configuration: %q", answer[:n])
	}
	return nil
}

// strongSwan is charon with kernel-libipsec, its userspace plane.
func strongSwan() *contender {
	c := &contender{name: "kernel-libipsec", about: "strongSwan, AES-128-CBC+SHA-256, ESP in UDP; one TCP stream", rate: (*pairing).stream}
	if c.why = interop.MissingStrongSwan(); c.why != "" {
		return c
	}
	c.start = func(p *pairing) error {
		conf := func(own, remote, ownInside, remoteInside string) string {
			return fmt.Sprintf(`connections { c { version = 1
	local_addrs = %[1]s
	remote_addrs = %[2]s
	proposals = aes128-sha256-modp2048
	local { auth = psk
		id = %[1]s }
	remote { auth = psk
		id = %[2]s }
	children { c { local_ts = %[3]s/32
		remote_ts = %[4]s/32
		esp_proposals = aes128-sha256 } } } }
secrets { ike { secret = "not a secret: both ends live in one laboratory" } }
`, own, remote, ownInside, remoteInside)
		}
		a := &interop.StrongSwan{Space: p.a, Dir: filepath.Join(p.dir, "a")}
		b := &interop.StrongSwan{Space: p.b, Dir: filepath.Join(p.dir, "b")}
		return errors.Join(a.Start(), b.Start(),
			a.Load(conf(outsideA, outsideB, insideA, insideB)), b.Load(conf(outsideB, outsideA, insideB, insideA)),
			a.Up("c"), p.reachable())
	}
	return c
}

// bareSender sends packets of protocol 50 of the size that ours have, in batches
// and without doing anything to them.
func bareSender() *contender {
	const inner, outer = 1400, 1464 // of our packets, as they are counted and as they are sent, without IP header
	c := &contender{name: "raw-batch", about: "protocol 50 by a raw socket, 64 packets for each call, nothing sealed; packets sent"}
	c.start = func(p *pairing) error { return nil }
	c.rate = func(p *pairing, d time.Duration) (float64, error) {
		var sock net.PacketConn
		err := p.a.Do(func() (err error) { sock, err = net.ListenPacket("ip4:50", outsideA); return err })
		if err != nil {
			return 0, err
		}
		defer sock.Close()
		drain, err := p.drain()
		if err != nil {
			return 0, err
		}
		defer drain.Close()
		to := &net.IPAddr{IP: net.ParseIP(outsideB)}
		messages := make([]ipv4.Message, 64)
		for i := range messages {
			messages[i] = ipv4.Message{Buffers: [][]byte{make([]byte, outer-20)}, Addr: to}
		}
		conn := ipv4.NewPacketConn(sock)
		return p.flood(inner, d, func(end time.Time) error {
			for time.Now().Before(end) {
				if _, err := conn.WriteBatch(messages, 0); err != nil && !errors.Is(err, unix.ENOBUFS) {
					return err
				}
			}
			return nil
		})
	}
	return c
}

// drain reads packets of protocol 50 in B until it is closed.
func (p *pairing) drain() (c net.PacketConn, err error) {
	err = p.b.Do(func() (err error) { c, err = net.ListenPacket("ip4:50", outsideB); return err })
	if err != nil {
		return nil, err
	}
	if err := c.(*net.IPConn).SetReadBuffer(4 << 20); err != nil { // a full one is answered with errors
		c.Close()
		return nil, err
	}
	go drainAll(c)
	return c, nil
}

func drainAll(c net.PacketConn) {
	conn := ipv4.NewPacketConn(c)
	messages := make([]ipv4.Message, 64)
	for i := range messages {
		messages[i] = ipv4.Message{Buffers: [][]byte{make([]byte, 2048)}}
	}
	for {
		if _, err := conn.ReadBatch(messages, 0); err != nil {
			return
		}
	}
}
