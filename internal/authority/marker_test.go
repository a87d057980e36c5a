package authority_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pushrelay/internal/authority"
)

// An authority whose directory is gone is missed, and not replaced behind the agents' backs.
func TestLostAuthorityIsNotReplaced(t *testing.T) {
	for name, lose := range map[string]func(dir string) error{
		"directory": os.RemoveAll,
		"what is in it": func(dir string) error {
			return errors.Join(os.Remove(filepath.Join(dir, "ca.crt")), os.Remove(filepath.Join(dir, "ca.key")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			parent := t.TempDir()
			dir := filepath.Join(parent, "authority")
			cfg := authority.Config{Marker: filepath.Join(parent, "authority.made")}
			ca, err := authority.OpenOrCreate(dir, cfg)
			if err != nil {
				t.Fatal(err)
			}
			if !ca.Created() {
				t.Error("Created() of a new authority = false")
			}
			if err := ca.Mark(cfg.Marker); err != nil {
				t.Fatal(err)
			}
			again, err := authority.OpenOrCreate(dir, cfg)
			if err != nil || again.Created() || again.Fingerprint() != ca.Fingerprint() {
				t.Fatalf("OpenOrCreate() with its marker = %v, want the same authority, found", err)
			}
			if err := lose(dir); err != nil {
				t.Fatal(err)
			}
			for verb, make := range map[string]func(string, authority.Config) (*authority.Authority, error){
				"OpenOrCreate": authority.OpenOrCreate, "Create": authority.Create,
			} {
				_, err := make(dir, cfg)
				if err == nil || !strings.Contains(err.Error(), cfg.Marker) || !strings.Contains(err.Error(), dir) {
					t.Errorf("%s() after the loss: error = %v, want one that names %q and %q", verb, err, dir, cfg.Marker)
				}
			}
			if err := os.Remove(cfg.Marker); err != nil {
				t.Fatal(err)
			}
			anew, err := authority.OpenOrCreate(dir, cfg)
			if err != nil || !anew.Created() || anew.Fingerprint() == ca.Fingerprint() {
				t.Errorf("OpenOrCreate() without the marker = %v, want a new authority", err)
			}
		})
	}
}

func TestMark(t *testing.T) {
	dir, ca := newAuthority(t)
	sum := sha256.Sum256(parse(t, ca.CACertPEM()).Raw)
	if got := strings.ToLower(strings.ReplaceAll(ca.Fingerprint(), ":", "")); got != fmt.Sprintf("%x", sum) {
		t.Errorf("Fingerprint() = %q, want %x with colons", ca.Fingerprint(), sum)
	}
	marker := filepath.Join(filepath.Dir(dir), "marker")
	writeFile(t, marker+authority.Unsettled, "what a crash left")
	for range 2 {
		if err := ca.Mark(marker); err != nil {
			t.Fatal(err)
		}
	}
	if got := readFile(t, marker); got != ca.Fingerprint()+"\n" {
		t.Errorf("marker holds %q, want %q", got, ca.Fingerprint())
	}
	_, other := newAuthority(t)
	if err := other.Mark(marker); err != nil { // an authority that was put there by hand
		t.Fatal(err)
	}
	if got := readFile(t, marker); got != other.Fingerprint()+"\n" {
		t.Errorf("marker holds %q, want %q", got, other.Fingerprint())
	}
	if err := ca.Mark(filepath.Join(dir, "none", "marker")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Mark() without a directory: error = %v, want fs.ErrNotExist", err)
	}
}
