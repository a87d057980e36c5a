//go:build linux

package certificate

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"pushrelay/internal/e2e/client"
)

// An Authority is a certificate authority of the test's own: it signs also what no relay would ever sign.
type Authority struct {
	dir  string
	Cert *x509.Certificate
	key  *ecdsa.PrivateKey
	// CAFile is its certificate.
	CAFile string
}

// A Leaf is a certificate with its key, as files and as a value.
type Leaf struct {
	CertFile, KeyFile string
	TLS               tls.Certificate
}

// New makes an authority; its name is that of its subject.
func New(t testing.TB, name string) *Authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &Authority{dir: t.TempDir(), key: key}
	a.Cert = &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-24 * time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
		KeyUsage:     x509.KeyUsageCertSign | x509.KeyUsageCRLSign, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, a.Cert, a.Cert, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if a.Cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.CAFile = filepath.Join(a.dir, "ca.crt")
	client.WriteFile(t, a.CAFile, pemBlock("CERTIFICATE", der))
	return a
}

// Sign issues a certificate from what the template says about names, usage and time.
func (a *Authority) Sign(t testing.TB, name string, template *x509.Certificate) Leaf {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.Subject = pkix.Name{CommonName: name}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	if template.NotAfter.IsZero() {
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.Cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	l := Leaf{CertFile: filepath.Join(a.dir, name+".crt"), KeyFile: filepath.Join(a.dir, name+".key")}
	client.WriteFile(t, l.CertFile, pemBlock("CERTIFICATE", der))
	client.WriteFile(t, l.KeyFile, pemBlock("PRIVATE KEY", pkcs8))
	if l.TLS, err = tls.LoadX509KeyPair(l.CertFile, l.KeyFile); err != nil {
		t.Fatal(err)
	}
	return l
}

// List writes a revocation list on which nobody is, and returns its file.
func (a *Authority) List(t testing.TB) string {
	t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(time.Hour)}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.Cert, a.key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(a.dir, "crl.pem")
	client.WriteFile(t, file, pemBlock("X509 CRL", der))
	return file
}

// RelayTemplate is a certificate for a relay on loopback.
func RelayTemplate() *x509.Certificate {
	return &x509.Certificate{
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
}

// AgentTemplate is a certificate for whoever the URIs name.
func AgentTemplate(t testing.TB, uris ...string) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	for _, uri := range uris {
		u, err := url.Parse(uri)
		if err != nil {
			t.Fatal(err)
		}
		template.URIs = append(template.URIs, u)
	}
	return template
}

// Expired moves a template's time into the past.
func Expired(template *x509.Certificate) *x509.Certificate {
	template.NotBefore, template.NotAfter = time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour)
	return template
}

func pemBlock(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// RelayFlags are the TLS flags of a relay-server.
func (l Leaf) RelayFlags(a *Authority) []string {
	return []string{"--grpc.tls.cert-file=" + l.CertFile, "--grpc.tls.key-file=" + l.KeyFile, "--grpc.tls.client-ca-file=" + a.CAFile}
}

// AgentFlags are the TLS flags of a relay-agent.
func (l Leaf) AgentFlags(a *Authority) []string {
	return []string{"--tls.cert-file=" + l.CertFile, "--tls.key-file=" + l.KeyFile, "--tls.ca-file=" + a.CAFile}
}

// Lasting sets how long a certificate is valid from now.
func Lasting(template *x509.Certificate, d time.Duration) *x509.Certificate {
	template.NotBefore, template.NotAfter = time.Now().AddDate(-1, 0, 0), time.Now().Add(d)
	return template
}

// NotAfter returns when the certificate expires, as it says.
func (l Leaf) NotAfter(t testing.TB) time.Time {
	t.Helper()
	cert, err := x509.ParseCertificate(l.TLS.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return cert.NotAfter
}

// ReplaceBy puts the files of another certificate in the place of these.
func (l Leaf) ReplaceBy(t testing.TB, other Leaf) {
	t.Helper()
	for _, file := range []struct{ from, to string }{{other.KeyFile, l.KeyFile}, {other.CertFile, l.CertFile}} {
		if err := os.Rename(file.from, file.to); err != nil {
			t.Fatal(err)
		}
	}
}

// SiteA is the identity of the agent that most tests have.
const SiteA = "spiffe://example.org/agent/site-a"
