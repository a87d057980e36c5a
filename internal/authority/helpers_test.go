package authority_test

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"

	"pushrelay/internal/authority"
	"pushrelay/internal/mtls"
)

func newAuthority(tb testing.TB) (dir string, ca *authority.Authority) {
	tb.Helper()
	dir = filepath.Join(tb.TempDir(), "authority")
	ca, err := authority.Create(dir, authority.Config{})
	if err != nil {
		tb.Fatal(err)
	}
	return dir, ca
}

func parse(tb testing.TB, certPEM []byte) *x509.Certificate {
	tb.Helper()
	certs, err := mtls.ParseCertificates(certPEM)
	if err != nil {
		tb.Fatal(err)
	}
	if len(certs) != 1 {
		tb.Fatalf("%d certificates, want one", len(certs))
	}
	return certs[0]
}

func parsePair(tb testing.TB, issued authority.Issued) tls.Certificate {
	tb.Helper()
	cert, err := mtls.ParsePair(issued.CertPEM, issued.KeyPEM)
	if err != nil {
		tb.Fatal(err)
	}
	return cert
}

func uriTexts(cert *x509.Certificate) []string {
	var texts []string
	for _, uri := range cert.URIs {
		texts = append(texts, uri.String())
	}
	return texts
}

// listing returns the contents of a directory's files by name.
func listing(tb testing.TB, dir string) map[string]string {
	tb.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		tb.Fatal(err)
	}
	texts := make(map[string]string)
	for _, e := range entries {
		texts[e.Name()] = readFile(tb, filepath.Join(dir, e.Name()))
	}
	return texts
}

func readFile(tb testing.TB, path string) string {
	tb.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return string(text)
}

func writeFile(tb testing.TB, path, text string) {
	tb.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
}

func copyFile(tb testing.TB, from, to string) {
	tb.Helper()
	writeFile(tb, to, readFile(tb, from))
}

func rename(tb testing.TB, from, to string) {
	tb.Helper()
	if err := os.Rename(from, to); err != nil {
		tb.Fatal(err)
	}
}

func remove(tb testing.TB, dir string, names ...string) {
	tb.Helper()
	for _, name := range names {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			tb.Fatal(err)
		}
	}
}
