package esp

import "yumen/esp/internal/lanes"

// Sealing is one packet for Batch.Seal.
type Sealing struct {
	SA         *Outbound
	Dst, Inner []byte // as Outbound.Seal takes them
	Packet     []byte // what Outbound.Seal returns
	Err        error
}

// Opening is one packet for Batch.Open.
type Opening struct {
	SA          *Inbound
	Dst, Packet []byte // as Inbound.Open takes them
	Inner       []byte // what Inbound.Open returns
	Err         error
}

// Batch seals and opens many packets at once, of one SA or of many: SM4-CBC and
// HMAC-SM3 run over several packets side by side, which is several times as fast as
// one after another. It works on what it is given and waits for nothing, so a
// data plane hands it whatever one read brought, be it one packet.
//
// A Batch is the scratch memory of one worker: it is for one goroutine at a time,
// holds no secret between two calls, and allocates only until it has seen its
// largest batch. The zero value is ready. While it is at work its SAs are used, as
// by Seal and Open.
type Batch struct {
	lanes lanes.Lanes
	cbc   []lanes.CBC
	mac   []lanes.HMAC
	job   []int // of each MAC
	seq   []uint64
	high  [][4]byte
}

// Seal does what Outbound.Seal does for each job in the order given: numbers,
// limits, results and errors are the same. The memory of two jobs must not
// overlap. With Dst of enough room nothing is allocated; Inner may lie in it,
// HeaderRoom bytes behind len(Dst), and is then sealed in place.
func (b *Batch) Seal(jobs []Sealing) {
	b.reserve(len(jobs))
	for i := range jobs {
		j := &jobs[i]
		var packet []byte
		var seq uint64
		j.Packet, packet, seq, j.Err = j.SA.begin(j.Dst, j.Inner)
		if j.Err != nil {
			continue
		}
		k := j.SA.keys
		if k.aead != nil {
			k.seal(packet, seq)
			continue
		}
		body, end := k.parts(packet)
		iv := packet[headerLen:body]
		k.iv.next(iv, seq)
		b.cbc = append(b.cbc, lanes.CBC{Key: k.cipher, IV: iv, Data: packet[body:end]})
		b.sum(i, k, packet, seq)
	}
	b.lanes.EncryptCBC(b.cbc)
	b.lanes.HMAC(b.mac)
	for i, job := range b.job {
		// How long the ICV is says the packet: the SA may have learned it meanwhile.
		m, j := &b.mac[i], &jobs[job]
		copy(j.Packet[len(j.Dst)+len(m.Data):], m.Sum[:])
	}
	b.forget()
}

// Open does what Inbound.Open does for each job in the order given: replay checks,
// counters, results and errors are the same, also where one SA has several
// packets, or one packet twice, in a batch. The memory of two jobs must not
// overlap. Afterwards Inbound.Highest is true of the highest packet of an SA only.
func (b *Batch) Open(jobs []Opening) {
	b.reserve(len(jobs))
	for i := range jobs {
		j := &jobs[i]
		// What is refused here may be let in below, after the packets before it,
		// and the other way round. Then its MAC is computed alone, or for nothing.
		if seq, err := j.SA.fresh(j.Packet); err == nil && j.SA.keys.aead == nil && !j.SA.learning {
			b.sum(i, j.SA.keys, j.Packet, seq)
		}
	}
	b.lanes.HMAC(b.mac)
	next := 0
	for i := range jobs {
		j := &jobs[i]
		if next == len(b.job) || b.job[next] != i {
			j.Inner, j.Err = j.SA.Open(j.Dst, j.Packet)
			continue
		}
		j.Inner, j.Err = j.SA.openWith(j.Dst, j.Packet, &known{seq: b.seq[next], sum: &b.mac[next].Sum})
		next++
	}
	b.forget()
}

// sum orders the MAC of a packet of a job.
func (b *Batch) sum(job int, k *keys, packet []byte, seq uint64) {
	_, end := k.parts(packet)
	n := len(b.mac)
	b.mac = append(b.mac, lanes.HMAC{Key: k.mac, Data: packet[:end], Tail: k.sequenceHigh(&b.high[n], seq)})
	b.job, b.seq = append(b.job, job), append(b.seq, seq)
}

func (b *Batch) reserve(n int) {
	if n > len(b.high) {
		b.high = make([][4]byte, n)
	}
}

// forget lets go of keys and packets.
func (b *Batch) forget() {
	clear(b.cbc)
	clear(b.mac)
	b.cbc, b.mac, b.job, b.seq = b.cbc[:0], b.mac[:0], b.job[:0], b.seq[:0]
}
