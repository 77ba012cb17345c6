package probe

import (
	"bytes"
	"slices"

	"yumen/policy"
	"yumen/policy/trust"
)

// option is one form of a knob of message 3 and how unlikely it is.
type option struct {
	cost int
	turn func(d *policy.Dialect)
}

// combo is a whole form of message 3.
type combo struct {
	cost    int
	dialect policy.Dialect
}

// combos are all forms of message 3, the likelier first. Costs add up; a box that
// writes points raw (C1C3C2) writes signatures raw.
//
// The order of certificates is varied too where message 2 did not show it.
func combos(base policy.Dialect, own trust.Pair, users []string, order bool) []combo {
	plain := option{0, func(*policy.Dialect) {}}
	knobs := [][]option{
		{plain, {3, func(d *policy.Dialect) { d.SKEncoding = policy.SKC1C3C2 }}, {6, func(d *policy.Dialect) { d.SKEncoding = policy.SKC1C2C3 }}},
		{plain, {4, func(d *policy.Dialect) { d.SigRaw = true }}},
		{plain, {3, func(d *policy.Dialect) { d.SigNoByte = true }}},
		{plain, {3, func(d *policy.Dialect) { d.FieldPad = policy.PadPKCS7 }}, {7, func(d *policy.Dialect) { d.FieldPad = policy.PadZeros }}},
		{plain, {4, func(d *policy.Dialect) { d.IDZeroIV = true }}},
	}
	if !bytes.Equal(own.Sign.Subject, own.Enc.Subject) {
		knobs = append(knobs, []option{plain, {3, func(d *policy.Dialect) { d.IDCertEnc = true }}})
	}
	if order {
		knobs = append(knobs, []option{plain, {5, func(d *policy.Dialect) { d.EncFirst = !d.EncFirst }}})
	}
	if len(users) > 0 {
		list := []option{plain}
		for _, user := range users {
			if user != base.SM2ID {
				list = append(list, option{2, func(d *policy.Dialect) { d.SM2ID = user }})
			}
		}
		knobs = append(knobs, list)
	}
	out := []combo{{0, base}}
	for _, options := range knobs {
		var next []combo
		for _, c := range out {
			for _, o := range options {
				d := c.dialect
				o.turn(&d)
				next = append(next, combo{c.cost + o.cost, d})
			}
		}
		out = next
	}
	for i, c := range out {
		if c.dialect.SKEncoding == policy.SKC1C3C2 && c.dialect.SigRaw {
			out[i].cost -= 5
		}
	}
	slices.SortStableFunc(out, func(a, b combo) int { return a.cost - b.cost })
	return out
}

// quickForms are all forms of quick mode, the likelier first.
func quickForms(d policy.Dialect) (out []policy.Dialect) {
	for _, esp := range []policy.ESPNumbers{policy.ESPBoth, policy.ESPOnly127, policy.ESPOnly129} {
		for _, hash := range []policy.HashForm{policy.HashRFC2409, policy.HashStdFull, policy.HashStdBody} {
			d.QMHash, d.ESPSM4 = hash, esp
			out = append(out, d)
		}
	}
	return out
}
