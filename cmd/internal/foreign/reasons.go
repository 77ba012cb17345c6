package foreign

import "strings"

// why is what a command of a box means to a draft of ours.
type why struct {
	begin  string // of the line
	reason string
	change bool
}

const (
	theirs      = "a matter of that box alone"
	unused      = "no ipsec policy of the dump uses it"
	files       = "keys and certificates stay on that box"
	noSharedKey = "a pre-shared key has no place in GB/T 36968; use sm2-de or digital-envelope with certificates"
	wants2      = "Yumen speaks IKEv1 in the form of GB/T 36968 only; use an ike profile or ike peer of version 1"
)

// whys are the commands that need no counterpart, or can have none, the longer
// ones first.
func whys() []why {
	return []why{
		{"ike compatible-gm-main", "meant for peers of another version; its effect is not published: if messages 3 and 4 fail, try without it", false},
		{"ike compatible-sm4", "meant for peers of another version; its effect is not published", false},
		{"ike signature-identity from-certificate", "they call themselves by the subject of their certificate, which is taken", false},
		{"ike invalid-spi-recovery", theirs, false},
		{"ike nat-keepalive", theirs, false},
		{"ike keepalive", "heartbeats of an old draft; use DPD", false},
		{"ike limit", theirs, false},
		{"ike logging", theirs, false},
		{"ike local-name", "the name that they send where local-id-type is a name; set peer_id of dialect to it", false},
		{"ike identity", "what they call themselves where a profile does not say", false},
		{"ike dpd", "of profiles that say nothing themselves", false},
		{"ikev2", wants2, false},
		{"pre-shared-key", noSharedKey, true},
		{"keychain", noSharedKey, true},
		{"ikev2-profile", wants2, true},
		{"ipsec anti-replay", "each end has its own window", false},
		{"anti-replay", "each end has its own window", false},
		{"ipsec df-bit", theirs, false},
		{"ipsec global-df-bit", theirs, false},
		{"ipsec fragmentation", theirs + "; if they cut after encryption, our path must carry fragments", false},
		{"ipsec decrypt-check", theirs, false},
		{"ipsec logging", theirs, false},
		{"ipsec sa global-soft-duration", theirs, false},
		{"ipsec sa global-duration", "of policies that say nothing themselves", false},
		{"ipsec authentication sha2", "of SHA-2, not of SM3", false},
		{"ipsec redundancy", theirs, false},
		{"ipsec apply", "applies a policy that is not in the dump", false},
		{"ipsec policy", "applies a policy that is not in the dump", false},
		{"tunnel protection ipsec", "a tunnel interface protects whatever is routed into it; use an ipsec policy with an acl", true},
		{"tunnel-protocol ipsec", "a tunnel interface protects whatever is routed into it; use an ipsec policy with an acl", false},
		{"tfc enable", "padding against traffic analysis: ESP of ours takes it in, and does not send it", false},
		{"sa trigger-mode", "who begins: both may; start: trap in the tunnel waits for traffic here", false},
		{"respond-only", "they never begin: this gateway must (start: start, which is the default)", false},
		{"sa soft-duration", theirs, false},
		{"sa idle-time", "they end a tunnel without traffic; it comes back with the next packet", false},
		{"reverse-route", theirs, false},
		{"route inject", theirs, false},
		{"qos", theirs, false},
		{"priority", theirs, false},
		{"inside-vpn", theirs, false},
		{"match local", theirs, false},
		{"smart-link", "several links of that box: write one tunnel for each, or ask which one counts", false},
		{"redundancy", theirs, false},
		{"initial-contact", "a restarted end says so; ours understands it", false},
		{"client-authentication", "XAUTH is not of GB/T 36968; undo it", true},
		{"aaa authorization", "XAUTH and address pools are not of GB/T 36968; undo it", true},
		{"dpd type", "when they probe is their matter", false},
		{"dpd retransmit-interval", "the time between their tries; ours follow interval and tries", false},
		{"dpd retry", "the time between their tries; ours follow interval and tries", false},
		{"description", "for people", false},
		{"alias", "for people", false},
		{"lifetime-notification-message", "RESPONDER-LIFETIME, which is understood", false},
		{"rsa ", "of RSA, which GB/T 36968 with SM2 does not use", false},
		{"certificate", files, false},
		{"pki", files, false},
	}
}

// explain gives a reason to each line that has none and that whys knows.
func (im *importer) explain() {
	table := whys()
	for _, v := range im.dump.views {
		for _, l := range append([]*line{v.open}, v.lines...) {
			if l.used || l.reason != "" {
				continue
			}
			im.explainLine(v, l, table)
		}
	}
}

func (im *importer) explainLine(v *view, l *line, table []why) {
	top := l == v.open
	inside := oneOf(v.open.at(0), "ike", "ikev2", "ipsec", "pki")
	if !inside && !concernsLine(l) {
		return
	}
	if inside && !v.open.used && (top || v.open.reason == "" || v.open.reason == unused) && policyOrProposal(v.open) {
		l.reason = unused
		return
	}
	if v.open.has("pki") && !top {
		l.reason = files
		return
	}
	for _, w := range table {
		if strings.HasPrefix(strings.ToLower(strings.Join(l.words, " "))+" ", strings.TrimSpace(w.begin)+" ") {
			l.reason, l.clash = w.reason, w.change
			return
		}
	}
}

func policyOrProposal(l *line) bool {
	return l.has("ike", "proposal") || l.has("ike", "profile") || l.has("ike", "peer") || l.has("ike", "keychain") || l.has("ipsec", "transform-set") ||
		l.has("ipsec", "proposal")
}
