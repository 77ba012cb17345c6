package server

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"yumen/ike"
	"yumen/policy"
)

func netAddrPort(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

func addrs(list ...string) (out []netip.Addr) {
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

// atlas is a resolver that knows what it is told: names, and which families have
// a route.
type atlas struct {
	names map[string][]netip.Addr
	local []netip.Addr
	// second are addresses that the host has and does not send from, even to themselves.
	second []netip.Addr
	hang   bool
}

func (a atlas) Lookup(ctx context.Context, name string) ([]netip.Addr, error) {
	if a.hang {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if found, ok := a.names[name]; ok {
		return found, nil
	}
	return nil, errors.New("no such host")
}

func (a atlas) Source(_ context.Context, remote netip.Addr) (netip.Addr, error) {
	if slices.Contains(a.local, remote) {
		return remote, nil
	}
	for _, l := range a.local {
		if l.Is4() == remote.Is4() {
			return l, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("no route to %v", remote)
}

func (a atlas) Own(own netip.Addr) (bool, error) { return slices.Contains(a.second, own), nil }

func (a atlas) Interface(name string) ([]netip.Addr, error) {
	if name != "wan0" {
		return nil, fmt.Errorf("interface %q: not there", name)
	}
	return addrs("fe80::1", "2001:db8::1", "192.0.2.9"), nil
}

func TestAPeerIsLocatedByAddressNameAndOurOwnAddress(t *testing.T) {
	both := map[string][]netip.Addr{"gw.example": addrs("2001:db8::7", "198.51.100.7", "198.51.100.8"), "void.example": {}}
	v4 := atlas{names: both, local: addrs("192.0.2.1")}
	dual := atlas{names: both, local: addrs("192.0.2.1", "2001:db8::1")}
	master := atlas{names: both, local: addrs("192.0.2.1", "2001:db8::1", "192.0.2.3")}
	fqdn := policy.Remote{FQDN: "gw.example"}
	shared := policy.Local{Addr: netip.MustParseAddr("192.0.2.3")}
	for name, c := range map[string]struct {
		peer  policy.Peer
		from  atlas
		want  string
		fault string
	}{
		"address":            {peer: policy.Peer{Remote: policy.Remote{Addr: there.Addr()}}, from: v4, want: "192.0.2.1 [198.51.100.7]"},
		"mapped address":     {peer: policy.Peer{Remote: policy.Remote{Addr: netip.MustParseAddr("::ffff:198.51.100.7")}}, from: v4, want: "192.0.2.1 [198.51.100.7]"},
		"no route":           {peer: policy.Peer{Remote: policy.Remote{Addr: netip.MustParseAddr("2001:db8::7")}}, from: v4, fault: "no route"},
		"name, both":         {peer: policy.Peer{Remote: fqdn}, from: dual, want: "2001:db8::1 [2001:db8::7]"},
		"name, no IPv6":      {peer: policy.Peer{Remote: fqdn}, from: v4, want: "192.0.2.1 [198.51.100.7 198.51.100.8]"},
		"name, own address":  {peer: policy.Peer{Remote: fqdn, Local: shared}, from: master, want: "192.0.2.3 [198.51.100.7 198.51.100.8]"},
		"second address":     {peer: policy.Peer{Remote: fqdn, Local: shared}, from: atlas{names: both, local: addrs("192.0.2.1"), second: addrs("192.0.2.3")}, want: "192.0.2.3 [198.51.100.7 198.51.100.8]"},
		"standby":            {peer: policy.Peer{Remote: fqdn, Local: shared}, from: dual, fault: ike.ErrAway.Error()},
		"standby, any":       {peer: policy.Peer{Remote: policy.Remote{Any: true}, Local: shared}, from: dual, fault: ike.ErrAway.Error()},
		"interface":          {peer: policy.Peer{Remote: fqdn, Local: policy.Local{Interface: "wan0"}}, from: v4, want: "2001:db8::1 [2001:db8::7]"},
		"missing interface":  {peer: policy.Peer{Remote: fqdn, Local: policy.Local{Interface: "wan9"}}, from: v4, fault: "wan9"},
		"name without hosts": {peer: policy.Peer{Remote: policy.Remote{FQDN: "void.example"}}, from: v4, fault: "no address"},
		"unknown name":       {peer: policy.Peer{Remote: policy.Remote{FQDN: "x.example"}}, from: v4, fault: "no such host"},
		"any":                {peer: policy.Peer{Remote: policy.Remote{Any: true}}, from: v4, fault: "must call us"},
		"other family":       {peer: policy.Peer{Remote: policy.Remote{Addr: there.Addr()}, Local: policy.Local{Addr: netip.MustParseAddr("2001:db8::1")}}, from: dual, fault: "family"},
	} {
		local, remote, err := locate(t.Context(), c.from, &c.peer)
		if c.fault != "" {
			if err == nil || !strings.Contains(err.Error(), c.fault) {
				t.Errorf("%s: %v, want a fault about %q", name, err, c.fault)
			}
			continue
		}
		if got := fmt.Sprint(local, " ", remote); err != nil || got != c.want {
			t.Errorf("%s: %s, %v, want %s", name, got, err, c.want)
		}
	}
}

func TestALookUpThatHangsIsAnsweredByItsDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(onFirst(ike.Output{Effects: []ike.Effect{ike.Resolve{Peer: "b", Attempt: 8}, ike.Resolve{Peer: "z", Attempt: 9}}}),
			func(c *Config) {
				c.Resolver = atlas{hang: true}
				c.Policy = &policy.Policy{Peers: []policy.Peer{{Name: "b", Remote: policy.Remote{FQDN: "gw.example"}}}}
			})
		w.pipe.in <- packet("x")
		time.Sleep(6 * time.Second)
		synctest.Wait()
		equal(t, kinds(w.engine.inputs), "Tick", "Datagram", "Resolved", "Resolved")
		unknown, late := w.engine.inputs[2].(ike.Resolved), w.engine.inputs[3].(ike.Resolved)
		if unknown.Attempt != 9 || unknown.Err == nil {
			t.Errorf("the unknown peer was answered with %+v", unknown)
		}
		if late.Attempt != 8 || !errors.Is(late.Err, context.DeadlineExceeded) {
			t.Errorf("the late look-up was answered with %+v", late)
		}
		w.stop()
	})
}

func TestTheHostKnowsItsOwnAddresses(t *testing.T) {
	r := SystemResolver(nil)
	for _, loop := range addrs("127.0.0.1", "127.0.0.53") {
		local, err := r.Source(t.Context(), loop)
		if err != nil || !local.IsLoopback() {
			t.Errorf("towards %v: %v, %v", loop, local, err)
		}
	}
	for own, want := range map[string]bool{"127.0.0.1": true, "192.0.2.200": false} {
		if here, err := r.Own(netip.MustParseAddr(own)); err != nil || here != want {
			t.Errorf("%s is here: %v, %v", own, here, err)
		}
	}
	have, err := r.Interface("lo")
	if err != nil || len(have) == 0 || !have[0].IsLoopback() {
		t.Errorf("lo: %v, %v", have, err)
	}
	if _, err := r.Interface("no-such-if"); err == nil {
		t.Error("an interface that is not there has addresses")
	}
}
