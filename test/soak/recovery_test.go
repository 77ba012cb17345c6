package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"yumen/test/site"
	"yumen/test/soak/forwarder"
)

// rate is how many packets a second each tunnel of these tests carries, each way.
const rate = 50

// quickDPD notices a dead peer after 3 to 4 seconds.
const quickDPD = ", dpd: {interval: 1s, tries: 3}"

// newPair has two daemons with four tunnels over two ISAKMP SAs, one outside over
// IPv4 and one over IPv6, under traffic.
func newPair(t *testing.T, peers string) *run {
	t.Helper()
	w, dir := site.Begin(t)
	s := &scenario{pairs: 2, peers: peers, settle: 15 * time.Second}
	s.ordered(byOne, 4, time.Hour)
	r, err := s.start(w, yumen, dir, 1)
	need(t, err, r.waitUp(20*time.Second))
	r.traffic.Send(s.classes[0].tunnels, rate)
	flows(t, r, 5*time.Second)
	return r
}

// flows waits until something that is sent from now on arrived on every flow, and
// returns how long that took.
func flows(t *testing.T, r *run, limit time.Duration) time.Duration {
	t.Helper()
	var marks [][2]uint32
	for _, f := range r.traffic.Flows {
		marks = append(marks, [2]uint32{f[0].Sent.Load(), f[1].Sent.Load()})
	}
	return eventually(t, "traffic on every tunnel both ways", limit, func() error {
		for n, f := range r.traffic.Flows {
			for end := range f {
				if !f[end].ArrivedFrom(marks[n][end]) {
					return fmt.Errorf("nothing of tunnel %d from %s", n, side(end))
				}
			}
		}
		return nil
	})
}

// good is what must hold after every one of these tests.
func good(t *testing.T, r *run) {
	t.Helper()
	if err := r.settled(); err != nil {
		t.Error(err)
	}
	r.traffic.Halt()
	time.Sleep(300 * time.Millisecond)
	if n := r.sites.fwd.Clear(); n > 0 {
		t.Errorf("%d frames in clear on the outside wire", n)
	}
	for _, pair := range r.traffic.Flows {
		for _, f := range pair {
			if _, twice := f.Counts(); twice > 0 {
				t.Errorf("tunnel %d from %s: %d packets came twice", f.Pair, side(f.From), twice)
			}
		}
	}
}

func TestKilledDaemonCarriesTrafficFiveSecondsAfterItsRestart(t *testing.T) {
	for end, what := range []string{"the end that starts", "the end that only responds"} {
		t.Run(what, func(t *testing.T) {
			r := newPair(t, "")
			r.sites.gate[end].Daemon().Kill()
			time.Sleep(time.Second) // traffic meets the guard alone
			need(t, r.sites.gate[end].Start())
			t.Logf("after %v", flows(t, r, 5*time.Second).Round(10*time.Millisecond))
			good(t, r)
		})
	}
}

func TestBothDaemonsKilledCarryTrafficTenSecondsAfterTheirRestart(t *testing.T) {
	r := newPair(t, "")
	for _, g := range r.sites.gate {
		g.Daemon().Kill()
	}
	time.Sleep(time.Second)
	need(t, r.sites.gate[endA].Start(), r.sites.gate[endB].Start())
	t.Logf("after %v", flows(t, r, 10*time.Second).Round(10*time.Millisecond))
	good(t, r)
}

func TestCleanShutdownSendsDeletesWithinTwoSeconds(t *testing.T) {
	r := newPair(t, "")
	for end, g := range r.sites.gate {
		other := newJournal(r.sites.gate[1-end])
		need(t, other.read())
		before := other.words["child-down"]
		begin := time.Now()
		need(t, g.Daemon().Stop(5*time.Second))
		if took := time.Since(begin); took > 2*time.Second {
			t.Errorf("gateway %s needed %v to stop", side(end), took)
		}
		eventually(t, "the peer knows", 2*time.Second-time.Since(begin)+100*time.Millisecond, func() error {
			if err := other.read(); err != nil {
				return err
			}
			if n := other.words["child-down"] - before; n < 4 || other.words["ike-down"] < 2 {
				return fmt.Errorf("%d children and %d sessions are down", n, other.words["ike-down"])
			}
			return nil
		})
		log, err := os.ReadFile(other.file)
		need(t, err)
		if n := strings.Count(string(log), "msg=child-down reason=peer-deleted"); n < 4 {
			t.Errorf("gateway %s: %d children were deleted by the peer, expected 4", side(1-end), n)
		}
		need(t, g.Start())
		t.Logf("gateway %s: traffic %v after its restart", side(end), flows(t, r, 5*time.Second).Round(10*time.Millisecond))
	}
	good(t, r)
}

