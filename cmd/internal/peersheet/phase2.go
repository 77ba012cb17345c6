package peersheet

import (
	"fmt"
	"net/netip"
	"strings"

	"yumen/cmd/internal/foreign"
	"yumen/esp"
	"yumen/policy"
)

func (f *Facts) phaseTwo() section {
	s := section{title: say("第二阶段（IPsec SA，会话密钥）", "Phase 2 (IPsec SA, session key)")}
	t, d := f.Tunnel, f.Peer.Dialect
	mirrored := t.Selector.Reverse()
	s.add(same, say("本地网段（贵方）", "local network (yours)"), say(mirrored.Local.String()))
	s.add(same, say("对端网段（我方）", "remote network (ours)"), say(mirrored.Remote.String()))
	ports := policy.ProtocolName(mirrored.Protocol)
	if mirrored.HasPorts() {
		ports += fmt.Sprintf(" %s:%s", port(mirrored.LocalPort), port(mirrored.RemotePort))
	}
	s.add(same, say("协议 本地端口:对端端口", "protocol local:remote port"), say(ports))
	s.add(same, say("ID 载荷", "ID payloads"), say("子网（4 / 6）或地址（1 / 5），必须成对", "subnet (4 / 6) or address (1 / 5), always both"))
	s.add(same, say("安全协议与模式", "protocol and mode"), say("ESP = 3，隧道模式 = 1（UDP 封装时 3）", "ESP = 3, tunnel mode = 1 (3 in UDP)"))
	for _, suite := range t.Suites {
		s.suite(suite, t, d)
	}
	s.add(same, say("快速模式 HASH", "HASH of quick mode"), say(map[policy.HashForm]string{policy.HashRFC2409: "RFC 2409",
		policy.HashStdFull: "GB/T 36968, whole payloads", policy.HashStdBody: "GB/T 36968, bodies"}[d.QMHash]))
	s.add(same, say("PFS"), say("无，必须关闭", "none: switch it off"))
	esn := say("不使用", "no")
	if t.ESN {
		esn = say("优先使用（属性 11 = 1），不支持时协商为不使用", "wanted (attribute 11 = 1), negotiated away where it is not known")
	}
	s.add(know, say("扩展序列号 ESN", "extended sequence numbers"), esn)
	s.add(set, say("属性 1/2 生存期（取短者）", "attributes 1/2, lifetime (lower counts)"), seconds(t.Lifetime))
	amount := say("不限", "no limit")
	if t.Bytes > 0 {
		amount = say(fmt.Sprintf("%d KB", t.Bytes/1024))
	}
	s.add(know, say("流量生存期", "lifetime in traffic"), amount)
	s.add(know, say("抗重放窗口（我方）", "replay window (here)"), say(fmt.Sprint(t.Window)))
	return s
}

func port(p uint16) string {
	if p == 0 {
		return "any"
	}
	return fmt.Sprint(p)
}

func icvWords(bits int) foreign.Text {
	if bits == policy.ICVAuto {
		return say("96、128 或 256，由首个报文识别", "96, 128 or 256: our end finds it out by the first packet")
	}
	return say(fmt.Sprintf("%d bit", bits))
}

func (s *section) suite(suite policy.Suite, t policy.Tunnel, d policy.Dialect) {
	if suite == policy.SM4GCM128 {
		s.add(same, say("ESP 变换", "ESP transform"), say(fmt.Sprintf("SM4-GCM = %d", d.GCMNumber())))
		s.add(same, say("　ICV 长度", "  ICV"), say("128 bit"))
		return
	}
	id := map[policy.ESPNumbers]foreign.Text{policy.ESPBoth: say("SM4-CBC = 129 或 127，两者都提议", "SM4-CBC = 129 or 127, both are offered"),
		policy.ESPOnly129: say("SM4-CBC = 129"), policy.ESPOnly127: say("SM4-CBC = 127")}[d.ESPSM4]
	s.add(same, say("ESP 变换", "ESP transform"), id)
	s.add(same, say("　属性 5 完整性算法", "  attribute 5, integrity"), say("HMAC-SM3 = 20"))
	s.add(same, say("　ICV 长度（不协商，须人工核对）", "  ICV (not negotiated: compare by hand)"), icvWords(t.ICVBits))
}

// inner is the largest inner packet in bytes.
func (f *Facts) inner(encap bool) int {
	to := f.Peer.Remote.Addr
	if !to.IsValid() {
		to = f.Our
	}
	if !to.IsValid() {
		to = netip.IPv6Unspecified() // the longer header, to be safe
	}
	c := esp.Child{Suite: f.Tunnel.Suites[0], ICVBits: f.Tunnel.ICVBits}
	c.Path.Remote, c.Path.Encap = netip.AddrPortFrom(to, f.NATPort), encap
	return esp.MaxInner(c, f.MTU)
}

