package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"yumen/policy"
	"yumen/xfrm"
)

// Run measures what the options say. It takes root unless only kernels are wanted.
// When ctx ends, or anything fails, processes and namespaces are gone before it
// returns. A part that fails is a Gap, and the others go on; only what keeps all of
// them from working is an error.
func Run(ctx context.Context, o Options) (*Report, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	r := &Report{When: time.Now().UTC().Truncate(time.Second), Machine: machine(), Conditions: o.conditions()}
	if o.wants("throughput", "loss", "latency", "tunnels") {
		for _, plane := range []string{"user", "kernel"} {
			if plane == "kernel" {
				if err := xfrm.Probe(policy.SM4CBCHMACSM3); err != nil {
					r.gap("plane kernel", err)
					continue
				}
			}
			if err := o.runPlane(ctx, r, plane); err != nil {
				return nil, err
			}
		}
	}
	if o.wants("kernels") {
		o.say("crypto kernels")
		list, err := o.measureKernels(ctx)
		if err != nil {
			return nil, err
		}
		r.Kernels = list
	}
	return r, ctx.Err()
}

func (o Options) conditions() Conditions {
	return Conditions{Ways: o.chosen(), Seconds: o.Seconds, Rounds: o.Rounds, AcceptLoss: o.AcceptLoss,
		Notes: []string{
			"Both gateways, both hosts and the generator share this machine, and the wire is a veth: not line rate, and less than a gateway alone on these cores.",
			"Lengths and rates are of Ethernet frames at the inner ports: 14 bytes of header, the IP packet, 4 of checksum, without preamble and gap. So 64 is an IP packet of 46, 1428 one of 1410, 1408 one of 1390; with IPv6 the smallest frame here is 74, since 64 has no room for UDP and a number.",
			"Throughput and loss of both directions are the sum of a flow each way at the same time. Delay is half the mean round trip, through two gateways.",
			"Inner and outer addresses are of the same family; one flow each way through one tunnel. Tunnels are negotiated for cbc.",
			"Memory is what the gateway's process holds more with its tunnels, garbage included; kernel memory is not in it.",
		}}
}

func (r *Report) gap(what string, why error) {
	r.NotMeasured = append(r.NotMeasured, Gap{what, why.Error()})
}

func (o Options) say(format string, args ...any) {
	if o.Progress != nil {
		fmt.Fprintf(o.Progress, "measuring: "+format+"\n", args...)
	}
}

// runPlane measures one data plane.
func (o Options) runPlane(ctx context.Context, r *Report, plane string) error {
	if o.wants("throughput", "loss", "latency") {
		for _, way := range o.chosen() {
			if err := o.runWay(ctx, r, plane, way); err != nil {
				return err
			}
		}
	}
	if !o.wants("tunnels") {
		return nil
	}
	o.say("%s: %d tunnels", plane, o.Tunnels)
	err := within(func(w *world) error {
		t, err := o.measureTunnels(ctx, w, plane)
		if err == nil {
			r.Tunnels = append(r.Tunnels, t)
		}
		return err
	})
	if err != nil && fatal(ctx, err) == nil {
		r.gap("plane "+plane+", tunnels", err)
	}
	return fatal(ctx, err)
}

// runWay measures both families one way.
func (o Options) runWay(ctx context.Context, r *Report, plane string, way Way) error {
	if plane == "kernel" {
		if err := xfrm.Probe(way.suite); err != nil {
			r.gap("plane kernel, "+way.Name, err)
			return nil
		}
	}
	for _, f := range families() {
		err := within(func(w *world) error { return o.runPair(ctx, r, w, pairing{plane, f, way}) })
		if err := fatal(ctx, err); err != nil {
			return err
		}
		if err != nil {
			r.gap("plane "+plane+", "+way.Name+", "+f.name, err)
		}
	}
	return nil
}

// errWorld is behind what keeps every part from working.
var errWorld = errors.New("nothing can be measured here")

// within runs f in a world that is gone afterwards.
func within(f func(*world) error) error {
	w, err := newWorld()
	if err != nil {
		return fmt.Errorf("%w: %w", errWorld, err)
	}
	defer w.close()
	return f(w)
}

func fatal(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if errors.Is(err, errWorld) {
		return err
	}
	return nil
}

// pairing says which pair to build.
type pairing struct {
	plane string
	family
	Way
}

// about names what of it is measured.
func (x pairing) about(what string) string { return x.plane + ", " + x.Name + ", " + what }

// runPair measures what packets of one family go through.
func (o Options) runPair(ctx context.Context, r *Report, w *world, x pairing) error {
	o.say("%s: a pair of gateways", x.about(x.name))
	p, err := o.newPair(ctx, w, x)
	if err != nil {
		return err
	}
	for _, l := range x.loads() {
		if o.wants("latency") {
			o.say("%s: latency", x.about(l.name))
			lat, err := o.measureLatency(ctx, p, l)
			lat.Plane, lat.Way = x.plane, x.Name
			if err := r.keep(ctx, x.about(l.name)+", latency", err, func() { r.Latency = append(r.Latency, lat) }); err != nil {
				return err
			}
		}
		if !o.wants("throughput", "loss") {
			continue
		}
		if err := o.runLoad(ctx, r, p, x, l); err != nil {
			return err
		}
	}
	return nil
}

// runLoad measures loss and throughput of one load: in both directions at the same time,
// as the standard has it, and of throughput also what one direction alone has.
func (o Options) runLoad(ctx context.Context, r *Report, p *pair, x pairing, l load) error {
	s, err := p.streams(l)
	if err != nil {
		return err
	}
	defer s.close()
	o.say("%s: loss", x.about(l.name))
	loss, err := o.measureLoss(ctx, s)
	loss.Plane, loss.Way = x.plane, x.Name
	full := loss.Packets
	err = r.keep(ctx, x.about(l.name)+", loss", err, func() {
		if o.wants("loss") {
			r.Loss = append(r.Loss, loss)
		}
	})
	if err != nil || !o.wants("throughput") || full == 0 {
		return err
	}
	for _, part := range []streams{s, s[:1]} {
		what := fmt.Sprintf("%s, throughput, %s", x.about(l.name), directions(len(part)))
		o.say("%s", what)
		thr, err := o.measureThroughput(ctx, part, full)
		thr.Plane, thr.Way = x.plane, x.Name
		if err := r.keep(ctx, what, err, func() { r.Throughput = append(r.Throughput, thr) }); err != nil {
			return err
		}
	}
	return nil
}

// keep takes a figure, or says why there is none; its error ends the run.
func (r *Report) keep(ctx context.Context, what string, err error, take func()) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		r.gap(what, err)
		return nil
	}
	take()
	return nil
}
