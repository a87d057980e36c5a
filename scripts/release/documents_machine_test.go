//go:build linux && machines

package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// fences are the blocks of a page, with their language.
var fences = regexp.MustCompile("(?ms)^```([a-z]+)\n(.*?)^```$")

// documented returns the only block of a page that has a text in it: what its reader copies.
func documented(t *testing.T, page, language, containing string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("..", "..", page))
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, block := range fences.FindAllStringSubmatch(string(content), -1) {
		if block[1] == language && strings.Contains(block[2], containing) {
			found = append(found, block[2])
		}
	}
	if len(found) != 1 {
		t.Fatalf("%s has %d blocks of %s with %q", page, len(found), language, containing)
	}
	return found[0]
}

// webPassword is the password "secret", as htpasswd writes it.
const webPassword = "$2y$10$SqyLKkDcReMfLyBbCUm.8..rW21UcXS9fffk4zloIXTrrOkBB.CGy"

// webFiles writes web.yml as its page has it, for the user prometheus, and the certificate and key of localhost that it names.
func webFiles(t *testing.T, dir string) {
	t.Helper()
	const page = "docs/how-to/tls-and-passwords.md"
	yml := documented(t, page, "yaml", "basic_auth_users")
	if strings.Count(yml, "$2y$10$…") != 1 {
		t.Fatalf("%s has no place for the password:\n%s", page, yml)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		BasicConstraintsValid: true, IsCA: true,
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"web.yml": strings.ReplaceAll(yml, "$2y$10$…", webPassword),
		"web.crt": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate})),
		"web.key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded})),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// writePages writes what machine.sh does word by word as documents say it, each a file of commands.
func writePages(t *testing.T, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, from := range map[string]struct{ page, containing string }{
		"web.sh":               {"docs/how-to/tls-and-passwords.md", "LoadCredential=web.key"},
		"keys.sh":              {"docs/how-to/run-as-a-service.md", "SupplementaryGroups="},
		"grpc.sh":              {"docs/how-to/two-relays.md", "LoadCredential=relay.key"},
		"backup.sh":            {"docs/how-to/backup-and-restore.md", " backup --to=/var/"},
		"restore.sh":           {"docs/how-to/backup-and-restore.md", " restore --from="},
		"backup-authority.sh":  {"docs/how-to/backup-and-restore.md", "tar -C /var/lib/pushrelay -czf"},
		"restore-authority.sh": {"docs/how-to/backup-and-restore.md", "tar -C /var/lib/pushrelay -xzf"},
		"relay-by-hand.sh":     {"deploy/README.md", "install -m 0755 relay-server"},
		"agent-by-hand.sh":     {"deploy/README.md", "install -m 0755 relay-agent"},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(documented(t, from.page, "sh", from.containing)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	webFiles(t, dir)
}
