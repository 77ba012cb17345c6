package interop_test

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"testing"

	"yumen/esp"
	"yumen/policy"
	"yumen/policy/secret"
)

// espCase is one packet before scapy.
type espCase struct {
	Cipher string `json:"cipher"`
	MAC    string `json:"mac"`
	Keymat string `json:"keymat"`
	SPI    uint32 `json:"spi"`
	ESN    bool   `json:"esn"`
	High   uint32 `json:"high"`
	UDP    bool   `json:"udp"`
	Outer6 bool   `json:"outer6"`
	Packet string `json:"packet"`

	child esp.Child
	state esp.State
	inner []byte
	bad   bool // changed on its way
}

// verdict is what scapy makes of it: what was inside, and the packet made anew.
type verdict struct {
	Inner string `json:"inner"`
	Again string `json:"again"`
	Fault string `json:"fault"`
}

// Debian's own Python, which has Debian's scapy.
const python = "/usr/bin/python3"

func TestScapyOpensAndMakesTheSameESPPackets(t *testing.T) {
	t.Parallel()
	if out, err := exec.Command(python, "-c", "import scapy.layers.ipsec, cryptography.hazmat.primitives.hashes as h; h.SM3").CombinedOutput(); err != nil {
		t.Skipf("SKIP scapy: %v: %s", err, out)
	}
	cases := espCases(t)
	in, err := json.Marshal(cases)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(python, "judge/esp.py")
	var faults bytes.Buffer
	cmd.Stdin, cmd.Stderr = bytes.NewReader(in), &faults
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("scapy: %v\n%s", err, faults.String())
	}
	var verdicts []verdict
	if err := json.Unmarshal(out, &verdicts); err != nil || len(verdicts) != len(cases) {
		t.Fatalf("%d verdicts on %d packets: %v", len(verdicts), len(cases), err)
	}
	for i, c := range cases {
		if why := c.compare(verdicts[i]); why != "" {
			t.Errorf("%s %s %d bits, esn %v, udp %v, %d bytes inside: %s", c.Cipher, c.MAC, c.child.ICVBits, c.ESN, c.UDP, len(c.inner), why)
		}
	}
	if t.Failed() {
		_ = os.MkdirAll("../../build/failed", 0o755)
		_ = os.WriteFile("../../build/failed/scapy-cases.json", in, 0o600)
		t.Log("the packets are in build/failed/scapy-cases.json")
	}
	t.Logf("%d packets", len(cases))
}

// compare says what is wrong with a verdict, and opens the packet that scapy made.
func (c espCase) compare(v verdict) string {
	switch {
	case c.bad && v.Fault == "":
		return "scapy took a packet that was changed on its way"
	case c.bad:
		return ""
	case v.Fault != "":
		return "scapy refuses: " + v.Fault
	case v.Inner != hex.EncodeToString(c.inner):
		return "inside is " + v.Inner
	case v.Again != c.Packet:
		return "scapy makes " + v.Again + " of it, we " + c.Packet
	}
	made, err := hex.DecodeString(v.Again)
	if err != nil {
		return err.Error()
	}
	in, err := esp.NewInbound(c.child, c.state)
	if err != nil {
		return err.Error()
	}
	defer in.Close()
	opened, err := in.Open(nil, made)
	if err != nil || !bytes.Equal(opened, c.inner) {
		return fmt.Sprintf("we do not open what scapy made: %v", err)
	}
	return ""
}

func espCases(t *testing.T) (all []espCase) {
	t.Helper()
	for _, s := range []struct {
		suite       policy.Suite
		icv         int
		cipher, mac string
	}{
		{policy.SM4CBCHMACSM3, 96, "SM4-CBC", "HMAC-SM3-96"}, {policy.SM4CBCHMACSM3, 128, "SM4-CBC", "HMAC-SM3-128"},
		{policy.SM4CBCHMACSM3, 256, "SM4-CBC", "HMAC-SM3-256"}, {policy.SM4GCM128, 128, "SM4-GCM", ""},
		{policy.AESCBCHMACSHA256, 128, "AES-CBC", "SHA2-256-128"},
	} {
		for n := range 20 {
			// Extended numbers of ESP are known to scapy with combined modes only.
			esn := n&1 != 0 && s.mac == ""
			c := espCase{Cipher: s.cipher, MAC: s.mac, SPI: 0x1000 + uint32(n), ESN: esn, UDP: n&2 != 0, Outer6: n&4 != 0, bad: n >= 16}
			c.child = esp.Child{ID: 1, Suite: s.suite, ICVBits: s.icv, ESN: c.ESN, Window: 64}
			// All lengths modulo a block, and long ones.
			c.seal(t, n*(1+n/4*23), n&8 != 0)
			all = append(all, c)
		}
	}
	return all
}

// seal makes a packet with size bytes of UDP inside.
func (c *espCase) seal(t *testing.T, size int, v6 bool) {
	t.Helper()
	mat := make([]byte, esp.KeymatLen(c.child.Suite))
	_, _ = rand.Read(mat)
	c.Keymat = hex.EncodeToString(mat)
	local, remote := netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("10.2.0.0/16")
	c.inner = udp4(size)
	if v6 {
		local, remote = netip.MustParsePrefix("fd01::/64"), netip.MustParsePrefix("fd02::/64")
		c.inner = udp6(size)
	}
	half := esp.Half{SPI: esp.SPI(c.SPI), Keymat: secret.New(mat)}
	sender := c.child
	sender.Out, sender.In = half, half
	sender.Selector = policy.Selector{Local: policy.NetOf(local), Remote: policy.NetOf(remote)}
	c.child = sender
	c.child.Selector = sender.Selector.Reverse()
	before := uint64(size) + 41
	if c.ESN {
		c.High = uint32(size) + 1
		before |= uint64(c.High) << 32
	}
	c.state = esp.State{InSeq: before}
	out, err := esp.NewOutbound(sender, esp.State{OutSeq: before}, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	packet, err := out.Seal(nil, c.inner)
	if err != nil {
		t.Fatal(err)
	}
	if c.bad {
		packet[len(packet)/2] ^= 1
	}
	c.Packet = hex.EncodeToString(packet)
}

// udp4 is an IPv4 packet with a UDP datagram of that many bytes.
func udp4(size int) []byte {
	b := make([]byte, 28+size)
	b[0], b[8], b[9] = 0x45, 64, 17
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	copy(b[12:], []byte{10, 1, 0, 1, 10, 2, 0, 1})
	sum := uint32(0)
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	binary.BigEndian.PutUint16(b[10:], ^uint16(sum+sum>>16))
	datagram(b[20:])
	return b
}

func udp6(size int) []byte {
	b := make([]byte, 48+size)
	b[0], b[6], b[7] = 0x60, 17, 64
	binary.BigEndian.PutUint16(b[4:], uint16(8+size))
	copy(b[8:], netip.MustParseAddr("fd01::1").AsSlice())
	copy(b[24:], netip.MustParseAddr("fd02::1").AsSlice())
	datagram(b[40:])
	return b
}

// datagram fills a UDP datagram. Its checksum is not zero, so that scapy leaves it
// as it is.
func datagram(b []byte) {
	binary.BigEndian.PutUint16(b, 4242)
	binary.BigEndian.PutUint16(b[2:], 4243)
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)))
	b[6], b[7] = 0x12, 0x34
	_, _ = rand.Read(b[8:])
}
