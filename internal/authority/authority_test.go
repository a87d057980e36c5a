package authority_test

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pushrelay/internal/authority"
	"pushrelay/internal/mtls"
)

func TestCreateAndOpen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "authority")
	created, err := authority.Create(dir, authority.Config{TrustDomain: "example.org"})
	if err != nil {
		t.Fatal(err)
	}
	opened, err := authority.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(created.CACertPEM(), opened.CACertPEM()) || opened.TrustDomain() != "example.org" || !opened.NotAfter().Equal(created.NotAfter()) {
		t.Errorf("Open() after Create() is another authority: %q", opened.TrustDomain())
	}
	again, err := authority.OpenOrCreate(dir, authority.Config{})
	if err != nil || !bytes.Equal(again.CACertPEM(), created.CACertPEM()) {
		t.Errorf("OpenOrCreate() = %v, want the same authority", err)
	}
	if _, err := authority.Create(dir, authority.Config{}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Create() in a directory with a CA: error = %v, want fs.ErrExist", err)
	}
	if _, err := authority.OpenOrCreate(dir, authority.Config{TrustDomain: "other"}); err == nil || !strings.Contains(err.Error(), `of trust domain "example.org", not "other"`) {
		t.Errorf("OpenOrCreate() with another trust domain: error = %v", err)
	}
	for name, want := range map[string]fs.FileMode{"": 0o700, "ca.key": 0o600, "ca.crt": 0o644} {
		if stat, err := os.Stat(filepath.Join(dir, name)); err != nil || stat.Mode().Perm() != want {
			t.Errorf("mode of %q = %v, %v, want %v", name, stat.Mode().Perm(), err, want)
		}
	}
}

func TestCACertificate(t *testing.T) {
	_, ca := newAuthority(t)
	cert := parse(t, ca.CACertPEM())
	if !cert.IsCA || !cert.BasicConstraintsValid || cert.MaxPathLen != 0 || !cert.MaxPathLenZero {
		t.Errorf("basic constraints: CA %v, path length %d", cert.IsCA, cert.MaxPathLen)
	}
	if want := x509.KeyUsageCertSign | x509.KeyUsageCRLSign; cert.KeyUsage != want {
		t.Errorf("key usage %b, want %b", cert.KeyUsage, want)
	}
	if cert.PublicKeyAlgorithm != x509.ECDSA || cert.SerialNumber.BitLen() > 128 || cert.SerialNumber.BitLen() < 64 {
		t.Errorf("%v key, serial of %d bits, want ECDSA and 128 random bits", cert.PublicKeyAlgorithm, cert.SerialNumber.BitLen())
	}
	if got := cert.NotAfter.Sub(cert.NotBefore).Hours() / 24; got < 3650 || got > 3655 {
		t.Errorf("lives %v days, want ten years and a day", got)
	}
	if diff := cmp.Diff([]string{"spiffe://pushrelay"}, uriTexts(cert)); diff != "" {
		t.Errorf("URIs (-want +got):\n%s", diff)
	}
	_, other := newAuthority(t)
	if otherCert := parse(t, other.CACertPEM()); otherCert.Subject.String() == cert.Subject.String() {
		t.Errorf("two CAs share the name %q", cert.Subject)
	}
}

func TestBadTrustDomain(t *testing.T) {
	dir := t.TempDir()
	if _, err := authority.Create(dir, authority.Config{TrustDomain: "Not/One"}); err == nil {
		t.Error("Create() with a bad trust domain succeeded")
	}
	if _, err := authority.Open(dir); !errors.Is(err, authority.ErrNoAuthority) {
		t.Errorf("Open() after it: error = %v, want ErrNoAuthority", err)
	}
	long := strings.Repeat("x", 255)
	ca, err := authority.Create(dir, authority.Config{TrustDomain: long})
	if err != nil {
		t.Fatal(err)
	}
	if cn := parse(t, ca.CACertPEM()).Subject.CommonName; len(cn) > 64 {
		t.Errorf("common name has %d characters, want at most 64", len(cn))
	}
}

func TestOpenWithoutAuthority(t *testing.T) {
	for name, dir := range map[string]string{"no directory": filepath.Join(t.TempDir(), "none"), "empty directory": t.TempDir()} {
		if _, err := authority.Open(dir); !errors.Is(err, authority.ErrNoAuthority) {
			t.Errorf("%s: Open() error = %v, want ErrNoAuthority", name, err)
		}
	}
	file := filepath.Join(t.TempDir(), "file")
	writeFile(t, file, "x")
	if _, err := authority.Open(file); err == nil || errors.Is(err, authority.ErrNoAuthority) {
		t.Errorf("Open() of a file: error = %v, want one that says so", err)
	}
	if _, err := authority.OpenOrCreate(file, authority.Config{}); err == nil || !strings.Contains(err.Error(), "not a directory") {
		t.Errorf("OpenOrCreate() of a file: error = %v, want one that says so", err)
	}
}

