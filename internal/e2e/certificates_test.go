//go:build linux

package e2e_test

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
	"path/filepath"
	"testing"
	"time"
)

// An authority is a certificate authority of the test's own: it signs also what no relay would ever sign.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	// caFile is its certificate.
	caFile string
}

// A leaf is a certificate with its key, as files and as a value.
type leaf struct {
	certFile, keyFile string
	tls               tls.Certificate
}

func newAuthority(t testing.TB, name string) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{dir: t.TempDir(), key: key}
	a.cert = &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-24 * time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
		KeyUsage:     x509.KeyUsageCertSign | x509.KeyUsageCRLSign, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, a.cert, a.cert, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.caFile = filepath.Join(a.dir, "ca.crt")
	writeFile(t, a.caFile, pemBlock("CERTIFICATE", der))
	return a
}

// sign issues a certificate from what the template says about names, usage and time.
func (a *authority) sign(t testing.TB, name string, template *x509.Certificate) leaf {
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
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	l := leaf{certFile: filepath.Join(a.dir, name+".crt"), keyFile: filepath.Join(a.dir, name+".key")}
	writeFile(t, l.certFile, pemBlock("CERTIFICATE", der))
	writeFile(t, l.keyFile, pemBlock("PRIVATE KEY", pkcs8))
	if l.tls, err = tls.LoadX509KeyPair(l.certFile, l.keyFile); err != nil {
		t.Fatal(err)
	}
	return l
}

// list writes a revocation list on which nobody is, and returns its file.
func (a *authority) list(t testing.TB) string {
	t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(time.Hour)}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.cert, a.key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(a.dir, "crl.pem")
	writeFile(t, file, pemBlock("X509 CRL", der))
	return file
}

// relayTemplate is a certificate for a relay on loopback.
func relayTemplate() *x509.Certificate {
	return &x509.Certificate{
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
}

// agentTemplate is a certificate for whoever the URIs name.
func agentTemplate(t testing.TB, uris ...string) *x509.Certificate {
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

// expired moves a template's time into the past.
func expired(template *x509.Certificate) *x509.Certificate {
	template.NotBefore, template.NotAfter = time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour)
	return template
}

func pemBlock(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// flags are the TLS flags of a relay-server.
func (l leaf) relayFlags(a *authority) []string {
	return []string{"--grpc.tls.cert-file=" + l.certFile, "--grpc.tls.key-file=" + l.keyFile, "--grpc.tls.client-ca-file=" + a.caFile}
}

// agentFlags are the TLS flags of a relay-agent.
func (l leaf) agentFlags(a *authority) []string {
	return []string{"--tls.cert-file=" + l.certFile, "--tls.key-file=" + l.keyFile, "--tls.ca-file=" + a.caFile}
}
