package xfrm

import (
	"errors"
	"fmt"
	"slices"

	"yumen/esp/nft"
)

// Policies go by addresses, and an ICMP error from a router behind us may have one that
// is in no selector. What it quotes nftables see: see package nft.

// quotedTable is the name of our table.
const quotedTable = "yumen_guard_quoted"

// judged is what the guard says of packets to those behind us: a template is a block for
// what has no SA.
func judged(plan []entry) (list []nft.Judged) {
	for _, e := range plan {
		if e.dir == dirFwd && e.kind != deviceAllow && e.mark == 0 {
			list = append(list, nft.Judged{Src: e.src, Dst: e.dst, Protocol: e.protocol, SrcPort: e.srcPort, DstPort: e.dstPort,
				Allow: !e.kind.blocks() && e.kind != protect})
		}
	}
	return list
}

// setQuoted has nftables judge errors as the plan does. What leaves by a device goes into
// a tunnel. The caller holds mu.
func (p *Plane) setQuoted(plan []entry) {
	script := nft.Table(quotedTable, judged(plan), p.device, p.lent.device)
	if script == p.quoted {
		return
	}
	p.unquoted = ""
	if err := nft.Run(script); err != nil {
		p.quoted, p.unquoted = "", fmt.Sprintf("%v: %s", err, nft.Unquoted)
		return
	}
	p.quoted = script
}

// setQuotedGuard does it without a plane. A host without nft does without.
func setQuotedGuard(plan []entry) error {
	if err := nft.Run(nft.Table(quotedTable, judged(plan))); err != nil && !errors.Is(err, nft.ErrAbsent) {
		return fmt.Errorf("guard of ICMP errors: %w", err)
	}
	return nil
}

// removeQuoted takes the table away.
func removeQuoted() error {
	if err := nft.Run(nft.Table(quotedTable, nil)); err != nil && !errors.Is(err, nft.ErrAbsent) {
		return fmt.Errorf("guard of ICMP errors: %w", err)
	}
	return nil
}

// warned are the warnings of now. The caller holds mu.
func (p *Plane) warned() []string {
	list := append(slices.Clone(p.warnings), p.mended.Warning()...)
	if p.unquoted != "" {
		list = append(list, p.unquoted)
	}
	return list
}
