package relaytest

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"pushrelay/internal/authority"
	"pushrelay/internal/mtls"
	"pushrelay/internal/relay"
)

// CA is a certificate authority that is not the relay's own.
type CA struct {
	*authority.Authority
	t   testing.TB
	dir string
}

// NewCA makes an authority for agents of a trust domain.
func NewCA(t testing.TB, trustDomain string) *CA {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "ca")
	a, err := authority.Create(dir, authority.Config{TrustDomain: trustDomain})
	if err != nil {
		t.Fatal(err)
	}
	return &CA{a, t, dir}
}

// Relay issues a certificate for a relay on loopback, and gives it to the options of one.
func (c *CA) Relay(opts *relay.Options) {
	c.t.Helper()
	issued, err := c.IssueRelay([]string{"127.0.0.1"})
	opts.GRPCTLS = c.files("relay", issued, err)
}

// Agent issues the certificate of an agent, and returns its serial number as well.
func (c *CA) Agent(name string) (files mtls.Files, serial *big.Int) {
	c.t.Helper()
	issued, err := c.IssueAgent(name)
	files = c.files("agent", issued, err)
	certs, err := mtls.ParseCertificates(issued.CertPEM)
	if err != nil {
		c.t.Fatal(err)
	}
	return files, certs[0].SerialNumber
}

func (c *CA) files(base string, issued authority.Issued, err error) mtls.Files {
	c.t.Helper()
	dir := filepath.Join(c.t.TempDir(), base)
	if err == nil {
		err = authority.WriteIssued(dir, base, issued)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	return mtls.Files{CAFile: filepath.Join(dir, "ca.crt"), CertFile: filepath.Join(dir, base+".crt"), KeyFile: filepath.Join(dir, base+".key")}
}

// WriteList replaces a file by the authority's list of revoked certificates.
func (c *CA) WriteList(file string, revoked ...*big.Int) {
	c.t.Helper()
	template := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now().Add(-time.Minute), NextUpdate: time.Now().Add(time.Hour)}
	for _, serial := range revoked {
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: serial, RevocationTime: time.Now()})
	}
	der, err := x509.CreateRevocationList(rand.Reader, template, c.certificate(), c.key())
	if err == nil {
		err = os.WriteFile(file+".new", pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}), 0o600)
	}
	if err == nil {
		err = os.Rename(file+".new", file)
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *CA) certificate() *x509.Certificate {
	c.t.Helper()
	certs, err := mtls.ParseCertificates(c.CACertPEM())
	if err != nil {
		c.t.Fatal(err)
	}
	return certs[0]
}

func (c *CA) key() crypto.Signer {
	c.t.Helper()
	text, err := os.ReadFile(c.KeyFile())
	if err != nil {
		c.t.Fatal(err)
	}
	key, err := mtls.ParsePrivateKey(text)
	if err != nil {
		c.t.Fatal(err)
	}
	return key
}
