package lanes

import "slices"

// Lanes is the scratch memory of one worker. The zero value is ready; it is for
// one goroutine at a time and holds no secret between two calls.
type Lanes struct {
	cbc   cbcLanes
	left  [maxLanes]int    // blocks that a lane has not done yet
	data  [maxLanes][]byte // what a lane works on, from its next block
	idle  [idleSize]byte   // what lanes without a packet work on
	order []uint64
	mac   macLanes
}

const (
	maxLanes = 24
	idleSize = 1024
)

// cbcLanes is what the encrypting kernels work on; gen knows its layout.
type cbcLanes struct {
	rk    [32][maxLanes]uint32 // by round, so that a kernel loads eight lanes at once
	chain [12][8]uint32        // the last ciphertext: four words for each group
	buf   [maxLanes]*byte
}

// CBC is one message to encrypt in place.
type CBC struct {
	Key  *Key
	IV   []byte // 16 bytes, not changed; may lie right before Data
	Data []byte // whole blocks
}

// EncryptCBC encrypts every job under CBC. The jobs may have different keys and any
// lengths; they must not overlap. It never waits for more jobs: what is there
// shares the lanes, and when a message ends the next one takes its lane. Long ones
// go first, so that none is left alone at the end.
func (l *Lanes) EncryptCBC(jobs []CBC) {
	l.order = l.order[:0]
	path := Generic
	for i := range jobs {
		j := &jobs[i]
		switch n := len(j.Data) / BlockSize; {
		case n == 0:
		case j.Key.soft != nil:
			j.Key.soft.encrypt(j.IV, j.Data)
		default:
			l.order, path = append(l.order, place(n, i)), j.Key.path
		}
	}
	if len(l.order) == 0 {
		return
	}
	longestFirst(l.order)
	r := cbcRun{Lanes: l, jobs: jobs, next: l.order, path: path}
	r.run()
	clear(l.cbc.rk[:])
	clear(l.cbc.chain[:])
	clear(l.cbc.buf[:])
	clear(l.data[:])
}

// EncryptCBC encrypts one message in place. On the fast paths it takes one lane of
// eight: about the speed of gmsm's tables, but nothing is looked up.
func (k *Key) EncryptCBC(iv, data []byte) {
	if k.soft != nil {
		k.soft.encrypt(iv, data)
		return
	}
	var s cbcLanes
	var idle [idleSize]byte
	for i, v := range &k.enc {
		s.rk[i][0] = v
	}
	for i, w := range words(iv) {
		s.chain[i][0] = w
	}
	for i := range s.buf[:8] {
		s.buf[i] = &idle[0]
	}
	for len(data) > 0 {
		n := min(len(data), idleSize)
		s.buf[0] = &data[0]
		cbcEncrypt(k.path, 1, &s, n/BlockSize)
		data = data[n:]
	}
	clear(s.rk[:])
	clear(s.chain[:])
}

// place is a job in an order by length.
func place(length, job int) uint64 { return uint64(length)<<32 | uint64(job) }

func longestFirst(order []uint64) {
	for i := 1; i < len(order); i++ {
		if order[i]>>32 != order[0]>>32 { // equal lengths need no order
			slices.Sort(order)
			slices.Reverse(order)
			return
		}
	}
}

// cbcRun is one call of EncryptCBC.
type cbcRun struct {
	*Lanes
	jobs []CBC
	next []uint64
	path Path
	live int // lanes at work; they are the first ones
}

func (r *cbcRun) run() {
	for r.live < maxLanes && len(r.next) > 0 {
		r.take(r.live)
		r.live++
	}
	for r.live > 0 {
		groups := (r.live + 7) / 8
		n := r.shortest()
		for i := r.live; i < 8*groups; i++ {
			n = min(n, idleSize/BlockSize)
			r.cbc.buf[i] = &r.idle[0]
		}
		cbcEncrypt(r.path, groups, &r.cbc, n)
		r.advance(n)
	}
}

func (r *cbcRun) shortest() int {
	n := r.left[0]
	for _, v := range r.left[1:r.live] {
		n = min(n, v)
	}
	return n
}

// take gives a lane the next job.
func (r *cbcRun) take(lane int) {
	job := &r.jobs[uint32(r.next[0])]
	r.next = r.next[1:]
	for i, k := range &job.Key.enc {
		r.cbc.rk[i][lane] = k
	}
	for i, w := range words(job.IV) {
		r.cbc.chain[4*(lane/8)+i][lane%8] = w
	}
	r.left[lane] = len(job.Data) / BlockSize
	r.data[lane], r.cbc.buf[lane] = job.Data, &job.Data[0]
}

// advance notes n blocks done in every lane, and fills lanes that are free: with
// the next job, or else with the last lane, so that fewer groups are needed.
func (r *cbcRun) advance(n int) {
	for lane := 0; lane < r.live; {
		r.left[lane] -= n
		switch {
		case r.left[lane] > 0:
			r.data[lane] = r.data[lane][n*BlockSize:]
			r.cbc.buf[lane] = &r.data[lane][0]
		case len(r.next) > 0:
			r.take(lane)
		default:
			r.live--
			r.move(r.live, lane)
			continue // what moved here is behind by n
		}
		lane++
	}
}

func (r *cbcRun) move(from, to int) {
	if from == to {
		return
	}
	for i := range &r.cbc.rk {
		r.cbc.rk[i][to] = r.cbc.rk[i][from]
	}
	for i := range 4 {
		r.cbc.chain[4*(to/8)+i][to%8] = r.cbc.chain[4*(from/8)+i][from%8]
	}
	r.left[to], r.data[to], r.cbc.buf[to] = r.left[from], r.data[from], r.cbc.buf[from]
}