func (f *Facts) transport() section {
	s := section{title: say("传输", "Transport")}
	p := f.Peer
	with := strings.ToUpper(f.Peer.Dialect.NATDHash.String())
	natt := say("开启（RFC 3947，NAT-D 用 "+with+"，位于消息 3、4 末尾；ESP in UDP 按 RFC 3948）",
		"on (RFC 3947, NAT-D by "+with+" at the end of messages 3 and 4; ESP in UDP by RFC 3948)")
	udp := p.Encap == policy.EncapForce
	switch {
	case p.Dialect.NoNATT || p.Encap == policy.EncapOff:
		natt = say("关闭，两端之间不得有 NAT", "off: no NAT may stand between")
	case udp:
		natt = say("强制 UDP 封装（NAT-D 用 "+with+"，我方填入随机值，使对端判定存在 NAT）",
			"on, ESP always in UDP (NAT-D by "+with+"; ours is made to differ, so that your box finds a NAT)")
	}
	s.add(same, say("NAT 穿越", "NAT traversal"), natt)
	dpd := say("关闭", "off")
	if p.DPD.Interval > 0 {
		n := int(p.DPD.Interval.Seconds())
		dpd = say(fmt.Sprintf("RFC 3706，每 %d 秒，%d 次", n, p.DPD.Tries), fmt.Sprintf("RFC 3706, every %d s, %d tries", n, p.DPD.Tries))
	}
	s.add(set, say("DPD"), dpd)
	if p.DPD.Interval > 0 {
		s.add(know, say("　DPD 通知的 SPI 与次序", "  SPI and order of its notification"), dpdForm(p.Dialect))
	}
	pieces := say("消息 3、4 各含两张证书，通常超过路径 MTU，以 IP 分片传输，沿途不得丢弃", "messages 3 and 4 hold two certificates each and mostly travel in IP fragments, which must pass")
	if p.Fragmentation {
		pieces = say("IKE 分片（载荷 132）在对端声明时使用，否则 IP 分片", "IKE fragments (payload 132) where announced, else IP fragments")
	}
	s.add(know, say("分片", "fragmentation"), pieces)
	inner := f.inner(udp)
	s.add(set, say("隧道内 MTU 建议", "MTU inside the tunnel"),
		say(fmt.Sprintf("不大于 %d 字节（外层 MTU %d）；经 NAT 时 %d", inner, f.MTU, f.inner(true)),
			fmt.Sprintf("at most %d bytes (path of %d); %d through NAT", inner, f.MTU, f.inner(true))))
	header := 40
	if f.Tunnel.Selector.Local.First.Is6() {
		header = 60
	}
	s.add(set, say("TCP MSS 建议", "TCP MSS"), say(fmt.Sprintf("%d；经 NAT 时 %d", inner-header, f.inner(true)-header),
		fmt.Sprintf("%d; %d through NAT", inner-header, f.inner(true)-header)))
	s.add(same, say("时钟", "clock"), say("双方用 NTP 校时；证书有效期容差 "+fmt.Sprintf("%d 秒", int(p.ClockSkew.Seconds())),
		fmt.Sprintf("NTP at both ends; certificates have %d s of tolerance here", int(p.ClockSkew.Seconds()))))
	return s
}

func dpdForm(d policy.Dialect) foreign.Text {
	spi, order := "16", say("先 HASH 后通知", "HASH first")
	if d.DPDNoSPI {
		spi = "0"
	}
	if d.DPDFirst {
		order = say("先通知后 HASH", "notification first")
	}
	return say("SPI "+spi+" 字节；"+order.ZH, "SPI of "+spi+" bytes; "+order.EN)
}

// deviations are the knobs of our entry, with where a profile has them from.
func (f *Facts) deviations() section {
	s := section{title: say("我方为贵方设置的互通开关", "Knobs that our entry for you has")}
	s.add(know, say("profile"), say(f.Peer.Profile.String()))
	sources := map[string]policy.Setting{}
	for _, one := range f.Peer.Profile.Settings() {
		sources[one.Name] = one
	}
	list := f.Peer.Dialect.Against(policy.Dialect{})
	for _, k := range list {
		value := k.Value
		if from, ok := sources[k.Name]; ok && from.Value == k.Value {
			value += fmt.Sprintf(" (%s, %v)", from.Source, from.Certainty)
		}
		s.add(know, say(k.Name), say(value))
	}
	if len(list) == 0 {
		s.add(know, say("与推荐形式的差异", "differences from the recommended form"), say("无", "none"))
	}
	accept := say("127/129、密文与签名编码、填充、HASH 形式的其他写法一律接受并记录",
		"other forms of 127/129, ciphertext, signature, padding and HASH are taken, and reported")
	if f.Peer.Dialect.Exact {
		accept = say("只接受上述形式", "nothing but the forms above")
	}
	s.add(know, say("我方接受", "we accept"), accept)
	return s
}

// wanted is what has to come back before the first test.
func (f *Facts) wanted() section {
	s := section{title: say("请贵方回填", "Please fill in and return")}
	blank := say(strings.Repeat("_", 24))
	for _, item := range []foreign.Text{
		say("设备厂商、型号、软件版本", "maker, model, software version"),
		say("ISAKMP 头版本；第一阶段 SM4 编号；ESP 编号", "header version; phase-1 SM4 number; ESP number"),
		say("HMAC-SM3 的 ICV 长度（96 / 128 / 256）", "ICV of HMAC-SM3 (96 / 128 / 256)"),
		say("ID 类型与字符串编码", "type of ID and of its strings"),
		say("CA 证书链与两张证书（不含私钥）", "CA chain and both certificates (never keys)"),
		say("是否有 NAT；NAT-D 杂凑算法", "NAT between us; hash of NAT-D"),
		say("两阶段生存期；DPD", "lifetimes of both phases; DPD"),
		say("快速模式 ID 是否为子网", "are IDs of quick mode subnets"),
		say("首次联调的抓包", "a capture of the first attempt"),
	} {
		s.add(ask, item, blank)
	}
	return s
}
