package policy

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
)

// MaxFile is the largest policy file, in bytes.
const MaxFile = 1 << 20

// Load reads the policy file at path and checks it whole. Every fault is in the
// returned Errors, each with its line and key; a file that cannot be read gives
// the error of the file system.
func Load(path string) (*Policy, error) {
	// Opening a pipe that nobody writes to would wait for ever.
	if i, err := os.Lstat(path); err == nil && (i.IsDir() || i.Mode()&(os.ModeNamedPipe|os.ModeSocket) != 0) {
		return nil, fmt.Errorf("policy: %s is no file: name that of the policy", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	return Parse(path, b)
}

// Parse reads a policy from b; name is the file's name in errors, and the
// directory from which Resolve starts. What it returns also compiles.
func Parse(name string, b []byte) (*Policy, error) {
	r := &reader{file: name}
	if len(b) > MaxFile {
		r.fault(0, "", "is larger than 1 MiB; split the site or shorten the file")
		return nil, r.errs
	}
	root := r.parse(bytes.TrimPrefix(b, []byte("\xef\xbb\xbf")))
	if root == nil {
		return nil, r.errs
	}
	p := r.policy(root)
	r.errs = append(r.errs, p.faults(len(r.errs) > 0)...)
	if len(r.errs) > 0 {
		slices.SortStableFunc(r.errs, func(a, b *Error) int { return a.Line - b.Line })
		return nil, r.errs
	}
	return p, nil
}

// faults is what is wrong with rules that were each read well. Where others were
// not (partly), only what certainly is wrong: a conflict of two sound rules.
func (p *Policy) faults(partly bool) Errors {
	entries, errs := p.entries()
	if partly {
		errs = nil // the reader has already said so, with the key
	}
	errs = append(errs, p.conflicts(entries)...)
	errs = append(errs, p.grouping()...)
	errs = append(errs, p.swallowed()...)
	if partly || len(errs) > 0 {
		return errs
	}
	_, errs = p.routes(entries)
	return errs
}

// Resolve is the path of a file that the policy names: relative paths start at
// the directory of the policy file.
func (p *Policy) Resolve(file string) string {
	if filepath.IsAbs(file) || p.source.file == "" {
		return file
	}
	return filepath.Join(filepath.Dir(p.source.file), file)
}
