package membership

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/url"
	"time"

	"pushrelay/internal/enrol"
	"pushrelay/internal/fileowner"
	"pushrelay/internal/mtls"
)

// How long certificates live. A member renews its own from half of its life on.
const (
	caYears = 20
	life    = 365 * 24 * time.Hour
)

// authority is the CA of all members of a cluster, which signs nothing else (C17). It is immutable.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer // nil at a witness
}

// newAuthority makes the CA of a new cluster.
func newAuthority(cluster string) (*authority, error) {
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "members of cluster " + cluster},
		NotBefore: now.Add(-mtls.Backdate), NotAfter: now.AddDate(caYears, 0, 0),
		KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("making the authority of members: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	return &authority{cert, key}, err
}

func newKey() (crypto.Signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	return key, nil
}

func newSerial() (*big.Int, error) {
	return rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
}

// readAuthority reads the files of the CA; that of the key may be missing.
func readAuthority(certFile, keyFile string) (*authority, error) {
	text, err := fileowner.ReadFile(certFile)
	if err != nil {
		return nil, err
	}
	certs, err := mtls.ParseCertificates(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", certFile, err)
	}
	a := &authority{cert: certs[0]}
	text, err = fileowner.ReadFile(keyFile)
	if errors.Is(err, fs.ErrNotExist) {
		return a, nil
	}
	if err == nil {
		a.key, err = mtls.ParsePrivateKey(text)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", keyFile, err)
	}
	if public, ok := a.key.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(a.cert.PublicKey) {
		return nil, fmt.Errorf("%s is not the key of %s", keyFile, certFile)
	}
	return a, nil
}

func (a *authority) pin() enrol.Pin { return enrol.PinOf(a.cert.Raw) }

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// sign issues the certificate (DER) of a member, with the host at which its etcd is dialled: that verifies it by its name.
func (a *authority) sign(id mtls.MemberID, peerAddress string, key crypto.PublicKey) ([]byte, error) {
	if a.key == nil {
		return nil, errors.New("signing the certificate of a member: a witness has not the key for that")
	}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: id.Name}, URIs: []*url.URL{id.URI()}, NotAfter: time.Now().Add(life),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	host, _, err := net.SplitHostPort(peerAddress)
	if err != nil {
		return nil, fmt.Errorf("signing the certificate of member %q: %w", id.Name, err)
	}
	if ip := net.ParseIP(host); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{host}
	}
	der, err := a.issue(template, key)
	if err != nil {
		return nil, fmt.Errorf("signing the certificate of member %q: %w", id.Name, err)
	}
	return der, nil
}

// issue completes and signs a certificate.
func (a *authority) issue(template *x509.Certificate, key crypto.PublicKey) (der []byte, err error) {
	if template.SerialNumber, err = newSerial(); err != nil {
		return nil, err
	}
	template.NotBefore, template.KeyUsage, template.BasicConstraintsValid = time.Now().Add(-mtls.Backdate), x509.KeyUsageDigitalSignature, true
	return x509.CreateCertificate(rand.Reader, template, a.cert, key, a.key)
}

// verify returns which member a certificate is of, for one usage.
func (a *authority) verify(cert *x509.Certificate, cluster string, usage x509.ExtKeyUsage) (mtls.MemberID, error) {
	if _, err := cert.Verify(x509.VerifyOptions{Roots: a.pool(), KeyUsages: []x509.ExtKeyUsage{usage}}); err != nil {
		return mtls.MemberID{}, fmt.Errorf("the certificate is not that of a member of this cluster: %w", err)
	}
	id, err := mtls.MemberIDFromCertificate(cert)
	if err == nil && id.Cluster != cluster {
		err = fmt.Errorf("it is of cluster %s, this is %s", id.Cluster, cluster)
	}
	return id, err
}
