package lanes

import (
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"hash"
)

const (
	// SumSize is the whole HMAC-SM3 in bytes.
	SumSize   = 32
	hashBlock = 64
	hashLanes = 8
)

// sm3Lanes is what the SM3 kernels work on; gen knows its layout.
type sm3Lanes struct {
	state [8][hashLanes]uint32
	data  [hashLanes]*byte
}

// MAC is a key of HMAC-SM3 (RFC 2104): the chaining states behind the two key
// blocks, so that a message costs two compressions less. Its methods are for one
// goroutine at a time.
type MAC struct {
	path         Path
	inner, outer [8]uint32
	soft         *softMAC // for a message that is alone, and on Generic
}

// NewMAC makes the states of a key of at most 64 bytes for a path, which must be
// one of Paths. It does not keep key.
func NewMAC(p Path, key []byte) (*MAC, error) {
	if p > best {
		return nil, fmt.Errorf("this processor cannot run path %v", p)
	}
	soft, err := newSoftMAC(key)
	if err != nil {
		return nil, err
	}
	m := &MAC{path: p, soft: soft}
	if p != Generic {
		var block [hashBlock]byte
		m.inner = m.padded(&block, key, 0x36)
		m.outer = m.padded(&block, key, 0x5c)
		clear(block[:])
	}
	return m, nil
}

// NewHashMAC is HMAC of another hash, whose state can be saved and whose sums have
// 32 bytes: one message after another, among the jobs of a Lanes too.
func NewHashMAC(h hash.Hash, key []byte) (*MAC, error) {
	soft, err := newStatefulMAC(h, key)
	return &MAC{path: Generic, soft: soft}, err
}

// padded is the state behind a key block.
func (m *MAC) padded(block *[hashBlock]byte, key []byte, with byte) (state [8]uint32) {
	clear(block[:])
	copy(block[:], key)
	for i := range block {
		block[i] ^= with
	}
	var s sm3Lanes
	for i, v := range [8]uint32{0x7380166f, 0x4914b2b9, 0x172442d7, 0xda8a0600, 0xa96f30bc, 0x163138aa, 0xe38dee4d, 0xb0fb0e4e} {
		for lane := range hashLanes {
			s.state[i][lane], s.data[lane] = v, &block[0]
		}
	}
	compress(m.path, &s, 1)
	for i := range state {
		state[i] = s.state[i][0]
	}
	clear(s.state[:])
	return state
}

// Sum writes the 32 bytes of the HMAC of a followed by b.
func (m *MAC) Sum(sum *[SumSize]byte, a, b []byte) { copy(sum[:], m.soft.of(a, b)) }

// Equal compares the first bytes of sum with icv, in constant time.
func Equal(sum *[SumSize]byte, icv []byte) bool {
	return len(icv) <= SumSize && subtle.ConstantTimeCompare(sum[:len(icv)], icv) == 1
}

// Wipe overwrites the states; the key must not be used again.
func (m *MAC) Wipe() {
	clear(m.inner[:])
	clear(m.outer[:])
	if m.soft != nil {
		m.soft.wipe()
	}
	*m = MAC{}
}

// HMAC is one message to authenticate.
type HMAC struct {
	Key  *MAC
	Data []byte
	Tail []byte // behind Data, at most 4 bytes: the half of an ESN that is not sent
	Sum  [SumSize]byte
}

// macLanes is the scratch memory of HMAC.
type macLanes struct {
	sm3  sm3Lanes
	lane [hashLanes]macLane
}

// macLane is one message on its way: first the whole blocks of its data, then the
// rest with the padding, then the outer block.
type macLane struct {
	job   *HMAC
	stage int
	left  int // blocks of this stage
	data  []byte
	end   [2 * hashBlock]byte
}

