package server

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"yumen/ike"
)

// maxWaiting bounds the operations that wait for a key. A device that hangs
// makes new ones fail at once instead of piling up.
const maxWaiting = 256

// ErrKeyBusy says that too many operations wait for our keys already.
var ErrKeyBusy = errors.New("too many operations wait for the private keys")

// pool runs private-key operations beside the engine. Each is answered exactly
// once: by its result, or by its deadline, whichever comes first. A key that
// hangs occupies one worker and no more.
type pool struct {
	jobs     chan *job
	deadline time.Duration
	answer   func(ike.Input)
}

type job struct {
	op       ike.PrivateOp
	keys     PrivateKeys
	answered atomic.Bool
	timer    *time.Timer
}

func newPool(deadline time.Duration, answer func(ike.Input)) *pool {
	return &pool{jobs: make(chan *job, maxWaiting), deadline: deadline, answer: answer}
}

// submit queues op for keys. It fails when too many wait, or when op asks for
// not exactly one operation.
func (p *pool) submit(op ike.PrivateOp, keys PrivateKeys) error {
	if count(op.Envelope != nil, op.Digest != nil, op.Power != nil) != 1 {
		return errors.New("exactly one of envelope, digest and power must be set")
	}
	j := &job{op: op, keys: keys}
	j.timer = time.AfterFunc(p.deadline, func() {
		if j.answered.CompareAndSwap(false, true) {
			p.answer(ike.PrivateDone{ID: op.ID, Err: fmt.Errorf("the private key did not answer within %v", p.deadline)})
		}
	})
	select {
	case p.jobs <- j:
		return nil
	default:
		j.timer.Stop()
		return ErrKeyBusy
	}
}

func count(all ...bool) (n int) {
	for _, b := range all {
		if b {
			n++
		}
	}
	return n
}

// work carries out operations until done is closed.
func (p *pool) work(done <-chan struct{}) {
	for {
		select {
		case <-done:
			return
		case j := <-p.jobs:
			if !j.answered.Load() {
				p.finish(j, j.run())
				scrub()
			} else if j.op.Power != nil {
				j.op.Power.Exponent.Wipe()
			}
		}
	}
}

func (p *pool) finish(j *job, result ike.PrivateDone) {
	j.timer.Stop()
	if !j.answered.CompareAndSwap(false, true) {
		result.Opened.Wipe()
		return
	}
	p.answer(result)
}

// run does the operation. A store that panics is a failed operation, not the end
// of the gateway.
func (j *job) run() (out ike.PrivateDone) {
	out.ID = j.op.ID
	defer func() {
		if r := recover(); r != nil {
			out = ike.PrivateDone{ID: j.op.ID, Err: fmt.Errorf("the key store failed: %v", r)}
		}
	}()
	if j.op.Power != nil {
		out.Opened, out.Err = j.op.Power.Raise()
		return out
	}
	if j.op.Envelope != nil {
		out.Opened, out.Form, out.Err = j.keys.Open(j.op.Envelope)
		return out
	}
	out.Signed, out.Err = j.keys.Sign(j.op.Digest)
	return out
}
