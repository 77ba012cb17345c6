package main

import (
	"bytes"
	"fmt"
)

// emitter collects one assembly file: text first, then the constants that the
// text named.
type emitter struct {
	text   bytes.Buffer
	names  []string
	consts map[string][]byte
	labels int
	pool   []byte // constants that are reached from a register in its middle
	place  map[string]int
	stubs  *bytes.Buffer
}

func newEmitter(stubs *bytes.Buffer, what string) *emitter {
	e := &emitter{consts: map[string][]byte{}, place: map[string]int{}, stubs: stubs}
	fmt.Fprintf(&e.text, "%s\n// %s\n\n#include \"textflag.h\"\n", banner, what)
	return e
}

// op writes one instruction, destination last.
func (e *emitter) op(name string, operands ...any) {
	e.text.WriteString("\t" + name)
	for i, o := range operands {
		if i > 0 {
			e.text.WriteByte(',')
		}
		fmt.Fprintf(&e.text, " %v", o)
	}
	e.text.WriteByte('\n')
}

// function opens a function and its declaration for Go.
func (e *emitter) function(name, params string, frame, args int, doc string) {
	fmt.Fprintf(&e.text, "\n// func %s(%s)\nTEXT ·%s(SB), 0, $%d-%d\n", name, params, name, frame, args)
	fmt.Fprintf(e.stubs, "\n// %s %s\n//\n//go:noescape\nfunc %s(%s)\n", name, doc, name, params)
}

func (e *emitter) ret() {
	e.op("VZEROUPPER")
	e.op("RET")
}

// loop runs body until counter, decremented, is 0. after is what advances.
func (e *emitter) loop(counter string, body func()) {
	e.labels++
	l := fmt.Sprintf("loop%d", e.labels)
	fmt.Fprintf(&e.text, "%s:\n", l)
	body()
	e.op("DECQ", counter)
	e.op("JNZ", l)
}

// constant names read-only bytes and returns their operand.
func (e *emitter) constant(name string, value []byte) string {
	if _, known := e.consts[name]; !known {
		e.names = append(e.names, name)
		e.consts[name] = value
	}
	return name + "<>(SB)"
}

// twice is a constant of 16 bytes in both halves of a register.
func (e *emitter) twice(name string, half []byte) string {
	return e.constant(name, append(append([]byte(nil), half...), half...))
}

// poolReach is what one byte of displacement reaches on either side of R11.
const poolReach = 128

// pooled puts a constant in the pool and returns its operand.
func (e *emitter) pooled(name string, value []byte) string {
	at, known := e.place[name]
	if !known {
		at = len(e.pool)
		e.place[name], e.pool = at, append(e.pool, value...)
	}
	return mem(at-poolReach, "R11")
}

func (e *emitter) poolMiddle() string { return fmt.Sprintf("pool<>+%d(SB)", poolReach) }

func (e *emitter) bytes() []byte {
	if len(e.pool) > 0 {
		e.constant("pool", e.pool)
	}
	for _, name := range e.names {
		v := e.consts[name]
		e.text.WriteByte('\n')
		for at := 0; at < len(v); at += 8 {
			var word uint64
			for i := range 8 {
				word |= uint64(v[at+i]) << (8 * i)
			}
			fmt.Fprintf(&e.text, "DATA %s<>+%d(SB)/8, $0x%016x\n", name, at, word)
		}
		fmt.Fprintf(&e.text, "GLOBL %s<>(SB), RODATA|NOPTR, $%d\n", name, len(v))
	}
	return e.text.Bytes()
}

// reg is a vector register; its number stands for the 128 and the 256 bit name.
type reg int

func (r reg) String() string { return fmt.Sprintf("Y%d", int(r)) }

// low is the 128-bit name.
func (r reg) low() string { return fmt.Sprintf("X%d", int(r)) }

func imm(n int) string { return fmt.Sprintf("$%d", n) }

func mem(offset int, base string) string { return fmt.Sprintf("%d(%s)", offset, base) }
