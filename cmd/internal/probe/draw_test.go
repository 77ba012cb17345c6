package probe

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"yumen/ike"
	"yumen/policy"
	"yumen/test/lab"
)

// draws is how many far ends are drawn for each test; YUMEN_DRAWS says another
// number.
func draws() int {
	if n, err := strconv.Atoi(os.Getenv("YUMEN_DRAWS")); err == nil {
		return n
	}
	return 500
}

// userID is one that the tester was told of.
const userID = "gw@example.cn"

// draw is a far end with random knobs.
type draw struct {
	seed    uint64
	dialect policy.Dialect
	dpd     bool // it asks whether we live
	gcm     bool // it offers SM4-GCM too
	names   bool // its two certificates carry two names
	oneWay  bool // one end alone may begin
}

// values are what each knob is drawn from, by the words of a policy file. What an
// entry needs besides (id, peer_id) is not drawn alone.
func values() map[string][]string {
	return map[string][]string{
		"gm_version": {"1.1", "1.1", "1.1", "1.0"}, "ike_sm4_id": {"129", "127"}, "key_length": {"omit", "send", "refuse"},
		"transform_id": {"check", "ignore"}, "nat_t": {"true", "false"}, "send_dpd_vid": {"true", "true", "false"},
		"send_own_vid": {"true", "false"}, "send_certs": {"both", "both", "m3", "none"}, "cert_order": {"sign-enc", "enc-sign"},
		"sk_encoding": {"der", "c1c3c2", "c1c2c3"}, "nonce_length": {"16", "16", "8", "20", "33", "256"}, "natd_hash": {"sm3", "sm3", "sha1", "md5"},
		"field_pad": {"counted", "pkcs7", "zeros"}, "accept_zero_pad": {"true", "false"},
		"id_iv": {"chained", "zero"}, "id_cert": {"sign", "enc"}, "sig_encoding": {"der", "raw"}, "sig_cert_body": {"with", "without"},
		"sm2_id": {`""`, `""`, strconv.Quote(userID)}, "hashr_sa": {"initiator", "responder"},
		"qm_hash": {"rfc2409", "std-full", "std-body"}, "esp_sm4_id": {"both", "129", "127"}, "esp_gcm_id": {"130", "253", "20"},
		"esp_icv_bits": {"96", "128", "256"}, "dpd_spi": {"cookies", "none"}, "dpd_order": {"hash-first", "notify-first"},
		"accept": {"any", "exact"}, "strict_lifetime": {"false", "true"}, "allow_narrowing": {"false", "true"},
	}
}

// newDraw draws each knob, with mild only every other: each wrong guess costs a
// handshake, and a far end that differs in everything hundreds of them.
func newDraw(t *testing.T, seed uint64, mild bool) draw {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 5))
	x := draw{seed: seed, dpd: r.IntN(3) > 0, gcm: r.IntN(2) == 0, names: r.IntN(3) == 0}
	var list []policy.Knob
	for _, name := range policy.KnobNames() {
		if all := values()[name]; all != nil && !(mild && r.IntN(2) == 0) {
			if v := all[r.IntN(len(all))]; v != `""` {
				list = append(list, policy.Knob{Name: name, Value: v})
			}
		}
	}
	d, err := policy.Dialect{}.With(list...)
	if err != nil {
		t.Fatal(err)
	}
	if d.FieldPad == policy.PadZeros {
		d.Nonce = 0
	}
	d.ZeroPad = d.ZeroPad || d.FieldPad == policy.PadZeros // none that cannot read what it writes
	d.IDType = policy.IDType([]int{0, 0, 0, 1, 2, 3, 4}[r.IntN(7)])
	d.ID = map[policy.IDType]string{policy.IDFQDN: "box.example", policy.IDUserFQDN: "box@example.cn", policy.IDKeyID: "box-7"}[d.IDType]
	if r.IntN(4) == 0 {
		d.PeerID = "tester.example" // it would take this for us too
	}
	x.oneWay = r.IntN(3) == 0
	x.dialect = d
	return x
}

// begins makes one end alone begin where it is drawn so: to a far end that only
// answers nobody listens, and one that only calls is not called.
func (x *draw) begins(who policy.Initiate) {
	if x.oneWay {
		x.dialect.Initiate = who
	}
}

// people are the identities of all draws: making keys costs more than a draw.
type people struct {
	*lab.Members
	far *lab.Identity // the far end with two names
}

