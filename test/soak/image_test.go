package main

import (
	"bytes"
	"crypto"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emmansun/gmsm/smx509"
	"golang.org/x/sys/unix"

	"yumen/ike/gm"
	"yumen/ike/wire"
	"yumen/policy/secret"
	"yumen/test/site"
	"yumen/test/soak/forwarder"
)

// heard is one IKE message on the wire.
type heard struct {
	wire.Header
	fromA bool
	data  []byte
}

// listen collects the IKE messages that come into a namespace over IPv4, until
// the function is called.
func listen(t testing.TB, space *site.Space, addrA string) func() []heard {
	t.Helper()
	var fd int
	err := space.Do(func() (err error) {
		const ip = unix.ETH_P_IP>>8 | unix.ETH_P_IP<<8&0xff00
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, ip)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	limit := unix.Timeval{Usec: 100_000}
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit)
	var list []heard
	var stop atomic.Bool
	var done sync.WaitGroup
	done.Go(func() {
		defer unix.Close(fd)
		buf := make([]byte, 4096)
		for !stop.Load() {
			n, _, err := unix.Recvfrom(fd, buf, 0)
			if err != nil || forwarder.Identify(buf[:n]).Kind != forwarder.IKE {
				continue
			}
			data := bytes.Clone(buf[14+20+8 : n])
			if h, err := wire.ParseHeader(data); err == nil {
				from := fmt.Sprintf("%d.%d.%d.%d", buf[26], buf[27], buf[28], buf[29])
				list = append(list, heard{h, from == addrA, data})
			}
		}
	})
	return func() []heard { stop.Store(true); done.Wait(); return list }
}

// encryptionKey reads the private encryption key of a gateway.
func encryptionKey(t *testing.T, g *site.Gateway) crypto.Decrypter {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(g.Dir, "enc.key"))
	need(t, err)
	block, _ := pem.Decode(b)
	key, err := smx509.ParsePKCS8PrivateKey(block.Bytes)
	need(t, err)
	return key.(crypto.Decrypter)
}

// secrets are 16-byte strings that a daemon must forget, by their names.
type secrets map[string][]byte

func (s secrets) add(name string, b []byte) {
	for i := 0; i+16 <= len(b); i += 16 {
		s[fmt.Sprintf("%s[%d:%d]", name, i, i+16)] = bytes.Clone(b[i : i+16])
	}
}

// derive follows one main mode of a with b, and the quick modes under it, with
// both private keys, as the standard says: GB/T 36968, 5.1, and RFC 2409 5.5.
func derive(t *testing.T, list []heard, keyA, keyB crypto.Decrypter) secrets {
	t.Helper()
	out := secrets{}
	var nonces [2][]gm.Fields // of a, of b
	var fifth, sixth *heard
	for i := range list {
		h := &list[i]
		encrypted := h.Flags&wire.FlagEncrypted != 0
		switch {
		case h.Exchange == wire.MainMode && encrypted && h.fromA:
			fifth = h
		case h.Exchange == wire.MainMode && encrypted:
			sixth = h
		case h.Exchange == wire.MainMode:
			m, err := wire.Parse(h.data)
			need(t, err)
			body := map[wire.PayloadType][]byte{}
			for _, p := range m.Payloads {
				body[p.Type] = p.Body
			}
			if body[wire.TypeSK] == nil {
				continue
			}
			key, who, name := keyB, 0, "Ski"
			if !h.fromA {
				key, who, name = keyA, 1, "Skr"
			}
			sk, err := gm.OpenEnvelope(key, body[wire.TypeSK])
			need(t, err)
			out.add(name, sk.Bytes())
			nonces[who] = gm.OpenFields(sk.Bytes(), body[wire.TypeNonce], body[wire.TypeID], false)
		}
	}
	if fifth == nil || sixth == nil || nonces[0] == nil || nonces[1] == nil {
		t.Fatal("the main mode was not heard whole")
	}
	keys := sessionKeys(t, out, nonces, fifth)
	for name, k := range map[string]secret.Secret{"SKEYID": keys.SKEYID, "SKEYID_d": keys.D, "SKEYID_a": keys.A, "SKEYID_e": keys.E} {
		out.add(name, k.Bytes())
	}
	keymats(t, out, list, keys, gm.LastBlock(sixth.data[wire.HeaderLen:]))
	return out
}

// sessionKeys finds the reading of the nonces under which M5 is a HASH.
func sessionKeys(t *testing.T, found secrets, nonces [2][]gm.Fields, fifth *heard) gm.Keys {
	t.Helper()
	iv := gm.PhaseOneIV(found["Ski[0:16]"], found["Skr[0:16]"])
	for _, i := range nonces[0] {
		for _, r := range nonces[1] {
			keys := gm.DeriveKeys(i.Nonce, r.Nonce, fifth.Initiator, fifth.Responder)
			plain, err := gm.DecryptCBC(keys.CipherKey(), iv[:], fifth.data[wire.HeaderLen:])
			if err != nil {
				continue
			}
			if ps, _, err := wire.ParseBody(fifth.Next, plain, wire.Padding); err == nil && ps[0].Type == wire.TypeHash && len(ps[0].Body) == 32 {
				found.add("Ni", i.Nonce)
				found.add("Nr", r.Nonce)
				return keys
			}
		}
	}
	t.Fatal("no reading of the nonces opens M5")
	return gm.Keys{}
}

