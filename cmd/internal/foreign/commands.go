package foreign

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"yumen/policy"
)

// Link is one tunnel as our policy has it. Commands turns it round.
type Link struct {
	Peer   policy.Peer // the far end
	Tunnel policy.Tunnel
	// Our is the address at which the far end reaches us; not valid: not known.
	Our netip.Addr
	// OurSign and OurEnc are the subjects of our certificates (RFC 4514).
	OurSign, OurEnc string
}

// Text says the same in both languages of a sheet.
type Text struct{ ZH, EN string }

// Script is what the engineer at the far end pastes into his box.
type Script struct {
	Lines []string
	// Fill are the words in angle brackets that only he knows, with what they are.
	Fill []Fill
	// Remarks are what he must check, because the box's manual leaves it open, or
	// because no command is known for it.
	Remarks []Text
}

// Fill is a placeholder of a Script. Written as it stands, a box refuses it.
type Fill struct {
	Word string
	What Text
}

// Commands writes the configuration of a box of v at the far end of l. Secrets do
// not enter it: keys and certificates are imported on that box.
func Commands(v Vendor, l Link) (Script, error) {
	if word := l.Peer.NonGM(); word != "" {
		return Script{}, fmt.Errorf("peer %q: profile %s is not GB/T 36968, and no commands are written for it", l.Peer.Name, word)
	}
	w := &writer{Link: l, v: v, name: objectName(v, l.Tunnel.Name)}
	switch v {
	case H3C:
		w.h3c()
	case Huawei:
		w.huawei()
	case Hillstone:
		w.hillstone()
	default:
		return Script{}, fmt.Errorf("no commands of %v are known", v)
	}
	w.unsaid()
	return w.Script, nil
}

// writer collects a script.
type writer struct {
	Script
	Link
	v    Vendor
	name string // of every object on that box
}

// Numbers of the objects on the far box, high enough to be free on most.
const (
	aclNumber      = 3901
	proposalNumber = 901
	sequence       = 901
)

func (w *writer) add(format string, args ...any) {
	w.Lines = append(w.Lines, fmt.Sprintf(format, args...))
}

func (w *writer) remark(zh, en string) { w.Remarks = append(w.Remarks, Text{zh, en}) }

// fill notes a placeholder and returns it.
func (w *writer) fill(word, zh, en string) string {
	word = "<" + word + ">"
	for _, f := range w.Fill {
		if f.Word == word {
			return word
		}
	}
	w.Fill = append(w.Fill, Fill{word, Text{zh, en}})
	return word
}

// objectName fits a tunnel's name to a box.
func objectName(v Vendor, s string) string {
	s = strings.Map(func(c rune) rune {
		if c == '.' {
			return '-'
		}
		return c
	}, cleanName(s))
	limit := 31
	if v == Huawei {
		limit = 15
	}
	return strings.TrimRight(s[:min(len(s), limit)], "-")
}

// six reports whether the outer packets are IPv6.
func (w *writer) six() bool { return w.Our.Is6() || w.Peer.Remote.Addr.Is6() }

// our is the address that the far end calls.
func (w *writer) our() string {
	if w.Our.IsValid() {
		return w.Our.String()
	}
	return w.fill("YUMEN-ADDRESS", "本端（玉门网关）的公网地址，我方配置未写明，请向我方索取", "the address of our gateway, which our configuration does not fix: ask us")
}

// their is the far end's own address; empty: the box takes that of the interface.
func (w *writer) their() string {
	if w.Peer.Remote.Addr.IsValid() {
		return w.Peer.Remote.Addr.String()
	}
	return ""
}

func (w *writer) wan() string {
	return w.fill("WAN-INTERFACE", "贵方公网接口名", "your interface to the outside")
}

func seconds(d time.Duration) int { return int(d / time.Second) }

// rules are the access-list rules of the far end: from there to here.
func (w *writer) rules() {
	s := w.Tunnel.Selector
	proto := "ip"
	if s.Local.First.Is6() {
		proto = "ipv6"
	}
	if s.Protocol != 0 {
		proto = policy.ProtocolName(s.Protocol)
	}
	n := 5
	for _, from := range s.Remote.Prefixes() {
		for _, to := range s.Local.Prefixes() {
			text := fmt.Sprintf(" rule %d permit %s source %s%s destination %s%s", n, proto,
				prefix(from), port("source", s.RemotePort), prefix(to), port("destination", s.LocalPort))
			w.add("%s", text)
			n += 5
		}
	}
	if n > 10 {
		w.remark("选择符不是单个网段，拆成了多条规则；每条规则各协商一对 SA，我方须相应拆分隧道。",
			"The selector is no single network and became several rules, each of which is negotiated by itself: we must split our tunnel likewise.")
	}
}

func port(end string, p uint16) string {
	if p == 0 {
		return ""
	}
	return fmt.Sprintf(" %s-port eq %d", end, p)
}

// prefix writes a network as access lists do: with a wildcard mask for IPv4.
func prefix(p netip.Prefix) string {
	if p.Addr().Is6() {
		return p.String()
	}
	mask := net.CIDRMask(p.Bits(), 32)
	for i := range mask {
		mask[i] = ^mask[i]
	}
	if p.Bits() == 32 {
		return p.Addr().String() + " 0"
	}
	return p.Addr().String() + " " + net.IP(mask).String()
}

