package bench

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/netip"
	"time"

	"yumen/esp"
	"yumen/policy"
	"yumen/policy/secret"
)

const (
	kernelBatch   = 24 // packets side by side: what fills the widest kernel
	kernelBatches = 40 // before keys and numbers begin anew
	kernelLength  = 1428
)

// measureKernels measures every kernel of this machine with both suites, in turn, so that
// a change of clock speed touches all of them.
func (o Options) measureKernels(ctx context.Context) ([]Kernel, error) {
	var list []Kernel
	for _, suite := range []policy.Suite{policy.SM4CBCHMACSM3, policy.SM4GCM128} {
		kernels := esp.Kernels()
		seal, open := make([][]float64, len(kernels)), make([][]float64, len(kernels))
		for range max(o.Rounds, 3) {
			for i, k := range kernels {
				if err := ctx.Err(); err != nil {
					return nil, err
				}
				s, p, err := kernelRound(k, suite, time.Duration(o.Seconds*float64(time.Second))/8)
				if err != nil {
					return nil, fmt.Errorf("kernel %s: %w", k.Name, err)
				}
				seal[i], open[i] = append(seal[i], s), append(open[i], p)
			}
		}
		for i, k := range kernels {
			list = append(list, Kernel{k.Name, k.ConstantTime, suite.Describe(96), milli(median(seal[i])), milli(median(open[i]))})
		}
	}
	return list, nil
}

// kernelRound seals and opens for at least d and returns Mbit/s of inner packets. Each
// pass has new SAs, for the window takes no packet twice; making them is not counted.
func kernelRound(k esp.Kernel, suite policy.Suite, d time.Duration) (seal, open float64, err error) {
	inner := make([]byte, kernelLength)
	copy(inner, []byte{0x45, 0, kernelLength >> 8, kernelLength & 0xff, 0, 0, 0, 0, 64, 17, 0, 0, 10, 1, 0, 1, 10, 2, 0, 1})
	sealings, openings := make([]esp.Sealing, kernelBatch*kernelBatches), make([]esp.Opening, kernelBatch*kernelBatches)
	buffers, plain := make([][]byte, len(sealings)), make([][]byte, kernelBatch)
	for i := range buffers {
		buffers[i] = make([]byte, 0, kernelLength+200)
	}
	for i := range plain {
		plain[i] = make([]byte, 0, kernelLength+200)
	}
	var batch esp.Batch
	var sealed, opened time.Duration
	bytes := 0
	for sealed+opened < d || bytes == 0 {
		out, in, err := kernelPair(k, suite)
		if err != nil {
			return 0, 0, err
		}
		for i := range sealings {
			sealings[i] = esp.Sealing{SA: out, Dst: buffers[i], Inner: inner}
		}
		begin := time.Now()
		for i := 0; i < len(sealings); i += kernelBatch {
			batch.Seal(sealings[i : i+kernelBatch])
		}
		sealed += time.Since(begin)
		for i, s := range sealings {
			if s.Err != nil {
				return 0, 0, s.Err
			}
			openings[i] = esp.Opening{SA: in, Dst: plain[i%kernelBatch], Packet: s.Packet}
		}
		begin = time.Now()
		for i := 0; i < len(openings); i += kernelBatch {
			batch.Open(openings[i : i+kernelBatch])
		}
		opened += time.Since(begin)
		for _, p := range openings {
			if p.Err != nil {
				return 0, 0, p.Err
			}
		}
		bytes += len(sealings) * kernelLength
		out.Close()
		in.Close()
	}
	bits := float64(bytes) * 8 / 1e6
	return bits / sealed.Seconds(), bits / opened.Seconds(), nil
}

// kernelPair are two SAs that seal and open each other's packets, with keys of this
// moment.
func kernelPair(k esp.Kernel, suite policy.Suite) (*esp.Outbound, *esp.Inbound, error) {
	key := make([]byte, esp.KeymatLen(suite))
	_, _ = rand.Read(key) // never fails
	half := func() esp.Half { return esp.Half{SPI: 0x1000, Keymat: secret.New(append([]byte(nil), key...))} }
	everything := policy.NetOf(netip.MustParsePrefix("0.0.0.0/0"))
	c := esp.Child{ID: 1, Tunnel: "bench", Peer: "bench", Selector: policy.Selector{Local: everything, Remote: everything},
		Suite: suite, Window: 1024, Outer: policy.Outer{DSCP: policy.CopyDSCP}, In: half(), Out: half()}
	if suite == policy.SM4CBCHMACSM3 {
		c.ICVBits = 96
	}
	defer c.Wipe()
	clear(key)
	out, err := k.NewOutbound(c, esp.State{}, rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	in, err := k.NewInbound(c, esp.State{})
	return out, in, err
}
