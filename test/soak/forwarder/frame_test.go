package forwarder

import (
	"bytes"
	"encoding/hex"
	"math/rand/v2"
	"testing"
)

func frame(t *testing.T, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return append(bytes.Repeat([]byte{2}, 12), b...)
}

const (
	ip4 = "0800" + "45000040000000004032" + "0000" + "c0000202c0000203"
	udp = "0800" + "45000040000000004011" + "0000" + "c0000202c0000203"
	ip6 = "86dd" + "60000000001832ff" + "20010db8000000000000000000000010" + "20010db8000000000000000000000020"
	hdr = "1111111111111111222222222222222200102001" + "00000007" + "0000001c"
)

func TestFramesAreToldApart(t *testing.T) {
	ike := Identity{Kind: IKE, Exchange: 0x20, MessageID: 7}
	copy(ike.Cookies[:], bytes.Repeat([]byte{0x11}, 8))
	copy(ike.Cookies[8:], bytes.Repeat([]byte{0x22}, 8))
	for _, c := range []struct {
		name, frame string
		want        Identity
	}{
		{"ESP over IPv4", ip4 + "1a2b3c4d00000011aabb", Identity{Kind: ESP, SPI: 0x1a2b3c4d, Seq: 17}},
		{"ESP over IPv6", ip6 + "1a2b3c4d00000011aabb", Identity{Kind: ESP, SPI: 0x1a2b3c4d, Seq: 17}},
		{"ESP in UDP", udp + "1194119400100000" + "1a2b3c4d00000011", Identity{Kind: ESP, SPI: 0x1a2b3c4d, Seq: 17}},
		{"keepalive", udp + "1194119400090000" + "ff", Identity{Kind: Keepalive}},
		{"IKE on 500", udp + "01f401f400240000" + hdr, ike},
		{"IKE on 4500", udp + "1194119400280000" + "00000000" + hdr, ike},
		{"IKE from a mapped port", udp + "9c40119400280000" + "00000000" + hdr, ike},
		{"other UDP", udp + "1b581b5800100000" + "1a2b3c4d00000011", Identity{}},
		{"a piece of a fragmented packet", "0800" + "45000040000020004032" + "0000" + "c0000202c0000203" + "1a2b3c4d00000011", Identity{}},
		{"ARP", "0806" + "0001", Identity{}},
		{"cut in ESP", ip4 + "1a2b3c4d0000", Identity{}},
		{"cut in the header", "0800" + "4500", Identity{}},
	} {
		if got := Identify(frame(t, c.frame)); got != c.want {
			t.Errorf("%s: %+v, expected %+v", c.name, got, c.want)
		}
	}
}

func TestWeatherFollowsItsSeedAndSparesWhatIsNotOurs(t *testing.T) {
	w := Weather{Loss: 0.02, Repeat: 0.01, Delay: 0.02}
	draw := func(seed uint64, id Identity) (c Count, story []Fate) {
		dice := rand.New(rand.NewPCG(seed, 0))
		for range 10000 {
			fate := w.fate(dice, true, id)
			c.add(fate)
			story = append(story, fate)
		}
		return c, story
	}
	c, one := draw(7, Identity{Kind: ESP})
	if c.Dropped < 120 || c.Dropped > 280 || c.Repeated < 40 || c.Repeated > 160 || c.Delayed < 120 || c.Delayed > 280 {
		t.Errorf("of 10000: %+v", c)
	}
	if _, two := draw(7, Identity{Kind: ESP}); !bytes.Equal(fates(one), fates(two)) {
		t.Error("the same seed makes another weather")
	}
	if _, two := draw(8, Identity{Kind: ESP}); bytes.Equal(fates(one), fates(two)) {
		t.Error("another seed makes the same weather")
	}
	if c, _ := draw(7, Identity{}); c != (Count{Seen: 10000}) {
		t.Errorf("what is not ours: %+v", c)
	}
	w.Decide = func(toB bool, id Identity) Fate {
		if id.Exchange == Informational {
			return Drop
		}
		return Pass
	}
	if c, _ := draw(7, Identity{Kind: IKE, Exchange: Informational}); c.Dropped != 10000 {
		t.Errorf("informationals: %+v", c)
	}
}

func fates(list []Fate) (b []byte) {
	for _, f := range list {
		b = append(b, byte(f))
	}
	return b
}