// informational drops deletes, and with them everything else that travels like them.
func informational(_ bool, id forwarder.Identity) forwarder.Fate {
	if id.Kind == forwarder.IKE && id.Exchange == forwarder.Informational {
		return forwarder.Drop
	}
	return forwarder.Pass
}

func TestDeletesThatAreLostLeaveNothingBehind(t *testing.T) {
	t.Run("of a restart", func(t *testing.T) {
		r := newPair(t, "")
		r.sites.fwd.Set(forwarder.Weather{Decide: informational})
		need(t, r.sites.gate[endA].Daemon().Stop(5*time.Second))
		st, err := r.sites.gate[endB].Status()
		need(t, err)
		if len(st.Tunnels[0].Children) == 0 {
			t.Fatal("the delete was not lost")
		}
		r.sites.fwd.Set(forwarder.Weather{})
		need(t, r.sites.gate[endA].Start())
		flows(t, r, 5*time.Second)
		good(t, r)
	})
	t.Run("of a rekey", func(t *testing.T) {
		r := newPair(t, "")
		r.settle = 35 * time.Second // the other end waits for 30 s
		r.sites.fwd.Set(forwarder.Weather{Decide: informational})
		for n := range r.traffic.Flows {
			need(t, r.desks[n%2].rekey(fmt.Sprintf("t%d", n)))
		}
		time.Sleep(5 * time.Second) // the old children go, and their deletes are lost
		r.sites.fwd.Set(forwarder.Weather{})
		good(t, r)
		nothingLost(t, r)
	})
}

// nothingLost holds on a wire that dropped no ESP.
func nothingLost(t *testing.T, r *run) {
	t.Helper()
	for _, pair := range r.traffic.Flows {
		for _, f := range pair {
			if got, _ := f.Counts(); got != uint64(f.Sent.Load()) {
				t.Errorf("tunnel %d from %s: sent %d, received %d", f.Pair, side(f.From), f.Sent.Load(), got)
			}
		}
	}
}

func TestPeerThatHungIsFoundDeadAndComesBack(t *testing.T) {
	for end := range 2 {
		t.Run("gateway "+side(end), func(t *testing.T) {
			r := newPair(t, quickDPD)
			r.settle = 35 * time.Second // whoever hung waits 30 s for the peer to delete what it replaced
			hung := r.sites.gate[end].Daemon().Pid()
			other := newJournal(r.sites.gate[1-end])
			need(t, syscall.Kill(hung, syscall.SIGSTOP))
			took := eventually(t, "the peer is found dead", 10*time.Second, func() error {
				if err := other.read(); err != nil {
					return err
				}
				if other.words["peer-dead"] < 2 { // each ISAKMP SA
					return errors.New("no event")
				}
				return nil
			})
			if took < 2*time.Second {
				t.Errorf("found dead after %v: three tries need more", took)
			}
			st, err := r.sites.gate[1-end].Status()
			need(t, err)
			for _, tunnel := range st.Tunnels {
				if tunnel.State == "up" {
					t.Errorf("tunnel %s is up to a dead peer", tunnel.Name)
				}
			}
			need(t, syscall.Kill(hung, syscall.SIGCONT))
			t.Logf("dead after %v, traffic again after %v", took.Round(10*time.Millisecond), flows(t, r, 10*time.Second).Round(10*time.Millisecond))
			good(t, r)
		})
	}
}

// TestWireThatIsCutComesBack drops everything for longer than dead peer detection
// takes at both ends.
func TestWireThatIsCutComesBack(t *testing.T) {
	r := newPair(t, quickDPD)
	r.sites.fwd.Set(forwarder.Weather{Loss: 1})
	time.Sleep(6 * time.Second)
	r.sites.fwd.Set(forwarder.Weather{})
	t.Logf("traffic again after %v", flows(t, r, 15*time.Second).Round(10*time.Millisecond))
	good(t, r)
}
