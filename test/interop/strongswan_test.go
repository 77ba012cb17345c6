package interop_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"yumen/test/site"
)

func TestYumenCallsStrongSwanAndEveryOutputSaysThatItIsNotGM(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.begin(pair{start: "start"})
	s.need(s.A.WaitUp(upLimit))
	s.traffic()
	s.settled(upLimit)
	for _, c := range []struct {
		what string
		args []string
		want []string
	}{
		{"status", []string{"status"}, []string{"warning: peer swan is NOT GB/T 36968 (rfc2409-psk)", "NOT GM (rfc2409-psk)/1.0",
			"AES_CBC_128/SHA2_256/MODP_2048/PSK", "ESP:AES_CBC_128/HMAC_SHA2_256_128", "'198.51.100.2'"}},
		{"status --json", []string{"status", "--json"}, []string{`"non_gm": "rfc2409-psk"`}},
		{"check", []string{"check"}, []string{"WARNING: peer swan is NOT GB/T 36968 (rfc2409-psk)"}},
	} {
		out, err := s.A.Command(c.args...)
		s.need(err)
		for _, want := range c.want {
			if !strings.Contains(out, want) {
				s.Errorf("%s lacks %q:\n%s", c.what, want, out)
			}
		}
	}
	log, err := os.ReadFile(filepath.Join(s.A.Dir, "yumen.log"))
	s.need(err)
	for _, line := range strings.Split(strings.TrimSpace(string(log)), "\n") {
		if strings.Contains(line, "peer=swan") && !strings.Contains(line, "non_gm=rfc2409-psk") {
			s.Errorf("a line of the log does not say it: %s", line)
		}
	}
	metrics, err := s.A.Run("curl", "-s", "http://127.0.0.1:9436/metrics")
	s.need(err)
	for _, want := range []string{`ipsec_ike_sa_state{non_gm="rfc2409-psk",peer="swan",state="established"} 1`,
		`ipsec_child_sa_state{non_gm="rfc2409-psk",peer="swan",state="up",tunnel="office"} 1`} {
		if !strings.Contains(metrics, want) {
			s.Errorf("the metrics lack %s", want)
		}
	}
	text, err := s.A.Run(yumen, "decode", s.recorded())
	if err != nil || !strings.Contains(text, "NOT GB/T 36968: plain IKE with a pre-shared key (RFC 2409 5.4) (rfc2409-psk)") ||
		strings.Contains(text, "[FAILED]") {
		s.Errorf("decode: %v\n%s", err, text)
	}
}

func TestStrongSwanCallsYumen(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.begin(pair{})
	s.need(s.swan.Up("office"))
	s.traffic()
	s.settled(upLimit)
	if c := s.office().Children[0]; !c.Encap {
		s.Error("ESP is not in UDP")
	}
	// Idle for longer than both ends' dead peer detection takes to give up.
	before := s.status().Sessions[0].CookieI
	time.Sleep(7 * time.Second)
	s.settled(time.Second)
	if now := s.status().Sessions[0].CookieI; now != before {
		s.Errorf("session %s became %s although both ends live", before, now)
	}
	for _, want := range []string{"parsed INFORMATIONAL_V1 request", "N(DPD_ACK)"} {
		if !strings.Contains(s.swan.Log(), want) {
			s.Errorf("strongSwan has not seen %q", want)
		}
	}
}

