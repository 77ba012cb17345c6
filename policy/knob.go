package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// knob is one key of a dialect: how it is read, and the word for what it is set
// to. Everything that names a knob goes through this table.
type knob struct {
	name string
	read func(f field, d *Dialect)
	word func(d Dialect) string
}

// choice is a knob with a closed set of words.
func choice[T fmt.Stringer](name string, at func(*Dialect) *T, all ...T) knob {
	return knob{name,
		func(f field, d *Dialect) { choose(f, at(d), all...) },
		func(d Dialect) string { return (*at(&d)).String() }}
}

// pairOf is a knob with two words; the field is whether it is the second.
func pairOf(name, first, second string, at func(*Dialect) *bool) knob {
	return knob{name,
		func(f field, d *Dialect) { f.either(at(d), first, second) },
		func(d Dialect) string {
			if *at(&d) {
				return second
			}
			return first
		}}
}

// truth is a knob that is true or false; with not the field is its opposite.
func truth(name string, not bool, at func(*Dialect) *bool) knob {
	return knob{name,
		func(f field, d *Dialect) {
			v := *at(d) != not
			f.bool(&v)
			*at(d) = v != not
		},
		func(d Dialect) string { return fmt.Sprint(*at(&d) != not) }}
}

// quoted is a knob that holds a text of at most limit bytes.
func quoted(name string, limit int, at func(*Dialect) *string) knob {
	return knob{name,
		func(f field, d *Dialect) {
			f.text(at(d))
			if len(*at(d)) > limit {
				f.fault("is longer than %d bytes; shorten it", limit)
			}
		},
		func(d Dialect) string { return fmt.Sprintf("%q", *at(&d)) }}
}

// knobs is every knob, in the order in which they show on the wire.
func knobs() []knob {
	return []knob{
		pairOf("gm_version", "1.1", "1.0", func(d *Dialect) *bool { return &d.GMVersion0 }),
		choice("initiate", func(d *Dialect) *Initiate { return &d.Initiate }, InitiateEither, InitiateUs, InitiateThem),
		choice("ike_sm4_id", func(d *Dialect) *SM4Number { return &d.IKESM4 }, SM4Standard, SM4Draft),
		choice("key_length", func(d *Dialect) *KeyLength { return &d.KeyLength }, KeyLengthOmit, KeyLengthSend, KeyLengthRefuse),
		pairOf("transform_id", "check", "ignore", func(d *Dialect) *bool { return &d.AnyTransform }),
		truth("nat_t", true, func(d *Dialect) *bool { return &d.NoNATT }),
		choice("natd_hash", func(d *Dialect) *NATDHash { return &d.NATDHash }, NATDSM3, NATDSHA1, NATDMD5),
		truth("send_dpd_vid", true, func(d *Dialect) *bool { return &d.NoDPDVID }),
		truth("send_own_vid", true, func(d *Dialect) *bool { return &d.NoOwnVID }),
		choice("send_certs", func(d *Dialect) *SendCerts { return &d.SendCerts }, CertsBoth, CertsM3, CertsNone),
		pairOf("cert_order", "sign-enc", "enc-sign", func(d *Dialect) *bool { return &d.EncFirst }),
		choice("sk_encoding", func(d *Dialect) *SKEncoding { return &d.SKEncoding }, SKDER, SKC1C3C2, SKC1C2C3),
		{"nonce_length", readNonce, func(d Dialect) string { return fmt.Sprint(d.NonceLength()) }},
		choice("field_pad", func(d *Dialect) *FieldPad { return &d.FieldPad }, PadCounted, PadPKCS7, PadZeros),
		truth("accept_zero_pad", false, func(d *Dialect) *bool { return &d.ZeroPad }),
		pairOf("id_iv", "chained", "zero", func(d *Dialect) *bool { return &d.IDZeroIV }),
		choice("id_type", func(d *Dialect) *IDType { return &d.IDType }, IDName, IDAddress, IDFQDN, IDUserFQDN, IDKeyID),
		quoted("id", 255, func(d *Dialect) *string { return &d.ID }),
		quoted("peer_id", 255, func(d *Dialect) *string { return &d.PeerID }),
		pairOf("id_cert", "sign", "enc", func(d *Dialect) *bool { return &d.IDCertEnc }),
		pairOf("sig_encoding", "der", "raw", func(d *Dialect) *bool { return &d.SigRaw }),
		pairOf("sig_cert_body", "with", "without", func(d *Dialect) *bool { return &d.SigNoByte }),
		// The length in bits of a user ID is two bytes (GB/T 32918.2 5.5).
		quoted("sm2_id", 8191, func(d *Dialect) *string { return &d.SM2ID }),
		choice("hashr_sa", func(d *Dialect) *SASource { return &d.HashrSA }, SAInitiator, SAResponder),
		choice("qm_hash", func(d *Dialect) *HashForm { return &d.QMHash }, HashRFC2409, HashStdFull, HashStdBody),
		choice("esp_sm4_id", func(d *Dialect) *ESPNumbers { return &d.ESPSM4 }, ESPBoth, ESPOnly129, ESPOnly127),
		{"esp_gcm_id", readGCM, func(d Dialect) string { return fmt.Sprint(d.GCMNumber()) }},
		{"esp_icv_bits", readICV, func(d Dialect) string { return ICVWord(d.ICV()) }},
		pairOf("dpd_spi", "cookies", "none", func(d *Dialect) *bool { return &d.DPDNoSPI }),
		pairOf("dpd_order", "hash-first", "notify-first", func(d *Dialect) *bool { return &d.DPDFirst }),
		pairOf("accept", "any", "exact", func(d *Dialect) *bool { return &d.Exact }),
		truth("strict_lifetime", false, func(d *Dialect) *bool { return &d.StrictLifetime }),
		truth("allow_narrowing", false, func(d *Dialect) *bool { return &d.AllowNarrowing }),
	}
}

