package foreign

import "yumen/policy"

// huawei writes VRP as USG firewalls and AR routers have it (command references
// IKE, IPsec, PKI and ACL).
func (w *writer) huawei() {
	w.acl("acl number %d")
	w.add("#")
	if w.entity(w.name) {
		w.add("#")
		w.add("pki realm %s", w.name)
		w.add(" entity %s", w.name)
		w.add("#")
	} else {
		w.add("pki realm %s", w.name)
		w.add("#")
	}
	w.huaweiIKE()
	w.huaweiIPsec()
	w.remark("authentication-method 须为国密数字信封（SM2）。公开资料只见于 UDG（Digital_envelope）和华为云 VPN（digital-envelope-v2），USG、AR 上的关键字是推断，请用 ? 核对；不要选 hss-de，那是另一种信封。",
		"authentication-method must be the national envelope with SM2. It is published for UDG (Digital_envelope) and Huawei Cloud VPN (digital-envelope-v2); the word for USG and AR is inferred: check it with ?. Not hss-de, which is another envelope.")
	w.remark("华为国密仅支持 IKEv1 主模式；公开手册（UDG）注明国密下不支持 NAT 穿越和 ESN，两端之间请勿有 NAT。",
		"The GM suites of Huawei know main mode of IKEv1 only; the public manual (UDG) has neither NAT traversal nor ESN with them: no NAT may stand between.")
	w.remark("双证书的绑定方式随型号而异（pki realm，或 certificate local-filename 及加密证书的对应命令），以设备为准。",
		"How both certificates are bound differs by model (pki realm, or certificate local-filename and its counterpart for encryption).")
	w.switchRemark()
	w.remark("remote-id 中 DN 的书写形式以设备为准，须与我方签名证书主体一致。",
		"The form of a DN in remote-id is that of your box; it must say the subject of our signing certificate.")
}

func (w *writer) huaweiIKE() {
	w.add("ike proposal %d", proposalNumber)
	w.add(" authentication-method digital-envelope")
	w.add(" encryption-algorithm sm4")
	w.add(" authentication-algorithm sm3")
	w.add(" sa duration %d", seconds(w.Peer.IKELifetime))
	w.add("#")
	w.add("ike peer %s", w.name)
	w.add(" undo version 2")
	w.add(" exchange-mode main")
	w.add(" ike-proposal %d", proposalNumber)
	w.add(" pki realm %s", w.name)
	if id := w.Peer.Dialect.PeerID; id != "" {
		w.add(" local-id-type fqdn")
		w.add(" local-id %s", id)
	} else {
		w.add(" local-id-type dn")
	}
	kind, id := w.id()
	if kind == policy.IDName {
		w.add(" remote-id-type dn")
	} else {
		w.add(" remote-id-type %v", kind)
	}
	w.add(" remote-id %q", id)
	w.add(" remote-address %s", w.our())
	if w.Peer.Dialect.NoNATT || w.Peer.Encap == policy.EncapOff {
		w.add(" undo nat traversal")
	} else {
		w.add(" nat traversal")
	}
	if d := w.Peer.DPD; d.Interval > 0 {
		order := "seq-hash-notify"
		if w.Peer.Dialect.DPDFirst {
			order = "seq-notify-hash"
		}
		w.add(" dpd type periodic")
		w.add(" dpd idle-time %d", seconds(d.Interval))
		w.add(" dpd retransmit-interval 5")
		w.add(" dpd retry-limit %d", d.Tries)
		w.add(" dpd msg %s", order)
	}
	w.add("#")
}

func (w *writer) huaweiIPsec() {
	w.add("ipsec proposal %s", w.name)
	w.add(" encapsulation-mode tunnel")
	w.add(" transform esp")
	w.add(" esp encryption-algorithm sm4")
	w.add(" esp authentication-algorithm sm3")
	w.add("#")
	list := ""
	if w.Tunnel.Selector.Local.First.Is6() {
		list = "ipv6 "
	}
	w.add("ipsec policy yumen %d isakmp", sequence)
	w.add(" alias %s", w.Tunnel.Name)
	w.add(" security acl %s%d", list, aclNumber)
	w.add(" ike-peer %s", w.name)
	w.add(" proposal %s", w.name)
	if a := w.their(); a != "" {
		w.add(" tunnel local %s", a)
	}
	w.add(" sa duration time-based %d", seconds(w.Tunnel.Lifetime))
	if kb := w.Tunnel.Bytes / 1024; kb > 0 {
		w.add(" sa duration traffic-based %d", kb)
	}
	w.add("#")
	w.add("interface %s", w.wan())
	w.add(" ipsec policy yumen")
	if w.Tunnel.ESN {
		w.remark("我方启用了 ESN，华为国密不支持；我方会协商为不使用 ESN。", "We offer ESN, which Huawei has not with GM suites; it will be negotiated away.")
	}
}