var everybody = sync.OnceValue(func() people {
	m := lab.NewMembers()
	return people{m, m.R.WithEnc(m.Root.Issue("CN=gw-r-enc,O=Example,C=CN", lab.Validity{}))}
})

// sites are the tester, i, and the far end, r.
func (x draw) sites() (i, r lab.Site) {
	all := everybody()
	i, r = all.Pair()
	i.Tunnel().Start = policy.StartNone
	if x.names {
		r.Own = all.far
		i.Peer().Identity = policy.Identity{SignSubject: lab.SubjectR, EncSubject: "CN=gw-r-enc,O=Example,C=CN"}
	}
	r.Peer().Dialect = x.dialect
	if x.dpd {
		r.Peer().DPD = policy.DPD{Interval: 4 * time.Second, Tries: 3}
	}
	if x.gcm {
		r.Tunnel().Suites = []policy.Suite{policy.SM4CBCHMACSM3, policy.SM4GCM128}
	}
	far, near := r.Own.Pair, i.Own.Pair
	i.Peer().Certs = policy.PeerCerts{Sign: "far.crt", Enc: "far-enc.crt"}
	i.Files = map[string]ike.PeerFiles{"r": {Sign: far.Sign.DER, Enc: far.Enc.DER}}
	r.Files = map[string]ike.PeerFiles{"i": {Sign: near.Sign.DER, Enc: near.Enc.DER}}
	return i, r
}

// truth is what may be said of a knob of the far end.
func (x draw) truth(knob string) string {
	d := x.dialect
	switch knob {
	case "initiate": // seen from us
		return map[policy.Initiate]string{policy.InitiateEither: "either", policy.InitiateUs: "them", policy.InitiateThem: "us"}[d.Initiate]
	}
	for _, k := range d.Words() {
		if k.Name == knob {
			return k.Value
		}
	}
	return "no such knob"
}

// takes reports whether the far end takes a value of a knob in message 1: what its
// entry says it does, by the clauses of the entry and not by its code.
func (x draw) takes(knob, value string) bool {
	d := x.dialect
	own := x.truth(knob)
	switch knob {
	case "key_length":
		return value == "omit" && !(d.Exact && own == "send") || value == "send" && own != "refuse" && !(d.Exact && own != "send")
	case "gm_version":
		return value == own || value == "1.1" && !d.Exact
	case "accept":
		return value == own
	case "transform_id", "strict_lifetime":
		return value == own
	case "ike_sm4_id", "qm_hash", "esp_sm4_id":
		return value == own || !d.Exact || own == "both" || value == "both"
	}
	return false
}

// wrong lists the statements of a report that are not true of the far end.
func (x draw) wrong(r *Report) (out []string) {
	for _, f := range r.Findings {
		switch f.Standing {
		case Seen:
			if !slices.Contains(f.Values, x.truth(f.Knob)) {
				out = append(out, fmt.Sprintf("%v; it is %s", f, x.truth(f.Knob)))
			}
		case Accepted:
			for _, v := range f.Values {
				if !x.takes(f.Knob, v) {
					out = append(out, fmt.Sprintf("%v; it does not take %s", f, v))
				}
			}
		case Untold:
			if f.Because == "" {
				out = append(out, f.Knob+": cannot be told, and nothing says why")
			}
		}
		for _, v := range f.Refused {
			if x.takes(f.Knob, v) {
				out = append(out, fmt.Sprintf("%v; it takes %s", f, v))
			}
		}
	}
	return out
}

func config(l *lab.Lab) Config {
	c := l.Gateway("i").Config()
	return Config{Engine: c, Credentials: true, Remote: netip.MustParseAddr("198.51.100.1"), UserIDs: []string{userID}}
}

// left reports what the tester left at the far end: sessions that stand, tunnels.
func left(l *lab.Lab) string {
	st := l.Gateway("r").Engine.Status()
	for _, s := range st.Sessions {
		if s.State == "established" {
			return "a session stands at the far end"
		}
	}
	if n := len(l.Gateway("r").Plane.Installed()); n > 0 {
		return fmt.Sprintf("%d children stand at the far end", n)
	}
	if n := len(l.Gateway("i").Plane.Installed()); n > 0 {
		return "the tester installed something"
	}
	return ""
}

