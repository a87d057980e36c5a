package mtls

import (
	"bytes"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ParseCertificates returns the certificates of a PEM text in their order, ignoring blocks of other types, and those after
// the first one that cannot be read: bundles of systems hold such. A text without a certificate is an error, and so is one
// that lost its line feeds.
func ParseCertificates(certPEM []byte) ([]*x509.Certificate, error) {
	parsed, err := parseCertificates(certPEM)
	return parsed.certs, err
}

// CertificateFaults returns what whoever reads certificates with crypto/x509 loses of a PEM text in silence, one line each.
func CertificateFaults(certPEM []byte) []string {
	parsed, err := parseCertificates(certPEM)
	if err != nil {
		return []string{err.Error()}
	}
	var out []string
	if bytes.Contains(certPEM, byteOrderMark) {
		out = append(out, "a byte order mark takes the certificate after it away: save it without one")
	}
	for _, fault := range parsed.faults {
		out = append(out, fault.String())
	}
	return out
}

// certificates are those of a text.
type certificates struct {
	certs  []*x509.Certificate
	first  int        // line of the first one
	faults []pemFault // what is no certificate though it seems to be meant as one, by lines
}

func parseCertificates(certPEM []byte) (certificates, error) {
	blocks, faults, err := pemBlocks(certPEM)
	if err != nil {
		return certificates{}, err
	}
	parsed := certificates{faults: faults}
	number := 0
	for _, block := range blocks {
		if block.Type != "CERTIFICATE" {
			if strings.HasSuffix(block.Type, "CERTIFICATE") || block.Type == "PKCS7" {
				parsed.fault(block.line, "a block of type %q is not read, want CERTIFICATE", clip(block.Type))
			}
			continue
		}
		number++
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			parsed.fault(block.line, "parsing certificate %d: %v", number, err)
			continue
		}
		if parsed.certs == nil {
			parsed.first = block.line
		}
		parsed.certs = append(parsed.certs, cert)
	}
	slices.SortStableFunc(parsed.faults, func(a, b pemFault) int { return a.line - b.line })
	if len(parsed.certs) == 0 {
		return certificates{}, explainNothing("no certificate in it", parsed.faults)
	}
	return parsed, nil
}

func (c *certificates) fault(line int, format string, args ...any) {
	c.faults = append(c.faults, pemFault{line, fmt.Sprintf(format, args...)})
}

// explainNothing says what may have been meant where nothing was found.
func explainNothing(what string, faults []pemFault) error {
	if len(faults) == 0 {
		return errors.New(what)
	}
	return fmt.Errorf("%s: %v", what, faults[0])
}

// ParsePrivateKey returns the first private key of a PEM text: PKCS #8, SEC 1 or PKCS #1, not encrypted.
func ParsePrivateKey(keyPEM []byte) (crypto.Signer, error) {
	key, _, err := parsePrivateKey(keyPEM)
	return key, err
}

// parsePrivateKey also returns what should have been a block.
func parsePrivateKey(keyPEM []byte) (crypto.Signer, []pemFault, error) {
	blocks, faults, err := pemBlocks(keyPEM)
	if err != nil {
		return nil, nil, err
	}
	for _, block := range blocks {
		switch {
		case block.Type == "ENCRYPTED PRIVATE KEY", block.Headers["DEK-Info"] != "":
			return nil, nil, errors.New("private key is encrypted: store it without a passphrase, readable by this program only")
		case strings.HasSuffix(block.Type, "PRIVATE KEY"):
			key, err := privateKey(block)
			return key, faults, err
		}
	}
	return nil, nil, explainNothing("no private key in it", faults)
}

func privateKey(block pemBlock) (crypto.Signer, error) {
	switch block.Type {
	case "PRIVATE KEY":
		return signer(x509.ParsePKCS8PrivateKey(block.Bytes))
	case "EC PRIVATE KEY":
		return signer(x509.ParseECPrivateKey(block.Bytes))
	case "RSA PRIVATE KEY":
		return signer(x509.ParsePKCS1PrivateKey(block.Bytes))
	default:
		return nil, fmt.Errorf("private key has the unsupported type %q", clip(block.Type))
	}
}

func signer[K any](key K, err error) (crypto.Signer, error) {
	if err != nil {
		return nil, fmt.Errorf("parsing private key: %w", err)
	}
	s, ok := any(key).(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("private key of type %T cannot sign", key)
	}
	return s, nil
}

// newCertificate joins a chain, leaf first, and the key of its leaf.
func newCertificate(chain []*x509.Certificate, key crypto.Signer) (tls.Certificate, error) {
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(chain[0].PublicKey) {
		return tls.Certificate{}, errors.New("the key is not the certificate's")
	}
	cert := tls.Certificate{Leaf: chain[0], PrivateKey: key}
	for _, c := range chain {
		cert.Certificate = append(cert.Certificate, c.Raw)
	}
	return cert, nil
}

// ParsePair returns the certificate and key of two PEM texts, with Leaf set, or an error that says which of the two is
// unusable or that they do not belong together.
func ParsePair(certPEM, keyPEM []byte) (tls.Certificate, error) {
	chain, err := ParseCertificates(certPEM)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("reading certificate: %w", err)
	}
	key, err := ParsePrivateKey(keyPEM)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("reading key: %w", err)
	}
	return newCertificate(chain, key)
}

// EncodeCertificates returns certificates (DER) as a PEM text, in their order.
func EncodeCertificates(ders ...[]byte) []byte {
	var text []byte
	for _, der := range ders {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return text
}

// EncodePrivateKey returns a private key as a PEM text, in PKCS #8 and not encrypted. It is a secret.
func EncodePrivateKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encoding private key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}
