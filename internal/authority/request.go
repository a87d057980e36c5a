package authority

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"pushrelay/internal/mtls"
)

// The sizes of RSA keys that are signed, in bits: weaker ones can be broken, and larger ones cost every handshake much.
const leastRSA, mostRSA = 2048, 4096

// CheckRequest reads a PKCS #10 request (DER) that a stranger made and returns the key that is to be certified, of which it proves the possession. Its
// subject counts for nothing. The error names what is wrong with it: a key that is weak or of a kind that is not known, a signature that
// is not the key's, or names and other extensions, which only the authority gives.
func CheckRequest(der []byte) (crypto.PublicKey, error) {
	request, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, fmt.Errorf("reading the certificate request: %w", err)
	}
	// Before the signature, which costs with a large key.
	if err := checkKey(request.PublicKey); err != nil {
		return nil, fmt.Errorf("certificate request: %w", err)
	}
	if len(request.Extensions) > 0 {
		return nil, errors.New("certificate request: it asks for names or other extensions, which the relay alone gives: leave them out")
	}
	if err := request.CheckSignature(); err != nil {
		return nil, fmt.Errorf("certificate request: it is not signed by its key: %w", err)
	}
	return request.PublicKey, nil
}

func checkKey(key crypto.PublicKey) error {
	switch key := key.(type) {
	case ed25519.PublicKey:
		return nil
	case *ecdsa.PublicKey:
		if slices.Contains([]elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()}, key.Curve) {
			return nil
		}
		return fmt.Errorf("its ECDSA key is on the curve %s, want P-256, P-384 or P-521", key.Params().Name)
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits < leastRSA || bits > mostRSA {
			return fmt.Errorf("its RSA key has %d bits, want %d to %d", bits, leastRSA, mostRSA)
		}
		return nil
	default:
		return errors.New("its key is of a kind that is not known here, want ECDSA, Ed25519 or RSA")
	}
}

// VerifyAgent returns whose certificate it is, if this authority issued it to an agent. It judges as of the moment in which the certificate ends: whether that
// is over is for the caller to know. That somebody has its key must have been proved before.
func (a *Authority) VerifyAgent(cert *x509.Certificate) (mtls.PeerID, error) {
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	_, err := cert.Verify(x509.VerifyOptions{
		Roots: roots, CurrentTime: cert.NotAfter.Add(-time.Second), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return mtls.PeerID{}, fmt.Errorf("the certificate is none that this relay issued to an agent: %w", err)
	}
	id, err := mtls.PeerIDFromCertificate(cert)
	if err == nil && id.TrustDomain != a.trustDomain {
		err = fmt.Errorf("it is of trust domain %q, this relay is of %q", id.TrustDomain, a.trustDomain)
	}
	return id, err
}

// CACert returns the CA's certificate. It must not be modified.
func (a *Authority) CACert() *x509.Certificate { return a.cert }
