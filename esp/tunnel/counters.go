package tunnel

import "sync/atomic"

// counter names one count of the data plane. A packet that is dropped is counted
// once, by its reason.
type counter uint8

const (
	sealed counter = iota
	opened
	ikeReceived
	keepaliveReceived
	icmpBelieved
	icmpForeign
	rawReceived
	otherPlane
	echoSent
	echoAnswered
	echoReceived
	dropMalformed
	dropNoPolicy
	dropNoSA
	dropQueueFull
	dropQueueOld
	dropSeal
	dropTooBig
	dropSend
	dropReassembly
	dropUnknownSPI
	dropWrongPath
	dropReplayed
	dropAuth
	dropSelector
	dropDummy
	dropLimit
	dropPolicyIn
	dropCongestion
	dropTUN
	dropIKE
	dropMuted
	dropEcho
	lostEvent
	lostEcho
	counters
)

var counterNames = [counters]string{
	"sealed", "opened", "ike-received", "keepalive-received", "icmp-believed", "icmp-foreign", "raw-received", "other-plane",
	"echo-sent", "echo-answered", "echo-received",
	"malformed", "no-policy", "no-sa", "wait-full", "wait-timeout", "not-sealed",
	"too-big", "send", "reassembly", "unknown-spi", "wrong-path", "replayed", "bad-auth", "bad-selector",
	"dummy", "limit", "policy-in", "congestion", "tun", "ike-queue", "muted", "echo-unanswered",
	"event-queue", "echo-queue",
}

// counts is written by all workers.
type counts [counters]atomic.Uint64

func (c *counts) add(n counter) { c[n].Add(1) }

func (c *counts) addMany(n counter, many int) { c[n].Add(uint64(many)) }

// Counters returns the counts of the whole plane since New by name. "sealed" and
// "opened" are packets that went through; "ike-received" and "keepalive-received"
// explain themselves; "icmp-believed" are errors about the size of packets of ours,
// "icmp-foreign" such about packets that no child sent; "raw-received" are packets of
// protocol 50 but for those of the kernel plane, of which "other-plane" counts our
// copies, with those that came by UDP; "echo-sent" are probes and answers to such that
// left, "echo-answered" the answers among them, "echo-received" answers that came; every
// other name is the reason of a drop.
func (p *Plane) Counters() map[string]uint64 {
	m := make(map[string]uint64, counters)
	for i := range p.counts {
		m[counterNames[i]] = p.counts[i].Load()
	}
	return m
}
