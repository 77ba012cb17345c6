package config

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// outline finds the line of each key of a file, and what viper would pass over
// in silence: unknown keys, lists and tables where a word belongs, aliases, more
// than one document.
func outline(file string, raw []byte) (map[string]int, []error) {
	decoder := yaml.NewDecoder(strings.NewReader(string(raw)))
	var doc, second yaml.Node
	lines := map[string]int{}
	if err := decoder.Decode(&doc); err != nil {
		if len(strings.TrimSpace(string(raw))) == 0 || err.Error() == "EOF" {
			return lines, nil // nothing but comments: all defaults
		}
		return nil, []error{fmt.Errorf("%s: %w", file, err)}
	}
	if decoder.Decode(&second) == nil {
		return nil, []error{fmt.Errorf("%s:%d: a second document: one file holds one configuration", file, second.Line)}
	}
	o := &outliner{file: file, lines: lines}
	if len(doc.Content) == 1 {
		o.table("", doc.Content[0])
	}
	return o.lines, o.faults
}

type outliner struct {
	file   string
	lines  map[string]int
	faults []error
}

func (o *outliner) fault(n *yaml.Node, format string, args ...any) {
	o.faults = append(o.faults, fmt.Errorf("%s:%d: %s", o.file, n.Line, fmt.Sprintf(format, args...)))
}

// table walks one mapping; prefix is "" or "log.".
func (o *outliner) table(prefix string, n *yaml.Node) {
	if n.Tag == "!!null" {
		return // nothing but comments
	}
	if n.Kind != yaml.MappingNode {
		o.fault(n, "keys and values belong here, such as %q", "policy: policy.yaml")
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		key := prefix + name.Value
		if _, twice := o.lines[key]; twice {
			o.fault(name, "%s: given a second time", key)
			continue
		}
		o.lines[key] = name.Line
		o.value(key, name, value)
	}
}

func (o *outliner) value(key string, name, value *yaml.Node) {
	var known, parent bool
	for _, s := range settings() {
		known = known || s.key == key
		parent = parent || strings.HasPrefix(s.key, key+".")
	}
	switch {
	case parent:
		o.table(key+".", value)
	case !known:
		o.fault(name, "%s: unknown key; %s", key, nearest(key))
	case value.Kind != yaml.ScalarNode:
		o.fault(value, "%s: one value belongs here, not a list, a table or an alias", key)
	}
}

// nearest suggests the known key that shares most with a wrong one.
func nearest(key string) string {
	best, shared := "", 0
	var all []string
	for _, s := range settings() {
		all = append(all, s.key)
		n := 0
		for n < min(len(key), len(s.key)) && key[n] == s.key[n] {
			n++
		}
		if n > shared {
			best, shared = s.key, n
		}
	}
	if shared >= 3 {
		return fmt.Sprintf("did you mean %s?", best)
	}
	slices.Sort(all)
	return "known keys: " + strings.Join(all, ", ")
}
