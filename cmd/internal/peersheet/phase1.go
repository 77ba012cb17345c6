package peersheet

import (
	"fmt"
	"strings"
	"time"

	"yumen/cmd/internal/foreign"
	"yumen/cmd/internal/pki"
	"yumen/policy"
)

// sections are the tables of a sheet in the order in which a handshake needs them.
func (f *Facts) sections() []section {
	return []section{f.addresses(), f.phaseOne(), f.forms(), f.identities(), f.certificates(), f.phaseTwo(),
		f.transport(), f.deviations(), f.wanted()}
}

func seconds(d time.Duration) foreign.Text {
	n := int64(d / time.Second)
	return say(fmt.Sprintf("%d 秒", n), fmt.Sprintf("%d s", n))
}

func (f *Facts) addresses() section {
	s := section{title: say("地址与端口", "Addresses and ports")}
	our := say("（我方配置未写明，请向我方索取）", "(not fixed in our configuration: ask us)")
	if f.Our.IsValid() {
		our = say(f.Our.String())
	}
	their := say(f.Peer.Remote.String())
	if f.Peer.Remote.Any {
		their = say("任意（我方只应答，须由贵方发起）", "any (we only answer: you must begin)")
	}
	s.add(set, say("本地网关地址（贵方）", "local gateway (yours)"), their)
	s.add(set, say("对端网关地址（我方）", "remote gateway (ours)"), our)
	s.add(same, say("IKE 端口", "IKE port"), say(fmt.Sprintf("UDP %d", f.IKEPort)))
	s.add(same, say("NAT 穿越端口", "NAT traversal port"), say(fmt.Sprintf("UDP %d", f.NATPort)))
	s.add(set, say("沿途防火墙双向放行", "firewalls pass, both ways"),
		say(fmt.Sprintf("UDP %d、UDP %d、IP 协议 50（ESP）、UDP 分片", f.IKEPort, f.NATPort),
			fmt.Sprintf("UDP %d, UDP %d, IP protocol 50 (ESP), fragments of UDP", f.IKEPort, f.NATPort)))
	return s
}

// phaseOne gives the numbers of GB/T 36968 5.1 (appendix of identifiers) as they
// stand in M1.
func (f *Facts) phaseOne() section {
	s := section{title: say("第一阶段（IKE SA，工作密钥）", "Phase 1 (IKE SA, working key)")}
	d := f.Peer.Dialect
	version, cipher := "1.1 (0x11)", "SM4-CBC = 129"
	if d.GMVersion0 {
		version = "1.0 (0x10)"
	}
	if d.IKESM4 == policy.SM4Draft {
		cipher = "SM4-CBC = 127"
	}
	if f.Peer.Profile == policy.Auto {
		cipher += " (129, 127)"
	}
	s.add(same, say("协议", "protocol"), say("GB/T 36968 / GM/T 0022，非 IKEv2", "GB/T 36968 / GM/T 0022, not IKEv2"))
	s.add(same, say("ISAKMP 头版本", "ISAKMP header version"), say(version))
	s.add(same, say("交换模式", "exchange"), say("主模式 = 2", "main mode = 2"))
	s.add(same, say("变换 ID", "transform ID"), say("KEY_IKE = 1"))
	s.add(same, say("属性 1 加密算法", "attribute 1, cipher"), say(cipher))
	s.add(same, say("属性 2 杂凑算法", "attribute 2, hash"), say("SM3 = 20"))
	s.add(same, say("伪随机函数", "PRF"), say("HMAC-SM3"))
	s.add(same, say("属性 3 认证方法", "attribute 3, authentication"), say("SM2 数字信封 = 10", "SM2 digital envelope = 10"))
	s.add(same, say("属性 20 非对称算法", "attribute 20, asymmetric"), say("SM2 = 2"))
	s.add(same, say("属性 4 DH 组", "attribute 4, group"), say("无（本协议没有 DH）", "none (there is no Diffie-Hellman)"))
	s.add(set, say("属性 14 密钥长度", "attribute 14, key length"), keyLength(d.KeyLength))
	life := seconds(f.Peer.IKELifetime)
	s.add(set, say("属性 11/12 生存期（取短者）", "attributes 11/12, lifetime (lower counts)"), say("1 / "+life.ZH, "1 / "+life.EN))
	s.add(know, say("谁可以发起", "who may begin"), initiate(f.Peer))
	return s
}

func keyLength(k policy.KeyLength) foreign.Text {
	switch k {
	case policy.KeyLengthSend:
		return say("我方发送 128", "we send 128")
	case policy.KeyLengthRefuse:
		return say("不发送；收到即拒绝", "not sent; refused")
	}
	return say("不发送；可接受 128", "not sent; 128 is accepted")
}

