package lab

import (
	"testing"
	"time"

	"yumen/esp"
	"yumen/ike"
	"yumen/policy"
)

// knob is one way in which an end may send otherwise than the default.
type knob struct {
	name string
	turn func(s *Site)
	both func(s *Site)          // on both ends, when it takes two
	fits func(c esp.Child) bool // what the child must look like
}

func dialect(change func(d *policy.Dialect)) func(*Site) {
	return func(s *Site) { change(&s.Peer().Dialect) }
}

func tunnel(change func(t *policy.Tunnel)) func(*Site) {
	return func(s *Site) { change(s.Tunnel()) }
}

// asks makes both ends ask often whether the other lives.
func asks(s *Site) { s.Peer().DPD = policy.DPD{Interval: 5 * time.Second, Tries: 2} }

// onFile gives a site the certificates of its peer.
func onFile(s *Site) {
	other := members().R
	if s.Name == "r" {
		other = members().I
	}
	s.Files = map[string]ike.PeerFiles{s.Peer().Name: {Sign: other.Pair.Sign.DER, Enc: other.Pair.Enc.DER}}
}

func knobs() []knob {
	gcm := func(c esp.Child) bool { return c.Suite == policy.SM4GCM128 && c.ICVBits == 128 }
	cbc := func(c esp.Child) bool { return c.Suite == policy.SM4CBCHMACSM3 && !c.ESN && !c.Path.Encap }
	inUDP := func(c esp.Child) bool { return c.Path.Encap }
	esn := func(c esp.Child) bool { return c.ESN }
	wantESN := tunnel(func(t *policy.Tunnel) { t.ESN = true })
	list := []knob{
		{name: "default", turn: func(*Site) {}, fits: cbc},
		{name: "phase-1 SM4 127", turn: dialect(func(d *policy.Dialect) { d.IKESM4 = policy.SM4Draft }), fits: cbc},
		{name: "ESP 127 only", turn: dialect(func(d *policy.Dialect) { d.ESPSM4 = policy.ESPOnly127 }), fits: cbc},
		{name: "ESP 129 only", turn: dialect(func(d *policy.Dialect) { d.ESPSM4 = policy.ESPOnly129 }), fits: cbc},
		{name: "quick mode hash std-full", turn: dialect(func(d *policy.Dialect) { d.QMHash = policy.HashStdFull }), fits: cbc},
		{name: "quick mode hash std-body", turn: dialect(func(d *policy.Dialect) { d.QMHash = policy.HashStdBody }), fits: cbc},
		{name: "SA of the responder in HASHr", turn: dialect(func(d *policy.Dialect) { d.HashrSA = policy.SAResponder }), fits: cbc},
		{name: "envelope C1C3C2", turn: dialect(func(d *policy.Dialect) { d.SKEncoding = policy.SKC1C3C2 }), fits: cbc},
		{name: "envelope C1C2C3", turn: dialect(func(d *policy.Dialect) { d.SKEncoding = policy.SKC1C2C3 }), fits: cbc},
		{name: "signature raw", turn: dialect(func(d *policy.Dialect) { d.SigRaw = true }), fits: cbc},
		{name: "signature without the encoding byte", turn: dialect(func(d *policy.Dialect) { d.SigNoByte = true }), fits: cbc},
		{name: "PKCS 7", turn: dialect(func(d *policy.Dialect) { d.FieldPad = policy.PadPKCS7 }), fits: cbc},
		{name: "nonces of 8 bytes", turn: dialect(func(d *policy.Dialect) { d.Nonce = 8 }), fits: cbc},
		{name: "nonces of 256 bytes", turn: dialect(func(d *policy.Dialect) { d.Nonce = 256 }), fits: cbc},
		{name: "NAT-D with SHA-1", turn: dialect(func(d *policy.Dialect) { d.NATDHash = policy.NATDSHA1 }), fits: cbc},
		{name: "NAT-D with MD5", turn: dialect(func(d *policy.Dialect) { d.NATDHash = policy.NATDMD5 }), fits: cbc},
		{name: "ID with zero IV", turn: dialect(func(d *policy.Dialect) { d.IDZeroIV = true }), fits: cbc},
		{name: "PKCS 7, zero IV, no byte", turn: dialect(func(d *policy.Dialect) { d.FieldPad, d.IDZeroIV, d.SigNoByte = policy.PadPKCS7, true, true }), fits: cbc},
		{name: "ID of the encryption certificate", turn: dialect(func(d *policy.Dialect) { d.IDCertEnc = true }), fits: cbc},
		{name: "zero padding", turn: dialect(func(d *policy.Dialect) { d.FieldPad = policy.PadZeros }),
			both: dialect(func(d *policy.Dialect) { d.ZeroPad = true }), fits: cbc},
		{name: "header 1.0", turn: func(*Site) {}, both: dialect(func(d *policy.Dialect) { d.GMVersion0 = true }), fits: cbc},
		{name: "user ID", turn: func(*Site) {}, both: dialect(func(d *policy.Dialect) { d.SM2ID = "gw@example.cn" }), fits: cbc},
		{name: "key length sent", turn: dialect(func(d *policy.Dialect) { d.KeyLength = policy.KeyLengthSend }), fits: cbc},
		{name: "key length refused", turn: dialect(func(d *policy.Dialect) { d.KeyLength = policy.KeyLengthRefuse }), fits: cbc},
		{name: "encryption certificate first", turn: dialect(func(d *policy.Dialect) { d.EncFirst = true }), fits: cbc},
		{name: "address as ID", turn: dialect(func(d *policy.Dialect) { d.IDType = policy.IDAddress }), fits: cbc},
		{name: "key ID", turn: dialect(func(d *policy.Dialect) { d.IDType, d.ID = policy.IDKeyID, "box-7" }),
			both: dialect(func(d *policy.Dialect) { d.PeerID = "box-7" }), fits: cbc},
		{name: "name as ID", turn: dialect(func(d *policy.Dialect) { d.IDType, d.ID = policy.IDFQDN, "gw.example" }),
			both: dialect(func(d *policy.Dialect) { d.PeerID = "gw.example" }), fits: cbc},
		{name: "user name as ID", turn: dialect(func(d *policy.Dialect) { d.IDType, d.ID = policy.IDUserFQDN, "gw@example.cn" }),
			both: dialect(func(d *policy.Dialect) { d.PeerID = "gw@example.cn" }), fits: cbc},
		{name: "GCM under another number", turn: func(*Site) {}, both: func(s *Site) {
			s.Tunnel().Suites = []policy.Suite{policy.SM4GCM128}
			s.Peer().Dialect.ESPGCM = 253
		}, fits: gcm},
		{name: "no Vendor ID of ours", turn: dialect(func(d *policy.Dialect) { d.NoOwnVID = true }), fits: cbc},
		{name: "dead peer detection, HASH last", turn: dialect(func(d *policy.Dialect) { d.DPDFirst = true }), both: asks, fits: cbc},
		{name: "dead peer detection without SPI", turn: dialect(func(d *policy.Dialect) { d.DPDNoSPI = true }), both: asks, fits: cbc},
		{name: "transform ID not checked", turn: dialect(func(d *policy.Dialect) { d.AnyTransform = true }), fits: cbc},
		{name: "certificates on file", turn: dialect(func(d *policy.Dialect) { d.SendCerts = policy.CertsM3 }), both: onFile, fits: cbc},
		{name: "certificates on file, none sent", turn: dialect(func(d *policy.Dialect) { d.SendCerts = policy.CertsNone }), both: onFile, fits: cbc},
		{name: "no NAT-T", turn: dialect(func(d *policy.Dialect) { d.NoNATT = true }), fits: cbc},
		{name: "no DPD", turn: dialect(func(d *policy.Dialect) { d.NoDPDVID = true }), fits: cbc},
		{name: "encapsulation off", turn: func(s *Site) { s.Peer().Encap = policy.EncapOff }, fits: cbc},
		{name: "encapsulation forced", turn: func(s *Site) { s.Peer().Encap = policy.EncapForce }, fits: inUDP},
		{name: "encapsulation forced by both", turn: func(*Site) {}, both: func(s *Site) { s.Peer().Encap = policy.EncapForce }, fits: inUDP},
		{name: "encapsulation forced against off", turn: func(s *Site) { s.Peer().Encap = policy.EncapForce },
			both: func(s *Site) {
				if s.Peer().Encap != policy.EncapForce {
					s.Peer().Encap = policy.EncapOff
				}
			}, fits: cbc},
		{name: "ESN on one end", turn: wantESN, fits: cbc},
		{name: "ESN on both", turn: func(*Site) {}, both: wantESN, fits: esn},
		{name: "GCM preferred by one", turn: tunnel(func(t *policy.Tunnel) { t.Suites = []policy.Suite{policy.SM4GCM128, policy.SM4CBCHMACSM3} }), fits: cbc},
		{name: "GCM on both", turn: func(*Site) {}, both: tunnel(func(t *policy.Tunnel) { t.Suites = []policy.Suite{policy.SM4GCM128} }), fits: gcm},
		{name: "ICV 128", turn: func(*Site) {}, both: tunnel(func(t *policy.Tunnel) { t.ICVBits = 128 }), fits: func(c esp.Child) bool { return c.ICVBits == 128 && cbc(c) }},
		{name: "ICV 256", turn: func(*Site) {}, both: tunnel(func(t *policy.Tunnel) { t.ICVBits = 256 }), fits: func(c esp.Child) bool { return c.ICVBits == 256 && cbc(c) }},
		{name: "long lifetimes", turn: func(s *Site) { s.Peer().IKELifetime, s.Tunnel().Lifetime = 48*time.Hour, 2*time.Hour },
			fits: func(c esp.Child) bool { return c.Limits.HardTime == time.Hour || c.Limits.HardTime == 2*time.Hour }},
		{name: "limit of bytes", turn: tunnel(func(t *policy.Tunnel) { t.Bytes = 1 << 30 }), fits: cbc},
	}
	return list
}