// Whoever renews keys, and which, traffic goes on and one of each is left.
func TestKeysAreRenewedByBothEndsUnderTraffic(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.begin(pair{start: "start"})
	s.need(s.A.WaitUp(upLimit))
	s.traffic()
	for _, c := range []struct {
		what  string
		renew func() error
		ike   bool
	}{
		{"our rekey of the child", func() error { _, err := s.A.Command("rekey", "office"); return err }, false},
		{"their rekey of the child", func() error { return s.swan.Rekey("child", "office") }, false},
		{"our rekey of the IKE SA", func() error { _, err := s.A.Command("rekey", "office", "--ike"); return err }, true},
		{"their rekey of the IKE SA", func() error { return s.swan.Rekey("ike", "yumen") }, true},
		{"our rekey of the child under their IKE SA", func() error { _, err := s.A.Command("rekey", "office"); return err }, false},
	} {
		s.settled(upLimit)
		cookie, spi := s.status().Sessions[0].CookieI, s.office().Children[0].In.SPI
		flow := make(chan error, 2)
		for _, f := range s.flows() {
			go func() { flow <- steady(f, 80) }()
		}
		time.Sleep(300 * time.Millisecond)
		s.need(c.renew())
		for range 2 {
			if err := <-flow; err != nil {
				s.Errorf("%s: %v", c.what, err)
			}
		}
		s.settled(upLimit) // the old ones go after a moment
		if c.ike && s.status().Sessions[0].CookieI == cookie {
			s.Errorf("%s: the session is still %s", c.what, cookie)
		}
		if !c.ike && s.office().Children[0].In.SPI == spi {
			s.Errorf("%s: the child is still %s", c.what, spi)
		}
	}
	s.traffic()
}

// steady pings 20 times a second and wants each answered, once: strongSwan receives
// on a new child once it has read QM3, and before that we send on the old one.
func steady(f site.Flow, n int) error {
	out, err := f.From.Run("ping", "-n", "-q", "-i", "0.05", "-W", "2", "-c", fmt.Sprint(n), "-I", f.FromAddr, f.ToAddr)
	_, counts, _ := strings.Cut(out, "transmitted, ")
	var received int
	if _, scan := fmt.Sscanf(counts, "%d received", &received); err == nil && (scan != nil || received < n || strings.Contains(out, "duplicates")) {
		err = fmt.Errorf("%s", out)
	}
	return err
}

// Lifetimes make both ends renew by themselves.
func TestShortLifetimesAreRenewedInTime(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.begin(pair{start: "start", keep: true, lifetime: "6s", child: "rekey_time = 7s", peerKeys: "    ike_lifetime: 14s", swan: "reauth_time = 13s"})
	s.need(s.A.WaitUp(upLimit))
	s.traffic()
	spis, cookies := map[string]bool{}, map[string]bool{}
	flow := make(chan error, 1)
	go func() { flow <- steady(s.flows()[0], 20*20) }()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(500 * time.Millisecond) {
		st := s.status()
		for _, x := range st.Sessions {
			cookies[x.CookieI] = true
		}
		for _, c := range st.Tunnels[0].Children {
			spis[c.In.SPI] = true
		}
	}
	if err := <-flow; err != nil {
		s.Errorf("while keys were renewed: %v", err)
	}
	if len(spis) < 3 || len(cookies) < 2 {
		s.Errorf("%d children and %d sessions in 20 s", len(spis), len(cookies))
	}
}

func TestAPeerThatFallsSilentIsGivenUpByTheOtherEnd(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.begin(pair{start: "start", swan: "dpd_timeout = 4s"})
	s.need(s.A.WaitUp(upLimit))
	s.traffic()
	s.need(s.swan.Freeze(true))
	s.eventually("we give strongSwan up", 20*time.Second, func() error {
		if st := s.status().Tunnels[0]; st.State == "up" {
			return fmt.Errorf("%s", st.State)
		}
		return nil
	})
	s.need(s.swan.Freeze(false))
	s.need(s.A.WaitUp(30 * time.Second))
	s.traffic()
	s.settled(upLimit)

	s.A.Daemon().Kill()
	s.swanSays("gives us up", 20*time.Second, func(out string) bool { return !strings.Contains(out, "yumen:") })
}

