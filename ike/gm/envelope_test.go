package gm

// counter is a reader of predictable bytes; its value is where it starts.
type counter byte

func (c counter) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(c) + byte(i)*37 + 11
	}
	return len(p), nil
}