// effects are the knobs that show in what this far end sends when it calls.
func (x draw) effects() []string {
	d := x.dialect
	out := []string{"gm_version", "ike_sm4_id", "nat_t", "send_dpd_vid", "send_own_vid", "sk_encoding", "nonce_length", "field_pad", "id_iv", "id_type",
		"sig_encoding", "sig_cert_body", "sm2_id", "qm_hash", "esp_sm4_id"}
	if d.KeyLength == policy.KeyLengthSend {
		out = append(out, "key_length")
	}
	if !d.NoNATT {
		out = append(out, "natd_hash")
	}
	if d.SendCerts == policy.CertsNone {
		out = append(out, "send_certs")
	} else {
		out = append(out, "cert_order")
	}
	if d.IDType != policy.IDAddress {
		out = append(out, "id")
	}
	if x.names && d.IDType == policy.IDName {
		out = append(out, "id_cert")
	}
	if x.gcm {
		out = append(out, "esp_gcm_id")
	}
	if x.dpd {
		out = append(out, "dpd_spi", "dpd_order")
	}
	return out
}

// run lets the machine work until it is done, and the far end hear of it.
func run(t *testing.T, l *lab.Lab, m Machine, limit time.Duration) {
	t.Helper()
	l.Gateway("i").Driver = m
	if !l.RunUntil(limit, m.Done) {
		t.Fatalf("not done after %v", limit)
	}
	l.Run(100 * time.Millisecond)
}

// Whatever the far end is, it calls once and every knob that shows in what it sends
// is told, truly; nothing is left behind.
func TestListenerFindsEveryKnobThatHasAnEffect(t *testing.T) {
	for seed := range uint64(draws()) {
		x := newDraw(t, seed, false)
		x.begins(policy.InitiateUs)
		i, r := x.sites()
		r.Tunnel().Start = policy.StartNow
		l := lab.New(seed, i, r)
		l.Story.Off = true
		m, err := NewListener(config(l))
		if err != nil {
			t.Fatal(err)
		}
		run(t, l, m, 10*time.Minute)
		rep := m.Report()
		faults := x.wrong(rep)
		for _, knob := range x.effects() {
			if f := rep.Of(knob); f.Standing != Seen || len(f.Values) != 1 {
				faults = append(faults, "not found: "+f.String())
			}
		}
		if s := left(l); s != "" {
			faults = append(faults, s)
		}
		if len(faults) > 0 || !rep.Session || !rep.Child {
			t.Fatalf("draw %d, %v, dpd %v, gcm %v, names %v: session %v, child %v\n%q\n%q", seed, x.dialect, x.dpd, x.gcm, x.names,
				rep.Session, rep.Child, faults, rep.Notes)
		}
	}
}

// connects reports whether a gateway with the entry that the report ends with gets
// a tunnel to the far end.
func (x draw) connects(t *testing.T, rep *Report) bool {
	t.Helper()
	i, r := x.sites()
	text := "site: here\n" + rep.Block + "tunnels:\n  - name: office\n    peer: r\n    local: 10.1.0.0/16\n    remote: 10.2.0.0/16\n"
	p, err := policy.Parse("block", []byte(text))
	if err != nil {
		t.Fatalf("the block is not read: %v\n%s", err, text)
	}
	entry := p.Peers[0]
	entry.ClockSkew, entry.IKELifetime = i.Peer().ClockSkew, i.Peer().IKELifetime
	*i.Peer() = entry
	i.Tunnel().Start = policy.StartNow
	l := lab.New(x.seed, i, r)
	l.Story.Off = true
	return l.RunUntil(time.Minute, func() bool {
		_, up := l.Gateway("i").Plane.InUse("office")
		return up
	})
}

// A far end that takes one form only is found when every form is tried, and the
// entry that comes of it connects.
func TestDialerThatTriesEverythingConnects(t *testing.T) {
	few := 0
	for seed := range uint64(draws()) {
		x := newDraw(t, seed+10000, true)
		x.begins(policy.InitiateThem)
		i, r := x.sites()
		l := lab.New(seed, i, r)
		l.Story.Off = true
		cfg := config(l)
		cfg.Exhaustive = true
		m := NewDialer(cfg)
		run(t, l, m, 6*time.Hour)
		rep := m.Report()
		faults := x.wrong(rep)
		if s := left(l); s != "" {
			faults = append(faults, s)
		}
		if rep.Handshakes <= fewHandshakes {
			few++
		}
		if len(faults) > 0 || !rep.Session || !rep.Child || !x.connects(t, rep) {
			t.Fatalf("draw %d, %v, names %v: session %v, child %v\n%q\n%q\n%s", x.seed, x.dialect, x.names, rep.Session, rep.Child,
				faults, rep.Notes, rep.Block)
		}
	}
	t.Logf("%d of %d needed no more than %d handshakes", few, draws(), fewHandshakes)
}