func initiate(p policy.Peer) foreign.Text {
	switch {
	case p.Dialect.Initiate == policy.InitiateUs:
		return say("只由我方发起", "we alone")
	case p.Dialect.Initiate == policy.InitiateThem || p.Remote.Any:
		return say("只由贵方发起", "you alone")
	}
	return say("双方均可", "either")
}

// forms are the encodings of messages 3 to 6 where implementations differ.
func (f *Facts) forms() section {
	s := section{title: say("报文形式（消息 3 至 6）", "Forms of messages 3 to 6")}
	d := f.Peer.Dialect
	pick := func(b bool, yes, no foreign.Text) foreign.Text {
		if b {
			return yes
		}
		return no
	}
	s.add(same, say("信封载荷 SK（类型 128）", "envelope payload SK (type 128)"), say(map[policy.SKEncoding]string{
		policy.SKDER: "SM2 DER (GM/T 0009)", policy.SKC1C3C2: "C1C3C2", policy.SKC1C2C3: "C1C2C3"}[d.SKEncoding]))
	s.add(same, say("Nonce、ID 的加密", "encryption of nonce and ID"), say("SM4-CBC"))
	s.add(same, say("Nonce、ID 的填充", "padding of nonce and ID"), pad(d.FieldPad))
	s.add(same, say("ID 的 IV", "IV of the ID"), pick(d.IDZeroIV, say("全零", "zero"), say("接 Nonce 密文末块", "chained from the nonce")))
	s.add(same, say("签名编码", "signature encoding"), pick(d.SigRaw, say("r|s 64 字节", "64 raw bytes r|s"), say("DER")))
	s.add(same, say("签名中加密证书前的编码字节 05", "byte 05 before the certificate in the signature"),
		pick(d.SigNoByte, say("不含", "without"), say("含", "with")))
	id := d.SM2ID
	if id == "" {
		id = "1234567812345678"
	}
	s.add(same, say("SM2 签名用户标识", "SM2 user ID"), say(id))
	s.add(know, say("HASHr 中的 SA", "SA in HASHr"), pick(d.HashrSA == policy.SAResponder,
		say("应答方的 SA", "the responder's"), say("发起方的 SA；两种均接受", "the initiator's; both are accepted")))
	s.add(know, say("证书载荷", "certificate payloads"), certs(d))
	return s
}

func pad(p policy.FieldPad) foreign.Text {
	switch p {
	case policy.PadPKCS7:
		return say("PKCS#7")
	case policy.PadZeros:
		return say("补零，无计数", "zeros, no count")
	}
	return say("补零，末字节为计数；整块时亦补", "zeros, the last byte counts them; also after whole blocks")
}

func certs(d policy.Dialect) foreign.Text {
	order := say("先签名（编码 4）后加密（编码 5）", "signing (encoding 4), then encryption (5)")
	if d.EncFirst {
		order = say("先加密（编码 5）后签名（编码 4）", "encryption (encoding 5), then signing (4)")
	}
	switch d.SendCerts {
	case policy.CertsM3:
		return say("只在消息 3；"+order.ZH, "in message 3 only; "+order.EN)
	case policy.CertsNone:
		return say("不发送，双方预先导入", "not sent: both ends have them beforehand")
	}
	return say("消息 2、3；"+order.ZH, "in messages 2 and 3; "+order.EN)
}

// identities are the ID payloads (RFC 2407 4.6.2.1).
func (f *Facts) identities() section {
	s := section{title: say("身份标识（ID 载荷）", "Identities (ID payload)")}
	d := f.Peer.Dialect
	subject := f.Sign.Subject
	if d.IDCertEnc {
		subject = f.Enc.Subject
	}
	value := d.ID
	number := map[policy.IDType]string{policy.IDName: "9 DER_ASN1_DN", policy.IDFQDN: "2 FQDN",
		policy.IDUserFQDN: "3 USER_FQDN", policy.IDKeyID: "11 KEY_ID", policy.IDAddress: "1 IPV4_ADDR"}[d.IDType]
	switch {
	case d.IDType == policy.IDName:
		value = subject
	case d.IDType == policy.IDAddress && value == "" && f.Our.IsValid():
		value = f.Our.String()
	}
	if d.IDType == policy.IDAddress && strings.Contains(value, ":") {
		number = "5 IPV6_ADDR"
	}
	s.add(set, say("对端 ID 类型（我方发送）", "remote ID type (we send)"), say(number))
	s.add(set, say("对端 ID 值", "remote ID"), say(value))
	theirs := say("9 DER_ASN1_DN，即贵方签名或加密证书主体", "9 DER_ASN1_DN: the subject of either of your certificates")
	if d.PeerID != "" {
		theirs = say(d.PeerID+"（类型 2、3 或 11）", d.PeerID+" (type 2, 3 or 11)")
	}
	s.add(set, say("本地 ID（贵方发送）", "local ID (you send)"), theirs)
	if d.PeerID == "" {
		s.add(know, say("也接受", "also accepted"), say("贵方网关地址，或证书 subjectAltName 中的地址、域名、邮箱",
			"your gateway's address, or what subjectAltName of a certificate holds"))
	}
	return s
}