// HMAC computes Sum of every job. The jobs may have different keys and any lengths.
// One alone is hashed by gmsm, which is faster for it.
func (l *Lanes) HMAC(jobs []HMAC) {
	l.order = l.order[:0]
	path := Generic
	for i := range jobs {
		if j := &jobs[i]; len(jobs) == 1 || j.Key.path == Generic {
			j.Key.Sum(&j.Sum, j.Data, j.Tail)
		} else {
			l.order, path = append(l.order, place(len(j.Data)/hashBlock, i)), j.Key.path
		}
	}
	if len(l.order) == 0 {
		return
	}
	longestFirst(l.order)
	r := macRun{macLanes: &l.mac, jobs: jobs, next: l.order}
	r.run(path)
	clear(l.mac.sm3.state[:])
	clear(l.mac.sm3.data[:])
	clear(l.mac.lane[:])
}

// macRun is one call of HMAC.
type macRun struct {
	*macLanes
	jobs []HMAC
	next []uint64
	live int // lanes at work; they need not be the first
}

func (r *macRun) run(p Path) {
	for i := range hashLanes {
		r.take(i)
	}
	for r.live > 0 {
		n, some := r.shortest()
		for i := range r.lane {
			l := &r.lane[i]
			r.sm3.data[i] = some // a lane without a message hashes another's, for nothing
			if l.job != nil {
				r.sm3.data[i] = &l.data[0]
			}
		}
		compress(p, &r.sm3, n)
		r.advance(n)
	}
}

// shortest is how many blocks every lane has at least, and the data of a lane.
func (r *macRun) shortest() (n int, some *byte) {
	for i := range r.lane {
		if l := &r.lane[i]; l.job != nil && (some == nil || l.left < n) {
			n, some = l.left, &l.data[0]
		}
	}
	return n, some
}

func (r *macRun) advance(n int) {
	for i := range r.lane {
		l := &r.lane[i]
		if l.job == nil {
			continue
		}
		l.left -= n
		if l.left > 0 {
			l.data = l.data[n*hashBlock:]
			continue
		}
		switch l.stage++; l.stage {
		case 1:
			l.finish()
		case 2:
			r.turn(i)
		default:
			r.read(i, l.job.Sum[:])
			l.job = nil
			r.live--
			r.take(i)
		}
	}
}

// take gives a lane the next message, if there is one.
func (r *macRun) take(lane int) {
	if len(r.next) == 0 {
		return
	}
	job := &r.jobs[uint32(r.next[0])]
	r.next = r.next[1:]
	r.live++
	l := &r.lane[lane]
	l.job, l.stage, l.data, l.left = job, 0, job.Data, len(job.Data)/hashBlock
	r.load(lane, &job.Key.inner)
	if l.left == 0 {
		l.stage = 1
		l.finish()
	}
}

// finish prepares what is behind the whole blocks of the data: the rest, the tail,
// a one bit and the length, which counts the key block.
func (l *macLane) finish() {
	rest := l.job.Data[len(l.job.Data)/hashBlock*hashBlock:]
	clear(l.end[:])
	n := copy(l.end[:], rest)
	n += copy(l.end[n:], l.job.Tail)
	l.end[n] = 0x80
	l.left = (n + 1 + 8 + hashBlock - 1) / hashBlock
	l.data = l.end[:l.left*hashBlock]
	bits := uint64(hashBlock+len(l.job.Data)+len(l.job.Tail)) * 8
	binary.BigEndian.PutUint64(l.data[len(l.data)-8:], bits)
}

// turn goes on to the outer hash, of the inner sum.
func (r *macRun) turn(lane int) {
	l := &r.lane[lane]
	clear(l.end[:hashBlock])
	r.read(lane, l.end[:SumSize])
	l.end[SumSize] = 0x80
	binary.BigEndian.PutUint64(l.end[hashBlock-8:], (hashBlock+SumSize)*8)
	l.data, l.left = l.end[:hashBlock], 1
	r.load(lane, &l.job.Key.outer)
}

func (r *macRun) load(lane int, state *[8]uint32) {
	for i, v := range state {
		r.sm3.state[i][lane] = v
	}
}

func (r *macRun) read(lane int, sum []byte) {
	for i := range r.sm3.state {
		binary.BigEndian.PutUint32(sum[4*i:], r.sm3.state[i][lane])
	}
}
