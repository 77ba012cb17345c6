package policy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// maxDepth is more than any policy needs; it bounds the recursion.
const maxDepth = 8

type kind uint8

const (
	kindBad    kind = iota // a fault was already reported: say nothing more
	kindNull               // nothing written
	kindText               // a string
	kindNumber             // a number or date, of whatever form
	kindBool
	kindList
	kindMap
)

// node is one value of the file, without the library's types.
type node struct {
	kind  kind
	line  int
	text  string // of a scalar, as written
	pairs []pair
	items []*node
}

type pair struct {
	key   string
	line  int
	value *node
}

// parse turns bytes into nodes, or reports faults and returns nil.
func (r *reader) parse(b []byte) *node {
	if !utf8.Valid(b) {
		r.fault(1+bytes.Count(b[:validPrefix(b)], []byte("\n")), "", "is not UTF-8; save the file as UTF-8")
		return nil
	}
	var doc, more yaml.Node
	d := yaml.NewDecoder(bytes.NewReader(b))
	if err := d.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			r.fault(1, "", "is empty; begin with site:, peers: and tunnels:")
			return nil
		}
		r.syntax(err)
		return nil
	}
	if err := d.Decode(&more); err == nil {
		r.fault(more.Line, "", "holds a second document; keep one")
		return nil
	} else if !errors.Is(err, io.EOF) {
		r.syntax(err)
		return nil
	}
	if len(doc.Content) != 1 {
		r.fault(1, "", "is empty; begin with site:, peers: and tunnels:")
		return nil
	}
	return r.node(doc.Content[0], "", 0)
}

func validPrefix(b []byte) int {
	n := 0
	for n < len(b) {
		c, size := utf8.DecodeRune(b[n:])
		if c == utf8.RuneError && size == 1 {
			break
		}
		n += size
	}
	return n
}

// syntax reports an error of the library, whose text carries the line.
func (r *reader) syntax(err error) {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	line := 1
	if n, scanErr := fmt.Sscanf(text, "line %d:", &line); n == 1 && scanErr == nil {
		_, text, _ = strings.Cut(text, ": ")
	}
	r.fault(line, "", "is not YAML: %s; check indentation and quotes near this line", text)
}

func (r *reader) node(n *yaml.Node, path string, depth int) *node {
	out := &node{line: n.Line}
	switch {
	case n.Kind == yaml.AliasNode:
		r.fault(n.Line, path, "aliases are not allowed; write the value out")
		return out
	case n.Anchor != "":
		r.fault(n.Line, path, "anchors are not allowed; remove &%s", n.Anchor)
		return out
	case n.Style&yaml.TaggedStyle != 0:
		r.fault(n.Line, path, "tags are not allowed; remove %s", n.Tag)
		return out
	case depth > maxDepth:
		r.fault(n.Line, path, "is nested too deeply; see the sample policies")
		return out
	}
	switch n.Kind {
	case yaml.ScalarNode:
		out.kind, out.text = scalar(n), n.Value
	case yaml.SequenceNode:
		out.kind = kindList
		for i, item := range n.Content {
			out.items = append(out.items, r.node(item, fmt.Sprintf("%s[%d]", path, i), depth+1))
		}
	case yaml.MappingNode:
		out.kind = kindMap
		r.pairs(out, n, path, depth)
	}
	return out
}

func (r *reader) pairs(out *node, n *yaml.Node, path string, depth int) {
	seen := make(map[string]int)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode || key.ShortTag() != "!!str" || key.Anchor != "" || key.Style&yaml.TaggedStyle != 0 {
			r.fault(key.Line, path, "holds a key that is not a plain word; write key: value")
			continue
		}
		below := join(path, key.Value)
		if first, ok := seen[key.Value]; ok {
			r.fault(key.Line, below, "is given twice, first at line %d; keep one", first)
			continue
		}
		seen[key.Value] = key.Line
		out.pairs = append(out.pairs, pair{key.Value, key.Line, r.node(value, below, depth+1)})
	}
}

func scalar(n *yaml.Node) kind {
	switch n.ShortTag() {
	case "!!null":
		return kindNull
	case "!!bool":
		return kindBool
	case "!!int", "!!float":
		return kindNumber
	case "!!str":
		return kindText
	}
	return kindNumber // timestamps and the like: a string only in quotes
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}
