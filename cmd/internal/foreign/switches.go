package foreign

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"yumen/policy"
)

// Gateways of Huawei's mobile core (UDG, UNC) have the differences of GB/T 36968 as
// bits of one number, CUSTOMPARA of an IKE peer, 0 by default (MML command reference
// UDG and UNC 20.15.2, MOD IKEPEER). What a firewall or a router has in its place is
// not published.

// switchBit is one of them: which knob of ours it is about, and the values of that knob with
// which it goes when it is clear and when it is set.
type switchBit struct {
	number     int
	knob       string // empty: none of ours
	clear, set string // values of the knob, or what the box then does
	open       Text   // what is not published of it
}

func switchBits() []switchBit {
	return []switchBit{
		{0, "transform_id", "check", "ignore", Text{}},
		{1, "key_length", "refuse", "omit", Text{}},
		{2, "dpd_spi", "none", "cookies", Text{}},
		{3, "", "HASH of phase 1 by RFC 2409", "HASH of phase 1 by the standard", Text{
			"第一阶段 HASH 的国密算法除 HASHr 中的 SA（hashr_sa）外未公开，我方按 RFC 2409 计算，请保持为 0",
			"what the standard has other than RFC 2409, beyond the SA in HASHr (hashr_sa), is not published; ours is that of RFC 2409: clear it"}},
		{4, "qm_hash", "rfc2409", "std-full", Text{
			"国密算法覆盖整个载荷还是只覆盖载荷体未公开：std-full 不通时试 std-body",
			"whether it then covers whole payloads or bodies is not published: if std-full fails try std-body"}},
		{5, "initiate", "", "", Text{"bit 5 至 8 决定由哪一端发起，取值含义未公开", "bits 5 to 8 say which end begins; what their values mean is not published"}},
		{9, "esp_icv_bits", "96", "128", Text{}}, // with bit 10
		{10, "esp_icv_bits", "96", "256", Text{}},
	}
}

// bitNumber is one of switchBits.
func bitNumber(n int) switchBit {
	i := slices.IndexFunc(switchBits(), func(b switchBit) bool { return b.number == n })
	return switchBits()[i]
}

// icvBits is the length of HMAC-SM3 with a mask: with neither bit or both it is 96.
func icvBits(mask uint64) string {
	switch mask >> 9 & 3 {
	case 1:
		return "128"
	case 2:
		return "256"
	}
	return "96"
}

// maskFor is the number whose bits go with a dialect and an ICV length.
func maskFor(d policy.Dialect, icv int) (mask uint64) {
	words := map[string]string{}
	for _, k := range d.Words() {
		words[k.Name] = k.Value
	}
	words["esp_icv_bits"] = policy.ICVWord(icv)
	for _, b := range switchBits() {
		on := b.set != "" && words[b.knob] == b.set
		switch b.knob {
		case "transform_id": // ours is the one that they check for
			on = false
		case "key_length":
			on = words[b.knob] == "send"
		case "qm_hash":
			on = words[b.knob] != b.clear
		}
		if on {
			mask |= 1 << b.number
		}
	}
	return mask
}

// numbers lists the bits of a mask that are set.
func numbers(mask uint64) string {
	var out []string
	for n := range 64 {
		if mask>>n&1 == 1 {
			out = append(out, strconv.Itoa(n))
		}
	}
	return strings.Join(out, ", ")
}

// explained says bit by bit what a mask makes of the box, in the knobs of our entry.
func explained(mask uint64) string {
	var out []string
	for _, b := range switchBits() {
		state, value := "clear", b.clear
		if mask>>b.number&1 == 1 {
			state, value = "set", b.set
		}
		switch b.knob {
		case "initiate":
			if mask>>5&15 != 0 {
				out = append(out, b.open.EN)
			}
			continue
		case "esp_icv_bits":
			if b.number == 9 {
				out = append(out, "bits 9 and 10: esp_icv_bits: "+icvBits(mask))
			}
			continue
		case "":
		default:
			value = b.knob + ": " + value
		}
		if state == "set" && b.open.EN != "" {
			value += " (" + b.open.EN + ")"
		}
		out = append(out, fmt.Sprintf("bit %d %s: %s", b.number, state, value))
	}
	if rest := mask >> 11 << 11; rest != 0 {
		out = append(out, "bits "+numbers(rest)+": not published")
	}
	return strings.Join(out, "; ")
}

var customPara = regexp.MustCompile(`(?i)\bcustompara\s*=\s*"?(\d{1,10})\b`)

// switches explains the masks of a dump. No knob is set by them: which end's form a bit
// is, and whether the number is the box's last, nobody can see in one line.
func (im *importer) switches() {
	for _, v := range im.dump.views {
		for _, l := range append([]*line{v.open}, v.lines...) {
			m := customPara.FindStringSubmatch(l.text)
			if m == nil || l.used {
				continue
			}
			mask, err := strconv.ParseUint(m[1], 10, 32)
			if err != nil {
				continue
			}
			l.reason = explained(mask) + "; write what differs into dialect:"
			l.clash = mask>>3&1 == 1
		}
	}
}

// switchRemark says which bits go with our entry, on boxes that have them.
func (w *writer) switchRemark() {
	icv := w.Tunnel.ICVBits
	if icv == policy.ICVAuto {
		icv = 96
	}
	mask := maskFor(w.Peer.Dialect, icv)
	list := numbers(mask)
	zh, en := "其中置 1 的是 bit "+list, "bits "+list+" set"
	if mask == 0 {
		zh, en = "各位均为 0", "no bit set"
	}
	hash, first := bitNumber(3).open, bitNumber(5).open
	w.remark(fmt.Sprintf("UDG、UNC 的这些差异由 MOD IKEPEER 的参数 CUSTOMPARA 控制，与我方配置对应的值为 %d（%s，其余为 0）；USG、AR 的对应设置未公开。bit 3：%s。%s。",
		mask, zh, hash.ZH, first.ZH),
		fmt.Sprintf("On UDG and UNC these are bits of CUSTOMPARA of MOD IKEPEER: %d goes with our entry (%s, the others clear). What USG and AR have in its place is not published. Bit 3: %s. The %s.",
			mask, en, hash.EN, first.EN))
	if w.Peer.Dialect.QMHash != policy.HashRFC2409 {
		w.remark("bit 4："+bitNumber(4).open.ZH+"。", "Bit 4: "+bitNumber(4).open.EN+".")
	}
}