// A CA that is not whole is reported and never replaced.
func TestHalfAnAuthorityIsAnError(t *testing.T) {
	otherDir, _ := newAuthority(t)
	tests := []struct {
		name   string
		damage func(t *testing.T, dir string)
		want   string
	}{
		{name: "key missing", want: `ca.key" is missing`, damage: func(t *testing.T, dir string) { remove(t, dir, "ca.key") }},
		{name: "certificate missing", want: `ca.crt" is missing`, damage: func(t *testing.T, dir string) { remove(t, dir, "ca.crt") }},
		{name: "key of another CA", want: "the key is not the certificate's", damage: func(t *testing.T, dir string) {
			copyFile(t, filepath.Join(otherDir, "ca.key"), filepath.Join(dir, "ca.key"))
		}},
		{name: "key empty", want: "no private key", damage: func(t *testing.T, dir string) { writeFile(t, filepath.Join(dir, "ca.key"), "") }},
		{name: "certificate cut off", want: "no certificate", damage: func(t *testing.T, dir string) {
			if err := os.Truncate(filepath.Join(dir, "ca.crt"), 100); err != nil {
				t.Fatal(err)
			}
		}},
		{name: "key missing, another CA's waits", want: `ca.key" is missing`, damage: func(t *testing.T, dir string) {
			remove(t, dir, "ca.key")
			copyFile(t, filepath.Join(otherDir, "ca.key"), filepath.Join(dir, "ca.key"+authority.Unsettled))
		}},
		{name: "both missing beside a relay's certificate", want: "neither ca.crt nor ca.key", damage: func(t *testing.T, dir string) {
			remove(t, dir, "ca.crt", "ca.key")
		}},
		{name: "a leaf as CA", want: "not the certificate of a CA", damage: func(t *testing.T, dir string) {
			copyFile(t, filepath.Join(dir, "relay.crt"), filepath.Join(dir, "ca.crt"))
			copyFile(t, filepath.Join(dir, "relay.key"), filepath.Join(dir, "ca.key"))
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir, ca := newAuthority(t)
			if _, err := ca.EnsureRelay([]string{"localhost"}); err != nil {
				t.Fatal(err)
			}
			tt.damage(t, dir)
			before := listing(t, dir)

			_, openErr := authority.Open(dir)
			_, ensureErr := authority.OpenOrCreate(dir, authority.Config{})
			_, createErr := authority.Create(dir, authority.Config{})
			for verb, err := range map[string]error{"Open": openErr, "OpenOrCreate": ensureErr, "Create": createErr} {
				if err == nil || !strings.Contains(err.Error(), tt.want) || errors.Is(err, authority.ErrNoAuthority) {
					t.Errorf("%s() error = %v, want one with %q", verb, err, tt.want)
				}
			}
			if diff := cmp.Diff(before, listing(t, dir)); diff != "" {
				t.Errorf("files changed (-before +after):\n%s", diff)
			}
		})
	}
}

// What a crash leaves behind at each step of creating a CA. Either nobody has seen it and it is made anew, or it is
// finished.
func TestCreateAfterCrash(t *testing.T) {
	for _, tt := range []struct {
		name           string
		unsettled      []string // files that still wait
		absent         []string // files that were not written yet
		wantSame       bool
		wantNoneOnOpen bool
	}{
		{name: "before the certificate was written", unsettled: []string{"ca.key"}, absent: []string{"ca.crt"}, wantNoneOnOpen: true},
		{name: "before the first rename", unsettled: []string{"ca.key", "ca.crt"}, wantNoneOnOpen: true},
		{name: "between the renames", unsettled: []string{"ca.crt"}, wantSame: true},
		{name: "between the renames, in the other order", unsettled: []string{"ca.key"}, wantSame: true},
		{name: "after both", wantSame: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir, ca := newAuthority(t)
			remove(t, dir, tt.absent...)
			for _, name := range tt.unsettled {
				rename(t, filepath.Join(dir, name), filepath.Join(dir, name+authority.Unsettled))
			}
			_, err := authority.Open(dir)
			if got := errors.Is(err, authority.ErrNoAuthority); got != tt.wantNoneOnOpen {
				t.Errorf("Open() error = %v, want no authority: %v", err, tt.wantNoneOnOpen)
			}
			again, err := authority.OpenOrCreate(dir, authority.Config{})
			if err != nil {
				t.Fatal(err)
			}
			if same := bytes.Equal(again.CACertPEM(), ca.CACertPEM()); same != tt.wantSame {
				t.Errorf("OpenOrCreate() has the same CA: %v, want %v", same, tt.wantSame)
			}
			if left, _ := filepath.Glob(filepath.Join(dir, "*"+authority.Unsettled)); len(left) != 0 {
				t.Errorf("left over: %q", left)
			}
		})
	}
}

// Flock belongs to the open file, so goroutines exclude each other here exactly as processes do.
func TestOpenOrCreateAtTheSameTime(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "authority")
	const processes = 8
	var wg sync.WaitGroup
	cas := make([][]byte, processes)
	for i := range processes {
		wg.Go(func() {
			ca, err := authority.OpenOrCreate(dir, authority.Config{})
			if err != nil {
				t.Errorf("OpenOrCreate() error = %v", err)
				return
			}
			cas[i] = ca.CACertPEM()
			if _, err := ca.EnsureRelay([]string{"localhost", fmt.Sprintf("host-%d", i)}); err != nil {
				t.Errorf("EnsureRelay() error = %v", err)
			}
			if _, err := ca.IssueAgent("a"); err != nil {
				t.Errorf("IssueAgent() error = %v", err)
			}
		})
	}
	wg.Wait()
	for _, ca := range cas {
		if !bytes.Equal(ca, cas[0]) {
			t.Fatal("two processes created two CAs")
		}
	}
	ca, err := authority.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := mtls.Load(mtls.Relay, ca.Files()); err != nil {
		t.Errorf("the relay's files after all of them: %v", err)
	}
}

// A lock file that is a symbolic link would make root open, or give away, what it points to.
func TestLockFollowsNoLink(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(t.TempDir(), "target")
	if err := os.Symlink(target, filepath.Join(dir, ".lock")); err != nil {
		t.Fatal(err)
	}
	if _, err := authority.OpenOrCreate(dir, authority.Config{}); err == nil {
		t.Error("OpenOrCreate() with a linked lock file succeeded")
	}
	if _, err := os.Lstat(target); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the target of the link: %v, want it untouched", err)
	}
}