// readGCM reads a transform ID of private use (RFC 2407 4.4.4 leaves 249 to 255
// to them; the products take lower ones) that is not one of SM4-CBC or SM1.
func readGCM(f field, d *Dialect) {
	f.int(&d.ESPGCM, 12, 255)
	if d.ESPGCM >= 127 && d.ESPGCM <= 129 {
		f.fault("%d is SM4-CBC or SM1-CBC; write the number that the peer has for SM4-GCM", d.ESPGCM)
	}
	if d.ESPGCM == 130 {
		d.ESPGCM = 0
	}
}

func readNonce(f field, d *Dialect) {
	n := d.NonceLength()
	f.int(&n, minNonce, maxNonce)
	if d.Nonce = n; n == defaultNonce {
		d.Nonce = 0
	}
}

func readICV(f field, d *Dialect) {
	s, ok := f.word()
	if !ok {
		return
	}
	bits, ok := icvOf(s)
	if !ok {
		f.fault("%q is not one of 96, 128, 256, auto", s)
		return
	}
	if d.ICVBits = bits; bits == defaultICV {
		d.ICVBits = 0
	}
}

// dialect reads the knobs that are given and leaves the others alone.
func (r *reader) dialect(f field, d *Dialect) {
	o := r.object(f.node, f.path)
	for _, k := range knobs() {
		k.read(o.get(k.name), d)
	}
	o.done()
	d.coherent(o)
}

// coherent checks what no knob can tell alone.
func (d *Dialect) coherent(o *object) {
	id := o.get("id")
	if d.FieldPad == PadZeros && d.Nonce != 0 {
		o.get("nonce_length").fault("cannot be told from zeros that pad it (field_pad: zeros); leave it at %d", defaultNonce)
	}
	switch {
	case d.IDType >= IDFQDN && d.ID == "":
		id.fault("is missing; id_type: %v says what it holds, write it", d.IDType)
	case d.IDType == IDName && d.ID != "":
		id.fault("needs an id_type: a dn is that of the certificate")
	case d.IDType == IDAddress && d.ID != "":
		if _, err := netip.ParseAddr(d.ID); err != nil {
			id.fault("%q is no address, as id_type: ip wants", d.ID)
		}
	}
}

// KnobNames are the names of all knobs.
func KnobNames() []string {
	var out []string
	for _, k := range knobs() {
		out = append(out, k.name)
	}
	return out
}

// Knob is a knob and what it is set to, in the words of the policy file.
type Knob struct{ Name, Value string }

// String writes "name: value".
func (k Knob) String() string { return k.Name + ": " + k.Value }

// Words lists every knob with the value that it has in d.
func (d Dialect) Words() []Knob {
	var out []Knob
	for _, k := range knobs() {
		out = append(out, Knob{k.name, k.word(d)})
	}
	return out
}

// Against lists the knobs in which d differs from base, with the values of d.
func (d Dialect) Against(base Dialect) []Knob {
	if d == base {
		return nil // as nearly always, and it is asked at each negotiation
	}
	var out []Knob
	for _, k := range knobs() {
		if w := k.word(d); w != k.word(base) {
			out = append(out, Knob{k.name, w})
		}
	}
	return out
}

// String writes every knob that differs from the recommended choice, as the value
// of dialect: in a policy file.
func (d Dialect) String() string { return flow(d.Against(Dialect{})) }

func flow(list []Knob) string {
	words := make([]string, len(list))
	for i, k := range list {
		words[i] = k.String()
	}
	return "{" + strings.Join(words, ", ") + "}"
}

// With sets knobs on d. The error names the knob that is not known or whose value
// is not.
func (d Dialect) With(list ...Knob) (Dialect, error) {
	r := &reader{}
	all := knobs()
	for _, one := range list {
		i := slices.IndexFunc(all, func(k knob) bool { return k.name == one.Name })
		if i < 0 {
			return d, fmt.Errorf("dialect: no knob is called %q", one.Name)
		}
		n := scalarNode(one.Value)
		if strings.HasPrefix(all[i].word(d), `"`) && n.kind != kindBad {
			n.kind = kindText // a text may look like a number
		}
		all[i].read(field{r: r, node: n, path: one.Name, here: true}, &d)
	}
	if len(r.errs) > 0 {
		return d, fmt.Errorf("dialect: %w", r.errs[0])
	}
	return d, nil
}

// scalarNode reads a value as it stands in a line of a policy file.
func scalarNode(value string) *node {
	n := &node{kind: kindText, text: value}
	switch {
	case len(value) >= 2 && value[0] == '"':
		if _, err := fmt.Sscanf(value, "%q", &n.text); err != nil {
			n.kind = kindBad
		}
	case value == "true", value == "false":
		n.kind = kindBool
	case strings.Trim(value, "0123456789") == "":
		n.kind = kindNumber
	}
	return n
}
