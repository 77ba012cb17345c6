package peersheet

import (
	"fmt"
	"math/rand"
	"net/netip"
	"strings"
	"testing"
	"time"

	"yumen/ike"
	"yumen/ike/wire"
	"yumen/policy"
	"yumen/policy/trust"
	"yumen/test/lab"
)

// The numbers of a sheet are those that the engine puts into its first message, for
// every profile.
func TestSheetSaysWhatTheEngineSends(t *testing.T) {
	members := lab.NewMembers()
	for _, profile := range policy.Profiles() {
		site, _ := members.Pair()
		peer := site.Peer()
		peer.Profile, peer.Dialect = profile, profile.Dialect()
		if profile == policy.Hillstone10 {
			peer.Dialect.SendCerts = policy.CertsBoth // no files of certificates in this world
		}
		f := facts(t, "office", "")
		f.Peer, f.Tunnel = *peer, *site.Tunnel()
		text := written(t, f, English)
		m1 := first(t, site)
		version := fmt.Sprintf("%#x", m1.Version)
		if row := rowOf(t, text, "ISAKMP header version"); !strings.Contains(row, version) {
			t.Errorf("%v: header version %s, the sheet has %s", profile, version, row)
		}
		sa, err := wire.ParseSA(m1.Payloads[0].Body)
		if err != nil {
			t.Fatal(err)
		}
		seen := 0
		for _, a := range sa.Proposals[0].Transforms[0].Attributes {
			v, _ := a.Uint()
			switch a.Type {
			case 1, 2, 3, 20:
				seen++
				row := rowOf(t, text, fmt.Sprintf("attribute %d,", a.Type))
				if !strings.Contains(row, fmt.Sprintf("= %d ", v)) {
					t.Errorf("%v: attribute %d is %d, the sheet has %s", profile, a.Type, v, row)
				}
			case 12:
				seen++
				if row := rowOf(t, text, "attributes 11/12"); !strings.Contains(row, fmt.Sprintf("1 / %d s", v)) {
					t.Errorf("%v: lifetime %d, the sheet has %s", profile, v, row)
				}
			case 4, 14:
				t.Errorf("%v: attribute %d is sent, the sheet says it is not", profile, a.Type)
			}
		}
		if seen != 5 {
			t.Errorf("%v: %d attributes were compared", profile, seen)
		}
	}
}

func first(t *testing.T, site lab.Site) wire.Message {
	t.Helper()
	v, err := trust.NewVerifier(*site.Peer(), site.Anchor, nil)
	if err != nil {
		t.Fatal(err)
	}
	e, err := ike.NewEngine(ike.Config{Policy: &site.Policy, Own: site.Own.Pair,
		Verifiers: map[string]*trust.Verifier{site.Peer().Name: v}, Rand: rand.New(rand.NewSource(1))})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	out := e.Step(now, ike.Tick{})
	for _, effect := range out.Effects {
		if r, ok := effect.(ike.Resolve); ok {
			out = e.Step(now, ike.Resolved{Peer: r.Peer, Attempt: r.Attempt, Local: site.Addr, Remote: []netip.Addr{site.Peer().Remote.Addr}})
		}
	}
	if len(out.Packets) == 0 {
		t.Fatalf("%v: the engine sends nothing: %+v", site.Peer().Profile, out)
	}
	m, err := wire.Parse(out.Packets[0].Data)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// rowOf is the row of a table that begins with an item.
func rowOf(t *testing.T, text, item string) string {
	t.Helper()
	for _, line := range strings.Split(text, "\n") {
		if strings.HasPrefix(line, "| "+item) {
			return line
		}
	}
	t.Fatalf("no row %q in\n%s", item, text)
	return ""
}