// Each knob, turned on one end while the other has the default, connects, in
// both roles.
func TestEveryKnobConnectsToTheDefault(t *testing.T) {
	for _, k := range knobs() {
		for _, end := range []string{"i", "r"} {
			t.Run(k.name+" at "+end, func(t *testing.T) {
				i, r := members().Pair()
				if end == "i" {
					k.turn(&i)
				} else {
					k.turn(&r)
				}
				if k.both != nil {
					k.both(&i)
					k.both(&r)
				}
				l := New(1, i, r)
				l.Run(30 * time.Second)
				for _, g := range l.gateways {
					c, up := g.Plane.InUse("office")
					if !up || !k.fits(c) {
						t.Errorf("%s: up %v, child %+v", g.Name, up, c)
					}
				}
				for _, f := range l.Faults {
					t.Error(f)
				}
				if t.Failed() {
					t.Log(l.Story.String())
				}
			})
		}
	}
}

// After a rekey the form that the peer uses is still spoken.
func TestKnobsSurviveARekey(t *testing.T) {
	for _, k := range knobs() {
		i, r := members().Pair()
		k.turn(&r)
		if k.both != nil {
			k.both(&i)
			k.both(&r)
		}
		for _, s := range []*Site{&i, &r} {
			s.Tunnel().Lifetime, s.Peer().IKELifetime = 100*time.Second, 150*time.Second
		}
		l := New(1, i, r)
		l.Story.Off = true
		l.Run(10 * time.Second)
		before, _ := l.Gateway("i").Plane.InUse("office")
		l.Run(5 * time.Minute)
		after, up := l.Gateway("i").Plane.InUse("office")
		if !up || before.ID == after.ID || len(l.Faults) > 0 {
			t.Errorf("%s: up %v, child %d then %d, %v", k.name, up, before.ID, after.ID, l.Faults)
		}
	}
}
