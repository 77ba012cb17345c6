package pki

import (
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// File is one file to write. Private files get mode 0600, others 0644.
type File struct {
	Path    string
	Data    []byte
	Private bool
}

// PEM types of the files of this package.
const (
	TypeCertificate = "CERTIFICATE"
	TypeRequest     = "CERTIFICATE REQUEST"
	TypeCRL         = "X509 CRL"
)

// EncodePEM wraps DER.
func EncodePEM(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// WriteFiles writes all files, each atomically: a reader sees the old content
// or the whole new one. Without replace nothing that exists is overwritten, and
// when one of the files exists none is written. Missing directories are made
// with mode 0700.
func WriteFiles(replace bool, files ...File) error {
	if !replace {
		for _, f := range files {
			if _, err := os.Lstat(f.Path); err == nil {
				return fmt.Errorf("%s: exists; --force replaces it", f.Path)
			} else if !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	for _, f := range files {
		if err := os.MkdirAll(filepath.Dir(f.Path), 0o700); err != nil {
			return err
		}
		if err := f.write(replace); err != nil {
			return err
		}
	}
	return nil
}

func (f File) write(replace bool) (err error) {
	t, err := os.CreateTemp(filepath.Dir(f.Path), ".yumen-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(t.Name()) // gone already after a rename
	if _, err = t.Write(f.Data); err == nil && !f.Private {
		err = t.Chmod(0o644)
	}
	if err == nil {
		err = t.Sync()
	}
	if e := t.Close(); err == nil {
		err = e
	}
	if err != nil {
		return fmt.Errorf("%s: %w", f.Path, err)
	}
	if replace {
		return os.Rename(t.Name(), f.Path)
	}
	// Unlike a rename, a link fails when somebody was faster.
	return os.Link(t.Name(), f.Path)
}
