package foreign

import (
	"fmt"

	"yumen/policy"
)

// hillstone writes StoneOS (CLI user guide, chapter IPsec).
func (w *writer) hillstone() {
	w.hillstonePhase1()
	w.hillstonePhase2()
	w.remark("国密认证方式在部分版本中显示为 GM-DE；若无 authentication gm-de，请选择带 SM2 数字信封的方式。除 protocol-standard、信任域和 ID 类型外，写法凭经验给出，请用 ? 核对。",
		"Some versions show the authentication as GM-DE; without authentication gm-de choose the one with the SM2 envelope. But for protocol-standard, trust domains and types of ID the spelling is from memory: check it with ?.")
	w.remark("protocol-standard guomi 的版本两端必须一致；v1.0 只有一张证书，且发起方须预先导入响应方证书。",
		"The version of protocol-standard guomi must be the same at both ends; v1.0 has one certificate, and the initiator needs that of the responder beforehand.")
	w.remark("NAT 穿越默认关闭，需要时两端都要开启。", "NAT traversal is off by default: if it is needed, switch it on at both ends.")
	w.remark("另需放行安全策略（隧道接口所在安全域与内网之间）。", "Security policies must let the traffic pass between the zone of the tunnel interface and your network.")
}

func (w *writer) hillstonePhase1() {
	v1 := w.Peer.Dialect.GMVersion0
	trust := w.fill("TRUST-DOMAIN-SIGN", "贵方签名证书的 PKI 信任域名", "your PKI trust domain with the signing certificate")
	w.add("isakmp proposal %q", w.name)
	w.add("  authentication gm-de")
	w.add("  encryption sm4")
	w.add("  hash sm3")
	w.add("  lifetime %d", seconds(w.Peer.IKELifetime))
	w.add("exit")
	w.add("isakmp peer %q", w.name)
	if v1 {
		w.add("  protocol-standard guomi v1.0")
	} else {
		w.add("  protocol-standard guomi v1.1")
	}
	w.add("  isakmp-proposal %q", w.name)
	w.add("  type static")
	w.add("  peer %s", w.our())
	w.add("  interface %s", w.wan())
	if id := w.Peer.Dialect.PeerID; id != "" {
		w.add("  local-id fqdn %q", id)
	} else {
		w.add("  local-id asn1dn %q", w.theirSubject())
	}
	w.add("  peer-id %s", w.hillstoneID())
	w.add("  trust-domain %q", trust)
	if v1 {
		w.add("  remote-trust-domain %q", w.fill("TRUST-DOMAIN-YUMEN", "导入了本端（玉门）证书的信任域名", "the trust domain into which you imported our certificate"))
	} else {
		w.add("  trust-domain-enc %q", w.fill("TRUST-DOMAIN-ENC", "贵方加密证书的 PKI 信任域名", "your PKI trust domain with the encryption certificate"))
	}
	if d := w.Peer.DPD; d.Interval > 0 {
		w.add("  dpd interval %d retry %d", min(seconds(d.Interval), 10), d.Tries)
	}
	if !w.Peer.Dialect.NoNATT && w.Peer.Encap != policy.EncapOff {
		w.add("  nat-traversal")
	}
	w.add("exit")
}

func (w *writer) theirSubject() string {
	if s := w.Peer.Identity.Subject; s != "" {
		return s
	}
	if s := w.Peer.Identity.SignSubject; s != "" {
		return s
	}
	return w.fill("YOUR-SIGN-SUBJECT", "贵方签名证书主体名", "the subject of your signing certificate")
}

func (w *writer) hillstoneID() string {
	switch kind, id := w.id(); kind {
	case policy.IDName:
		return fmt.Sprintf("asn1dn %q", id)
	case policy.IDAddress:
		return "ip " + id
	case policy.IDUserFQDN:
		return fmt.Sprintf("u-fqdn %q", id)
	default:
		return fmt.Sprintf("%v %q", kind, id)
	}
}

func (w *writer) hillstonePhase2() {
	s := w.Tunnel.Selector
	w.add("ipsec proposal %q", w.name)
	w.add("  protocol esp")
	w.add("  encryption sm4")
	w.add("  hash sm3")
	w.add("  lifetime %d", seconds(w.Tunnel.Lifetime))
	if kb := w.Tunnel.Bytes / 1024; kb > 0 {
		w.add("  lifesize %d", kb)
	}
	w.add("exit")
	w.add("tunnel ipsec %q auto", w.name)
	w.add("  mode tunnel")
	w.add("  isakmp-peer %q", w.name)
	w.add("  ipsec-proposal %q", w.name)
	for _, from := range s.Remote.Prefixes() {
		for _, to := range s.Local.Prefixes() {
			w.add("  id local %s remote %s service %q", from, to, "Any")
		}
	}
	w.add("  auto-connect")
	w.add("exit")
	w.add("interface %s", w.fill("TUNNEL-INTERFACE", "贵方空闲的隧道接口，如 tunnel1", "a free tunnel interface of yours, as tunnel1"))
	w.add("  zone %q", w.fill("ZONE", "隧道接口所属安全域，如 VPNHub", "the zone of the tunnel interface, as VPNHub"))
	w.add("  tunnel ipsec %q", w.name)
	w.add("exit")
	w.add("ip vrouter trust-vr")
	for _, to := range s.Local.Prefixes() {
		w.add("  %s %s %s", map[bool]string{true: "ipv6 route", false: "ip route"}[to.Addr().Is6()], to, w.fill("TUNNEL-INTERFACE", "", ""))
	}
	w.add("exit")
	if s.Protocol != 0 {
		w.remark("选择符限定了协议或端口，请把 service \"Any\" 换成相应服务："+s.Reverse().String(),
			"The selector has a protocol or port: write the service for it instead of \"Any\": "+s.Reverse().String())
	}
}
