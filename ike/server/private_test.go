package server

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"yumen/ike"
	"yumen/policy/secret"
)

// asking is an engine that begins op at each datagram.
func asking(op ike.PrivateOp) func(ike.Input) ike.Output {
	return onFirst(ike.Output{Effects: []ike.Effect{op}})
}

func TestASlowPrivateKeyDoesNotBlockOtherWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{})
		w := start(func(in ike.Input) ike.Output {
			d, ok := in.(ike.Datagram)
			switch {
			case ok && string(d.Data) == "sign":
				return ike.Output{Effects: []ike.Effect{ike.PrivateOp{ID: 3, Digest: []byte("e")}}}
			case ok:
				return ike.Output{Packets: []ike.Datagram{packet("answer")}}
			}
			return ike.Output{}
		}, func(c *Config) {
			c.KeyWorkers = 1
			c.Keys = hand{func([]byte) ([]byte, error) { <-hold; return []byte("der"), nil }}
		})
		w.pipe.in <- packet("sign")
		w.pipe.in <- packet("other")
		synctest.Wait()
		equal(t, w.all(), "send answer")
		close(hold)
		synctest.Wait()
		done := w.engine.inputs[len(w.engine.inputs)-1].(ike.PrivateDone)
		if done.ID != 3 || string(done.Signed) != "der" || done.Err != nil {
			t.Errorf("answered %+v", done)
		}
		w.stop()
	})
}

func TestAKeyThatHangsIsAnsweredByItsDeadlineAndOnlyOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{})
		w := start(asking(ike.PrivateOp{ID: 3, Digest: []byte("e")}), func(c *Config) {
			c.KeyDeadline, c.KeyWorkers = time.Second, 1
			c.Keys = hand{func([]byte) ([]byte, error) { <-hold; return []byte("late"), nil }}
		})
		w.pipe.in <- packet("x")
		time.Sleep(1500 * time.Millisecond)
		close(hold)
		synctest.Wait()
		equal(t, kinds(w.engine.inputs), "Tick", "Datagram", "PrivateDone")
		if d := w.engine.inputs[2].(ike.PrivateDone); d.Err == nil || d.Signed != nil {
			t.Errorf("answered %+v", d)
		}
		w.stop()
	})
}

func TestTooManyWaitingOperationsFailAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{})
		w := start(asking(ike.PrivateOp{ID: 3, Digest: []byte("e")}), func(c *Config) {
			c.KeyWorkers, c.KeyDeadline = 1, time.Hour
			c.Keys = hand{func([]byte) ([]byte, error) { <-hold; return nil, nil }}
		})
		for range maxWaiting + 2 { // one is being carried out
			w.pipe.in <- packet("x")
			synctest.Wait()
		}
		var failed int
		for _, in := range w.engine.inputs {
			if f, ok := in.(ike.Failed); ok && errors.Is(f.Err, ErrKeyBusy) {
				failed++
			}
		}
		if failed != 1 {
			t.Errorf("%d operations failed, want 1", failed)
		}
		close(hold)
		w.stop()
	})
}

func TestEnvelopesAreOpenedAndStoresThatPanicAreErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(func(in ike.Input) ike.Output {
			if _, ok := in.(ike.Datagram); ok {
				return ike.Output{Effects: []ike.Effect{
					ike.PrivateOp{ID: 1, Envelope: []byte("sealed")}, ike.PrivateOp{ID: 2, Digest: []byte("e")}}}
			}
			return ike.Output{}
		}, func(c *Config) {
			c.Keys = hand{func([]byte) ([]byte, error) { panic("card pulled out") }}
			c.KeyWorkers = 1
		})
		w.pipe.in <- packet("x")
		synctest.Wait()
		opened, signed := w.engine.inputs[2].(ike.PrivateDone), w.engine.inputs[3].(ike.PrivateDone)
		if opened.ID != 1 || !opened.Opened.Equal([]byte("sealed")) || opened.Err != nil {
			t.Errorf("the envelope was answered with %+v", opened)
		}
		if signed.ID != 2 || signed.Err == nil || !strings.Contains(signed.Err.Error(), "card pulled out") {
			t.Errorf("the panic was answered with %+v", signed)
		}
		w.stop()
	})
}

func TestAnOperationThatAsksForNothingOrTwoThingsFails(t *testing.T) {
	for _, op := range []ike.PrivateOp{{ID: 1}, {ID: 2, Envelope: []byte{1}, Digest: []byte{1}}} {
		if err := newPool(time.Second, nil).submit(op, hand{}); err == nil {
			t.Errorf("%+v was taken", op)
		}
	}
}

// TestLateSecretsAreWiped: the plaintext of an envelope that nobody waits for any
// more does not stay in memory.
func TestLateSecretsAreWiped(t *testing.T) {
	p := newPool(time.Hour, func(ike.Input) { t.Error("answered twice") })
	j := &job{timer: time.NewTimer(time.Hour)}
	j.answered.Store(true)
	late := secret.New([]byte("session key"))
	p.finish(j, ike.PrivateDone{Opened: late})
	if late.Len() != 0 {
		t.Error("the late secret is still there")
	}
}

// An exponentiation of a peer that is not GB/T 36968 needs no key of ours, and its
// exponent does not outlive it, whether it ran or not.
func TestPowersAreRaisedBesideTheEngineAndTheirExponentsWiped(t *testing.T) {
	exponent := func() secret.Secret { return secret.New(append(make([]byte, 31), 5)) }
	synctest.Test(t, func(t *testing.T) {
		power := &ike.Power{Exponent: exponent()}
		w := start(asking(ike.PrivateOp{ID: 3, Power: power}))
		w.pipe.in <- packet("x")
		synctest.Wait()
		done := w.engine.inputs[2].(ike.PrivateDone)
		if b := done.Opened.Bytes(); done.ID != 3 || done.Err != nil || len(b) != 256 || b[255] != 32 || b[254] != 0 {
			t.Errorf("2 to the power of 5 is %x, %v", b, done.Err)
		}
		if power.Exponent.Len() != 0 {
			t.Error("the exponent is still there")
		}
		w.stop()
	})
	p := newPool(time.Hour, func(ike.Input) {})
	late := &job{op: ike.PrivateOp{ID: 1, Power: &ike.Power{Exponent: exponent()}}, timer: time.NewTimer(time.Hour)}
	late.answered.Store(true) // by its deadline
	p.jobs <- late
	done := make(chan struct{})
	ended := make(chan struct{})
	go func() { p.work(done); close(ended) }()
	for end := time.Now().Add(5 * time.Second); len(p.jobs) > 0 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	close(done)
	<-ended
	if late.op.Power.Exponent.Len() != 0 {
		t.Error("the exponent of a power that nobody waits for is still there")
	}
	if err := p.submit(ike.PrivateOp{ID: 2, Digest: []byte{1}, Power: &ike.Power{}}, hand{}); err == nil {
		t.Error("a digest and a power at once were taken")
	}
	dropped := &ike.Power{Exponent: exponent()}
	answers := unasked([]ike.Effect{ike.PrivateOp{ID: 4, Power: dropped}}, ErrKeyBusy)
	if len(answers) != 1 || answers[0].(ike.PrivateDone).ID != 4 || dropped.Exponent.Len() != 0 {
		t.Errorf("of a step that failed %+v is left", answers)
	}
}
