// Package enroltest is a relay that only lets agents in, for tests of the agent's half of enrolment: it speaks the protocol over real TLS, issues
// certificates of an authority of its own, and can be made to misbehave in the ways that the agent has to bear.
package enroltest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"pushrelay/internal/enrol"
	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/mtls"
)

// TrustDomain is that of all authorities of this package.
const TrustDomain = "example.org"

// Authority issues certificates. It is safe for concurrent use.
type Authority struct {
	// Certificate is the CA's.
	Certificate *x509.Certificate
	key         crypto.Signer
	t           testing.TB
}

// NewAuthority makes an authority whose CA is valid for ten years, from a day ago on.
func NewAuthority(t testing.TB, name string) *Authority {
	t.Helper()
	a := &Authority{key: newKey(t), t: t}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-mtls.Backdate), NotAfter: time.Now().AddDate(10, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a.Certificate = template
	a.Certificate = a.Sign(template, a.key.Public())
	return a
}

// Pin is that of the CA.
func (a *Authority) Pin() enrol.Pin { return enrol.PinOf(a.Certificate.Raw) }

// Sign issues a certificate for a key.
func (a *Authority) Sign(template *x509.Certificate, key crypto.PublicKey) *x509.Certificate {
	a.t.Helper()
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		a.t.Fatal(err)
	}
	template.SerialNumber = serial
	der, err := x509.CreateCertificate(rand.Reader, template, a.Certificate, key, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert
}

// Agent returns what the certificate of an agent says that is issued now and lives for life.
func Agent(name string, life time.Duration) *x509.Certificate {
	now := time.Now()
	return &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, URIs: []*url.URL{mtls.AgentURI(TrustDomain, name)}, NotBefore: now.Add(-mtls.Backdate), NotAfter: now.Add(life),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
	}
}

// Issue returns what a relay would send for a key.
func (a *Authority) Issue(template *x509.Certificate, key crypto.PublicKey) *relayv1.IssuedCertificate {
	a.t.Helper()
	return &relayv1.IssuedCertificate{Chain: [][]byte{a.Sign(template, key).Raw}, Authorities: [][]byte{a.Certificate.Raw}}
}

// RelayPair returns the certificate and key of a relay with those names.
func (a *Authority) RelayPair(names ...string) tls.Certificate {
	a.t.Helper()
	key := newKey(a.t)
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "relay"}, URIs: []*url.URL{mtls.RelayURI(TrustDomain)}, NotBefore: time.Now().Add(-mtls.Backdate), NotAfter: time.Now().AddDate(9, 0, 0),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
	}
	for _, name := range names {
		if ip, err := netip.ParseAddr(name); err == nil {
			template.IPAddresses = append(template.IPAddresses, net.IP(ip.AsSlice()))
			continue
		}
		template.DNSNames = append(template.DNSNames, name)
	}
	cert := a.Sign(template, key.Public())
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}
}

// RelayFiles writes the files of a relay with those names, for [mtls.NewReloader].
func (a *Authority) RelayFiles(names ...string) mtls.Files {
	a.t.Helper()
	dir, pair := a.t.TempDir(), a.RelayPair(names...)
	key, err := mtls.EncodePrivateKey(pair.PrivateKey.(crypto.Signer))
	if err != nil {
		a.t.Fatal(err)
	}
	files := mtls.Files{CertFile: filepath.Join(dir, "relay.crt"), KeyFile: filepath.Join(dir, "relay.key"), CAFile: filepath.Join(dir, "ca.crt")}
	for file, text := range map[string][]byte{
		files.CertFile: mtls.EncodeCertificates(pair.Leaf.Raw), files.KeyFile: key, files.CAFile: mtls.EncodeCertificates(a.Certificate.Raw),
	} {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	return files
}

func newKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}