// certificates: ours in full, and what we check of theirs.
func (f *Facts) certificates() section {
	s := section{title: say("证书", "Certificates")}
	s.certificate(say("我方签名证书", "our signing certificate"), f.Sign, f.Strings[0])
	s.certificate(say("我方加密证书", "our encryption certificate"), f.Enc, f.Strings[1])
	for _, c := range f.Chain {
		s.add(know, say("我方随证书发送的中间 CA", "intermediate that we send with them"), say(c.Subject))
		s.add(know, say("　其 SM3 指纹", "  its SM3 fingerprint"), say(c.Fingerprint))
	}
	s.add(set, say("请导入并信任的 CA", "CA to import and trust"), say(f.Sign.Issuer))
	id := f.Peer.Identity
	for _, x := range []struct {
		item  foreign.Text
		value string
	}{
		{say("贵方两张证书的主体须为", "subject of both of yours"), id.Subject},
		{say("贵方签名证书主体须为", "subject of your signing certificate"), id.SignSubject},
		{say("贵方加密证书主体须为", "subject of your encryption certificate"), id.EncSubject},
		{say("贵方签名证书 SM3 指纹须为", "SM3 of your signing certificate"), id.SignFingerprint},
		{say("贵方加密证书 SM3 指纹须为", "SM3 of your encryption certificate"), id.EncFingerprint},
	} {
		if x.value != "" {
			s.add(same, x.item, say(x.value))
		}
	}
	s.add(set, say("贵方证书密钥用法", "key usage of yours"), say("签名：digitalSignature；加密：keyEncipherment、dataEncipherment 或 keyAgreement",
		"signing: digitalSignature; encryption: keyEncipherment, dataEncipherment or keyAgreement"))
	for _, a := range f.Anchors {
		if a.Type == "certificate" {
			s.add(same, say("我方信任的贵方 CA", "CA that we trust for yours"), say(a.Subject))
			s.add(know, say("　其 SM3 指纹", "  its SM3 fingerprint"), say(a.Fingerprint))
		}
	}
	if len(f.Anchors) == 0 {
		s.add(ask, say("贵方证书的签发 CA", "the CA of your certificates"), say("我方尚未取得，请提供 CA 证书", "not here yet: send its certificate"))
	}
	for _, t := range f.Theirs {
		s.add(know, say("我方已有贵方证书", "certificate of yours that we have"), say(t.Subject+", "+t.Serial+", SM3 "+t.Fingerprint))
	}
	crl := say("不检查", "not checked")
	if f.Peer.CRL != "" {
		crl = say("检查；CRL 过期即拒绝", "checked; an expired CRL is refused")
	}
	s.add(know, say("吊销检查（我方）", "revocation (here)"), crl)
	return s
}

func (s *section) certificate(item foreign.Text, c pki.Info, types string) {
	sub := func(zh, en string) foreign.Text { return say("　"+zh, "  "+en) }
	s.add(same, item, say(c.Subject))
	if types != "" {
		s.add(know, sub("主体的字符串类型（编码顺序）", "string types of the subject, as encoded"), say(types))
	}
	s.add(know, sub("序列号", "serial"), say(c.Serial))
	s.add(know, sub("签发者", "issuer"), say(c.Issuer))
	if c.NotBefore != nil && c.NotAfter != nil {
		const form = "2006-01-02 15:04"
		span := c.NotBefore.Format(form) + " – " + c.NotAfter.Format(form) + " UTC"
		s.add(know, sub("有效期", "valid"), say(span))
	}
	s.add(know, sub("密钥用法", "key usage"), say(strings.Join(c.KeyUsage, ", ")))
	s.add(know, sub("SM3 指纹", "SM3 fingerprint"), say(c.Fingerprint))
	if len(c.Notes) > 0 {
		s.add(know, sub("注意", "mind"), say(strings.Join(c.Notes, "; ")))
	}
}