func TestDeletesOfBothEndsAreHeeded(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.begin(pair{})
	up := func() {
		s.need(s.swan.Up("office"))
		s.settled(upLimit)
		s.traffic()
	}
	up()
	s.need(s.swan.DownChild("office"))
	s.eventually("the child is gone here", 5*time.Second, func() error {
		if st := s.status(); len(st.Tunnels[0].Children) != 0 || len(st.Sessions) != 1 {
			return fmt.Errorf("%+v", st.Tunnels)
		}
		return nil
	})
	up()
	s.need(s.swan.Down("yumen"))
	s.eventually("the session is gone here", 5*time.Second, func() error {
		if st := s.status(); len(st.Sessions) != 0 || len(st.Tunnels[0].Children) != 0 {
			return fmt.Errorf("%+v", st)
		}
		return nil
	})
	up()
	_, err := s.A.Command("down", "office")
	s.need(err)
	s.swanSays("the child is gone there", 5*time.Second, func(out string) bool {
		return strings.Contains(out, "ESTABLISHED") && !strings.Contains(out, "INSTALLED")
	})
	_, err = s.A.Command("up", "office")
	s.need(err)
	s.need(s.A.WaitUp(upLimit))
	s.traffic()
	s.need(s.A.Daemon().Stop(10 * time.Second))
	s.swanSays("nothing is left there", 5*time.Second, func(out string) bool { return !strings.Contains(out, "yumen:") })
}

func TestRestartsOfBothEndsAreSurvived(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	p := pair{start: "start"}
	s.begin(p)
	s.need(s.A.WaitUp(upLimit))
	s.traffic()
	s.need(s.swan.Stop(true), s.swan.Start(), s.swan.Load(p.connection()))
	s.need(s.swan.Up("office")) // INITIAL-CONTACT: what we have is from its life before
	s.traffic()
	s.crossed(upLimit)

	s.need(s.swan.Stop(true), s.swan.Start(), s.swan.Load(p.connection()))
	s.eventually("we notice and call", 30*time.Second, func() error { return s.flows()[0].Talk("udp", 4242, quiet) })
	s.crossed(upLimit)

	s.A.Daemon().Kill()
	s.need(s.A.Start(), s.A.WaitUp(upLimit))
	s.traffic()
	s.crossed(upLimit)

	s.A.Daemon().Kill()
	s.need(s.A.Configure(pair{}.policy()), s.A.Start(), s.A.WaitReady(10*time.Second))
	s.eventually("strongSwan notices", 20*time.Second, func() error { return s.swan.Up("office") })
	s.traffic()
	s.crossed(upLimit)
}

func TestYumenBehindNATReachesStrongSwan(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.nft(`table ip yumen_nat {
	chain post {
		type nat hook postrouting priority 100;
		oifname "to-b" ip saddr 192.0.2.0/24 masquerade random
	}
	chain forward {
		type filter hook forward priority 0;
		iifname "to-b" ct state new drop
	}
}
`)
	s.begin(pair{start: "start", swanSees: "%any"})
	s.need(s.A.WaitUp(upLimit))
	s.traffic()
	s.settled(upLimit)
	if nat := s.status().Sessions[0].NAT; nat != "both" { // theirs is feigned: encap = yes
		s.Errorf("nat %s", nat)
	}
	before := s.status().Sessions[0].CookieI
	s.need(s.swan.Rekey("child", "office"))
	time.Sleep(5 * time.Second) // dead peer detection in both directions, through the NAT
	s.traffic()
	s.settled(upLimit)
	if now := s.status().Sessions[0].CookieI; now != before {
		s.Errorf("session %s became %s", before, now)
	}
}

// strongSwan cuts its messages (payload 132) at 400 bytes, ours are never large
// enough: the profile has no certificates.
func TestMessagesInPiecesAreJoined(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.begin(pair{peerKeys: "    ike_fragmentation: true", swan: "fragmentation = force"})
	s.need(s.swan.Up("office"))
	s.traffic()
	s.settled(upLimit)
	if log := s.swan.Log(); !strings.Contains(log, "splitting IKE message") {
		s.Error("strongSwan has cut nothing: this test shows nothing")
	}
}

func TestStrongSwanBehindNATReachesYumen(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.nft(`table ip yumen_nat {
	chain post {
		type nat hook postrouting priority 100;
		oifname "to-a" ip saddr 198.51.100.0/24 masquerade random
	}
	chain forward {
		type filter hook forward priority 0;
		iifname "to-a" ct state new drop
	}
}
`)
	s.begin(pair{remote: "any", peerKeys: "    remote_id: " + site.GateB4})
	s.need(s.swan.Up("office"))
	s.traffic()
	s.settled(upLimit)
	x := s.status().Sessions[0]
	if x.NAT != "remote" || !strings.HasPrefix(x.Remote, "192.0.2.1:") {
		s.Errorf("nat %s, remote %s", x.NAT, x.Remote)
	}
	_, err := s.A.Command("rekey", "office")
	s.need(err)
	time.Sleep(5 * time.Second) // dead peer detection in both directions, through the NAT
	s.traffic()
	s.settled(upLimit)
	if now := s.status().Sessions[0].CookieI; now != x.CookieI {
		s.Errorf("session %s became %s", x.CookieI, now)
	}
}