// keymats adds KEYMAT of both directions of each quick mode.
func keymats(t *testing.T, found secrets, list []heard, keys gm.Keys, last [16]byte) {
	t.Helper()
	type exchange struct {
		iv     [16]byte
		nonces [][]byte
		spis   []uint32
	}
	all := map[uint32]*exchange{}
	for _, h := range list {
		if h.Exchange != wire.QuickMode {
			continue
		}
		x := all[h.MessageID]
		if x == nil {
			x = &exchange{iv: gm.PhaseTwoIV(last, h.MessageID)}
			all[h.MessageID] = x
		}
		if len(x.spis) == 2 {
			continue
		}
		plain, err := gm.DecryptCBC(keys.CipherKey(), x.iv[:], h.data[wire.HeaderLen:])
		need(t, err)
		ps, _, err := wire.ParseBody(h.Next, plain, wire.Padding)
		need(t, err)
		x.iv = gm.LastBlock(h.data[wire.HeaderLen:])
		for _, p := range ps {
			switch p.Type {
			case wire.TypeNonce:
				x.nonces = append(x.nonces, p.Body)
			case wire.TypeSA:
				sa, err := wire.ParseSA(p.Body)
				need(t, err)
				b := sa.Proposals[0].SPI
				x.spis = append(x.spis, uint32(b[0])<<24|uint32(b[1])<<16|uint32(b[2])<<8|uint32(b[3]))
			}
		}
	}
	for id, x := range all {
		if len(x.spis) != 2 || len(x.nonces) != 2 {
			t.Fatalf("quick mode %08x was not heard whole", id)
		}
		for _, spi := range x.spis {
			found.add(fmt.Sprintf("KEYMAT %08x", spi), gm.Keymat(keys.D, uint8(wire.ProtoESP), spi, x.nonces[0], x.nonces[1], 48).Bytes())
		}
	}
	if len(all) < 2 {
		t.Fatalf("%d quick modes were heard, expected 2", len(all))
	}
}

// image searches the memory of a process and returns the names of what it holds.
func image(t *testing.T, pid int, want secrets) []string {
	t.Helper()
	regions, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	need(t, err)
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	need(t, err)
	defer mem.Close()
	found, total := map[string]bool{}, 0
	for _, line := range strings.Split(strings.TrimSpace(string(regions)), "\n") {
		var from, to int64
		var mode string
		if n, _ := fmt.Sscanf(line, "%x-%x %s", &from, &to, &mode); n != 3 || mode[0] != 'r' || strings.HasSuffix(line, "]") && strings.Contains(line, "[v") {
			continue
		}
		const step, overlap = 4 << 20, 15
		buf := make([]byte, step+overlap)
		for at := from; at < to; at += step {
			n, _ := mem.ReadAt(buf[:min(int64(len(buf)), to-at)], at)
			total += n
			for name, b := range want {
				if !found[name] && bytes.Contains(buf[:n], b) {
					found[name] = true
				}
			}
		}
	}
	if total < 1<<20 {
		t.Fatalf("only %d bytes of memory could be read", total)
	}
	return slices.Sorted(maps.Keys(found))
}

// collect makes a daemon allocate until its collector ran more than twice.
func collect(t *testing.T, d *desk) {
	t.Helper()
	for range 1500 {
		answer, err := d.http.Get("http://gateway/v1/status")
		need(t, err)
		answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			t.Fatal(answer.Status)
		}
	}
}

// TestMemoryOfADaemonHoldsNoKeyOfSAsThatEnded derives all keys from what was on
// the wire and looks for them in the memory of both daemons: first while they are
// in use, so that the search is known to find them, then afterwards.
func TestMemoryOfADaemonHoldsNoKeyOfSAsThatEnded(t *testing.T) {
	w, dir := site.Begin(t)
	s := &scenario{pairs: 1}
	s.ordered(byOne, 2, time.Hour)
	r, err := s.build(w, yumen, dir, 1)
	need(t, err, r.sites.configure(dir, s.plan()))
	stop := listen(t, r.sites.wire, outer(endA, 0, false))
	need(t, r.begin(), r.waitUp(20*time.Second))
	r.traffic.Send(s.classes[0].tunnels, rate)
	flows(t, r, 5*time.Second)
	gates := r.sites.gate
	keys := derive(t, stop(), encryptionKey(t, gates[endA]), encryptionKey(t, gates[endB]))
	if in := image(t, gates[endA].Daemon().Pid(), keys); !slices.Contains(in, "SKEYID_d[0:16]") || !slices.Contains(in, "SKEYID_e[0:16]") {
		t.Fatalf("of a living session only %v are found: the search proves nothing", in)
	} else {
		t.Logf("while in use: %v", in)
	}
	r.traffic.Halt()
	for n := range 2 {
		need(t, r.desks[endA].order("/v1/down", fmt.Sprintf("t%d", n)))
	}
	need(t, gates[endB].Daemon().Stop(5*time.Second)) // deletes the ISAKMP SA
	eventually(t, "the session is gone", 5*time.Second, func() error {
		st, err := gates[endA].Status()
		if err == nil && len(st.Sessions) > 0 {
			err = errors.New("there still is one")
		}
		return err
	})
	collect(t, r.desks[endA])
	if in := image(t, gates[endA].Daemon().Pid(), keys); len(in) > 0 {
		t.Errorf("after the end of every SA the memory still holds %v", in)
	}
}