// acl opens the access list.
func (w *writer) acl(open string) {
	if w.Tunnel.Selector.Local.First.Is6() {
		open = strings.Replace(open, "acl ", "acl ipv6 ", 1)
	}
	w.add(open, aclNumber)
	w.rules()
}

// entity writes the subject of their certificates, where we know it.
func (w *writer) entity(name string) bool {
	words := map[string]string{"CN": "common-name", "OU": "organization-unit", "O": "organization", "L": "locality",
		"ST": "state", "C": "country"}
	var out []string
	seen := map[string]bool{}
	for _, part := range splitDN(w.Peer.Identity.Subject) {
		key, value, _ := strings.Cut(part, "=")
		word, known := words[strings.ToUpper(strings.TrimSpace(key))]
		if !known || seen[word] || strings.ContainsAny(value, `\"? `) {
			out = nil
			break
		}
		seen[word] = true
		out = append(out, fmt.Sprintf(" %s %s", word, value))
	}
	if len(out) == 0 {
		return false
	}
	w.add("pki entity %s", name)
	w.Lines = append(w.Lines, out...)
	return true
}

// splitDN cuts a name at its commas, except escaped ones.
func splitDN(s string) (parts []string) {
	start := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case ',':
			parts, start = append(parts, s[start:i]), i+1
		}
	}
	if start < len(s) {
		parts = append(parts, s[start:])
	}
	return parts
}

// id is what we call ourselves in messages 3 and 4.
func (w *writer) id() (policy.IDType, string) {
	d := w.Peer.Dialect
	switch {
	case d.IDType == policy.IDAddress && d.ID == "":
		return d.IDType, w.our()
	case d.IDType == policy.IDName && d.IDCertEnc:
		return d.IDType, w.OurEnc
	case d.IDType == policy.IDName:
		return d.IDType, w.OurSign
	}
	return d.IDType, d.ID
}

// commonName is the CN of a subject, or the whole of it.
func commonName(subject string) string {
	for _, part := range splitDN(subject) {
		if key, value, ok := strings.Cut(part, "="); ok && strings.EqualFold(strings.TrimSpace(key), "CN") {
			return value
		}
	}
	return subject
}

// unsaid tells the knobs of the peer that none of the commands can bring about.
func (w *writer) unsaid() {
	base := policy.H3C
	switch {
	case w.v == H3C && w.Peer.Dialect.IKESM4 == policy.SM4Draft:
		base = policy.H3CDraft
	case w.v == Huawei:
		base = policy.Huawei
	case w.v == Hillstone && w.Peer.Dialect.GMVersion0:
		base = policy.Hillstone10
	case w.v == Hillstone:
		base = policy.Hillstone11
	}
	said := map[string]bool{"nat_t": w.v != H3C, "dpd_order": w.v == Huawei, "id_type": true, "id": true, "peer_id": true}
	var left []string
	for _, k := range w.Peer.Dialect.Against(base.Dialect()) {
		if !said[k.Name] {
			left = append(left, k.String())
		}
	}
	if len(left) > 0 {
		list := strings.Join(left, ", ")
		w.remark("我方对该对端另有下列设置，贵方设备无对应命令，请确认其行为一致："+list,
			"Our entry for you also says the following, for which no command is known; see that your box does so: "+list)
	}
	if bits := w.Tunnel.ICVBits; bits != 96 && bits != policy.ICVAuto && w.Tunnel.Suites[0] == policy.SM4CBCHMACSM3 {
		zh, en := "该厂商手册只写明 96 位", "the maker's manual knows 96 only"
		if w.v == Huawei {
			zh, en = "该厂商手册只对 UDG、UNC 写明可改（CUSTOMPARA）", "the maker's manual knows others than 96 for UDG and UNC only (CUSTOMPARA)"
		}
		w.remark(fmt.Sprintf("HMAC-SM3 的 ICV 须为 %d 位；%s，若不能更改，请我方改为 icv_bits: 96。", bits, zh),
			fmt.Sprintf("The ICV of HMAC-SM3 must have %d bits; %s: if it cannot be changed, we set icv_bits: 96.", bits, en))
	}
	if w.Tunnel.Suites[0] != policy.SM4CBCHMACSM3 {
		w.remark("我方首选 "+w.Tunnel.Suites[0].String()+"，下列命令为 SM4-CBC + HMAC-SM3；我方须在 suites 中列入 sm4cbc-hmacsm3。",
			"We prefer "+w.Tunnel.Suites[0].String()+"; the commands are for SM4-CBC with HMAC-SM3: our tunnel must list sm4cbc-hmacsm3.")
	}
	if w.v != Hillstone {
		w.remark(fmt.Sprintf("对象编号（acl %d、proposal %d、顺序号 %d）只是示例，若已占用请改用空闲编号。", aclNumber, proposalNumber, sequence),
			fmt.Sprintf("The numbers (acl %d, proposal %d, sequence %d) are examples: use free ones.", aclNumber, proposalNumber, sequence))
	}
	w.remark("双证书与私钥在贵方设备上生成或导入，我方不经手。两张证书须由我方信任的 CA 签发。",
		"Both certificates and their keys are made on or imported into your box; we never see the keys. The CA must be the one that we trust.")
}