// The second suite of the profile has no foreign peer: two of us, ESP without UDP.
func TestTwoYumensSpeakThePlainProfileWithSM4AndSM3(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	p := pair{start: "start", peerKeys: "    ike_suite: sm4-sm3-modp2048"}
	turn := strings.NewReplacer("site: a", "site: b", site.GateB4, site.GateA4, "local: 10.1", "local: 10.2", "remote: 10.2", "remote: 10.1", "start: start", "start: respond")
	for _, g := range []*site.Gateway{s.A, s.B} {
		s.need(os.WriteFile(filepath.Join(g.Dir, "swan.psk"), []byte(sharedKey+"\n"), 0o600))
	}
	s.need(s.B.Configure(turn.Replace(p.policy())), s.B.Start(), s.B.WaitReady(10*time.Second))
	s.need(s.A.Configure(p.policy()), s.A.Start(), s.A.WaitReady(10*time.Second), s.A.WaitUp(upLimit))
	s.traffic()
	out, err := s.A.Command("status")
	s.need(err)
	for _, want := range []string{"SM4_CBC/SM3/MODP_2048/PSK", "ESP:SM4_CBC/HMAC_SM3_96", "NOT GM (rfc2409-psk)/1.0"} {
		if !strings.Contains(out, want) {
			s.Errorf("status lacks %q:\n%s", want, out)
		}
	}
	if s.office().Children[0].Encap {
		s.Error("ESP is in UDP without a NAT")
	}
}

func TestWhatDoesNotFitIsRefusedWithTheReason(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.begin(pair{})
	for _, c := range []struct {
		what       string
		old, new   string // in strongSwan's configuration
		here, them string // what each end says
	}{
		{"another key", sharedKey, sharedKey + "x", "do both ends have the same key?", "giving up after 3 retransmits"},
		{"perfect forward secrecy", "esp_proposals = aes128-sha256", "esp_proposals = aes128-sha256-modp2048", "there is no PFS here", "NO_PROPOSAL_CHOSEN"},
		{"another cipher", "esp_proposals = aes128-sha256", "esp_proposals = aes256-sha256", "key length 256", "NO_PROPOSAL_CHOSEN"},
		{"another group", "proposals = aes128-sha256-modp2048", "proposals = aes128-sha256-modp3072", "we take 14 (MODP-2048)", "NO_PROPOSAL_CHOSEN"},
		{"another selector", "local_ts = 10.2.0.0/24", "local_ts = 10.3.0.0/24", "no tunnel of peer swan has the selector", "INVALID_ID_INFORMATION"},
		{"another name", "id = " + site.GateB4, "id = strange.example", "set remote_id", "giving up after 3 retransmits"},
	} {
		conf := strings.Replace(pair{}.connection(), c.old, c.new, 1)
		if conf == (pair{}).connection() {
			s.Fatalf("%s: nothing to replace", c.what)
		}
		s.need(s.swan.Stop(true), s.swan.Start(), s.swan.Load(conf))
		from, theirs := len(s.log()), len(s.swan.Log())
		if err := s.swan.Up("office"); err == nil {
			s.Errorf("%s: up", c.what)
		}
		if here := s.log()[from:]; !strings.Contains(here, c.here) {
			s.Errorf("%s: we do not say %q:\n%s", c.what, c.here, here)
		}
		if them := s.swan.Log()[theirs:]; !strings.Contains(them, c.them) {
			s.Errorf("%s: strongSwan does not say %q", c.what, c.them)
		}
	}
	s.need(s.swan.Stop(true), s.swan.Start(), s.swan.Load(pair{}.connection()), s.swan.Up("office"))
	s.traffic()
}
