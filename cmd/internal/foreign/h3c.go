package foreign

import "yumen/policy"

// h3c writes Comware 7 (command references IKE, IPsec, PKI and ACL).
func (w *writer) h3c() {
	sm4 := "standard"
	if w.Peer.Dialect.IKESM4 == policy.SM4Draft {
		sm4 = "draft"
	}
	w.add("ike gm-main sm4-version %s", sm4)
	w.add("#")
	w.acl("acl advanced %d")
	w.add("#")
	w.h3cPKI()
	w.h3cIKE()
	w.h3cIPsec()
	w.remark("sm4-version：standard 对应 129，draft 对应 127（推断，手册未写明编号）。若第一阶段提议被拒，换另一个值再试，并通知我方。",
		"sm4-version: standard is taken to be 129 and draft 127, which the manual does not say. If the first proposal is refused try the other, and tell us.")
	w.remark("ike compatible-gm-main enable 与 ike compatible-sm4 enable 的作用未见公开说明，默认不要配置；消息 3、4 失败时可试。",
		"The effect of ike compatible-gm-main enable and ike compatible-sm4 enable is not published: leave them out, and try them if messages 3 and 4 fail.")
	w.remark("Comware 的 IKEv1 按对端的厂商标识自动启用 NAT 穿越，无需命令；gm-main 下是否生效请以设备为准。",
		"Comware needs no command for NAT traversal in IKEv1; whether it works together with gm-main is not published.")
	w.remark("dpd 的 retry 是两次探测之间的秒数，不是次数。", "retry of dpd is the seconds between two tries, not their number.")
}

func (w *writer) h3cPKI() {
	w.remark("pki domain 中公钥的写法随型号而异（SM2 双密钥：签名、加密各一）；导入 CA 与两张证书用 pki import。",
		"How a pki domain names SM2 keys (one to sign, one to encrypt) differs by model; pki import takes the CA and both certificates.")
	known := w.entity(w.name)
	if known {
		w.add("#")
	}
	w.add("pki domain %s", w.name)
	if known {
		w.add(" certificate request entity %s", w.name)
	}
	w.add(" public-key sm2 signature name %s encryption name %s",
		w.fill("SIGN-KEY", "贵方 SM2 签名密钥对名", "the name of your SM2 signing key pair"),
		w.fill("ENC-KEY", "贵方 SM2 加密密钥对名", "the name of your SM2 encryption key pair"))
	w.remark("PKI 域默认检查 CRL：请导入我方 CA 的 CRL；没有 CRL 时须在 pki domain 中 undo crl check enable。",
		"A pki domain checks CRLs by default: import that of our CA; where there is none, undo crl check enable in the pki domain.")
	w.add("#")
	if kind, _ := w.id(); kind == policy.IDName {
		_, subject := w.id()
		w.add("pki certificate attribute-group %s", w.name)
		w.add(" attribute 1 subject-name dn ctn %s", commonName(subject))
		w.add("#")
		w.add("pki certificate access-control-policy %s", w.name)
		w.add(" rule 1 permit %s", w.name)
		w.add("#")
	}
}

func (w *writer) h3cIKE() {
	w.add("ike proposal %d", proposalNumber)
	w.add(" authentication-method sm2-de")
	w.add(" encryption-algorithm sm4-cbc")
	w.add(" authentication-algorithm sm3")
	w.add(" sa duration %d", seconds(w.Peer.IKELifetime))
	w.add("#")
	w.add("ike profile %s", w.name)
	w.add(" certificate domain %s", w.name)
	w.add(" exchange-mode gm-main")
	w.add(" proposal %d", proposalNumber)
	if d := w.Peer.DPD; d.Interval > 0 {
		w.add(" dpd interval %d retry 5 periodic", min(seconds(d.Interval), 300))
	}
	if id := w.Peer.Dialect.PeerID; id != "" {
		w.add(" local-identity fqdn %s", id)
	} else {
		w.add(" local-identity dn")
	}
	switch kind, id := w.id(); kind {
	case policy.IDName:
		w.add(" match remote certificate %s", w.name)
	case policy.IDAddress:
		w.add(" match remote identity address %s", h3cSix(w.six())+id)
	default:
		w.add(" match remote identity %v %s", kind, id)
	}
	w.add("#")
}

func h3cSix(six bool) string {
	if six {
		return "ipv6 "
	}
	return ""
}

func (w *writer) h3cIPsec() {
	w.add("ipsec transform-set %s", w.name)
	w.add(" encapsulation-mode tunnel")
	w.add(" protocol esp")
	w.add(" esp encryption-algorithm sm4-cbc")
	w.add(" esp authentication-algorithm sm3")
	if w.Tunnel.ESN {
		w.add(" esn enable both")
	}
	w.add("#")
	kind, list := "policy", ""
	if w.six() {
		kind = "ipv6-policy"
	}
	if w.Tunnel.Selector.Local.First.Is6() {
		list = "ipv6 "
	}
	w.add("ipsec %s yumen %d isakmp", kind, sequence)
	w.add(" description %s", w.Tunnel.Name)
	w.add(" transform-set %s", w.name)
	w.add(" security acl %s%d", list, aclNumber)
	if a := w.their(); a != "" {
		w.add(" local-address %s%s", h3cSix(w.six()), a)
	}
	w.add(" remote-address %s%s", h3cSix(w.six()), w.our())
	w.add(" ike-profile %s", w.name)
	w.add(" sa duration time-based %d", seconds(w.Tunnel.Lifetime))
	if kb := w.Tunnel.Bytes / 1024; kb > 0 {
		w.add(" sa duration traffic-based %d", min(max(kb, 2560), 4294967295))
	}
	w.add("#")
	w.add("interface %s", w.wan())
	w.add(" ipsec apply %s yumen", kind)
}
