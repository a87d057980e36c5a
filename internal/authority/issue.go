package authority

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"pushrelay/internal/mtls"
)

// Issued is a new certificate with its key, and the CA's certificate that goes with them. The key exists nowhere else.
type Issued struct {
	// CertPEM and CAPEM are no secrets; KeyPEM is.
	CertPEM, KeyPEM, CAPEM []byte
	// NotAfter is when the certificate expires: a year from now, or with the CA if that is sooner.
	NotAfter time.Time
}

// IssueAgent issues the certificate of an agent: its identity is the name, see [mtls.CheckAgentName]. Several
// certificates of one name are one agent.
func (a *Authority) IssueAgent(name string) (Issued, error) {
	if err := mtls.CheckAgentName(name); err != nil {
		return Issued{}, fmt.Errorf("issuing agent certificate: %w", err)
	}
	issued, err := a.issue(a.agentTemplate(name))
	if err != nil {
		return Issued{}, fmt.Errorf("issuing certificate of agent %q: %w", name, err)
	}
	return issued, nil
}

// IssueRelay issues the certificate of a relay that agents reach by the given names, one or more host names or IP
// addresses without port.
func (a *Authority) IssueRelay(names []string) (Issued, error) {
	dnsNames, addresses, err := subjectAltNames(names)
	if err != nil {
		return Issued{}, fmt.Errorf("issuing relay certificate: %w", err)
	}
	issued, err := a.issue(&x509.Certificate{
		Subject:     pkix.Name{CommonName: "relay"},
		DNSNames:    dnsNames,
		IPAddresses: addresses,
		URIs:        []*url.URL{mtls.RelayURI(a.trustDomain)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	if err != nil {
		return Issued{}, fmt.Errorf("issuing relay certificate: %w", err)
	}
	return issued, nil
}

// SignAgent issues the certificate of an agent for a key that the agent alone has, see [CheckRequest]. It lives for life from now on, or ends with the CA
// if that is sooner.
func (a *Authority) SignAgent(name string, key crypto.PublicKey, life time.Duration) (*x509.Certificate, error) {
	if err := mtls.CheckAgentName(name); err != nil {
		return nil, fmt.Errorf("issuing agent certificate: %w", err)
	}
	der, err := a.sign(a.agentTemplate(name), key, life)
	if err != nil {
		return nil, fmt.Errorf("issuing certificate of agent %q: %w", name, err)
	}
	return x509.ParseCertificate(der)
}

// A Former is a certificate that was issued before.
type Former struct {
	// Serial is its serial number, see mtls.Serial.
	Serial              string
	NotBefore, NotAfter time.Time
}

// SignAgentAgain issues a certificate of an agent once more, for the same key: it says what the former one said, so that the two are one to everybody.
func (a *Authority) SignAgentAgain(name string, key crypto.PublicKey, former Former) (*x509.Certificate, error) {
	serial, ok := new(big.Int).SetString(former.Serial, 16)
	if !ok {
		return nil, fmt.Errorf("issuing certificate of agent %q again: %q is no serial number", name, former.Serial)
	}
	template := a.agentTemplate(name)
	template.SerialNumber, template.NotBefore, template.NotAfter = serial, former.NotBefore, former.NotAfter
	der, err := a.signAs(template, key)
	if err != nil {
		return nil, fmt.Errorf("issuing certificate of agent %q again: %w", name, err)
	}
	return x509.ParseCertificate(der)
}

func (a *Authority) agentTemplate(name string) *x509.Certificate {
	return &x509.Certificate{
		Subject:     pkix.Name{CommonName: name},
		URIs:        []*url.URL{mtls.AgentURI(a.trustDomain, name)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
}

// issue signs the template for a new key.
func (a *Authority) issue(template *x509.Certificate) (Issued, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Issued{}, fmt.Errorf("making a key: %w", err)
	}
	der, err := a.sign(template, key.Public(), leafLife)
	if err != nil {
		return Issued{}, err
	}
	keyPEM, err := mtls.EncodePrivateKey(key)
	if err != nil {
		return Issued{}, err
	}
	return Issued{CertPEM: mtls.EncodeCertificates(der), KeyPEM: keyPEM, CAPEM: a.caPEM, NotAfter: template.NotAfter}, nil
}

// sign completes the template with what all leaves share, and signs it for a key.
func (a *Authority) sign(template *x509.Certificate, key crypto.PublicKey, life time.Duration) (der []byte, err error) {
	if template.SerialNumber, err = newSerial(); err != nil {
		return nil, err
	}
	now := time.Now()
	template.NotBefore = now.Add(-mtls.Backdate)
	template.NotAfter = now.Add(life).UTC().Truncate(time.Second)
	if a.cert.NotAfter.Before(template.NotAfter) {
		template.NotAfter = a.cert.NotAfter
	}
	return a.signAs(template, key)
}

// signAs signs a template that has its serial number and its dates.
func (a *Authority) signAs(template *x509.Certificate, key crypto.PublicKey) (der []byte, err error) {
	if now := time.Now(); now.Before(a.cert.NotBefore) || now.After(a.cert.NotAfter) {
		return nil, fmt.Errorf("the CA is valid from %s to %s only, and this machine's clock says %s",
			a.cert.NotBefore.Format(time.RFC3339), a.cert.NotAfter.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.BasicConstraintsValid = true // not a CA, said explicitly
	if der, err = x509.CreateCertificate(rand.Reader, template, a.cert, key, a.key); err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	return der, nil
}

// subjectAltNames sorts names into host names, in lower case, and IP addresses, without repetitions.
func subjectAltNames(names []string) (dnsNames []string, addresses []net.IP, err error) {
	if len(names) == 0 {
		return nil, nil, errors.New("no name is given that agents reach the relay by")
	}
	for _, name := range canonicalNames(names) {
		if address, err := netip.ParseAddr(name); err == nil && address.Zone() == "" {
			addresses = append(addresses, address.AsSlice())
			continue
		}
		if err := checkHostName(name); err != nil {
			return nil, nil, err
		}
		dnsNames = append(dnsNames, name)
	}
	return dnsNames, addresses, nil
}

// canonicalNames returns the names sorted, in one spelling each and without repetitions, so that two sets can be
// compared.
func canonicalNames(names []string) []string {
	canonical := make([]string, 0, len(names))
	for _, name := range names {
		name = strings.ToLower(name)
		if address, err := netip.ParseAddr(name); err == nil {
			name = address.Unmap().String()
		}
		canonical = append(canonical, name)
	}
	slices.Sort(canonical)
	return slices.Compact(canonical)
}

func checkHostName(name string) error {
	if strings.ContainsAny(name, ":/[]") {
		return fmt.Errorf("relay name %q is not a host name or an IP address: leave out scheme, port and brackets", name)
	}
	if len(name) > 253 {
		return fmt.Errorf("relay name %q is longer than 253 characters", name)
	}
	for i, label := range strings.Split(name, ".") {
		if i == 0 && label == "*" {
			continue // a wildcard for one label
		}
		if label == "" || len(label) > 63 || strings.ContainsFunc(label, notInHostName) {
			return fmt.Errorf("relay name %q is not a host name: %q cannot be a part of one", name, label)
		}
	}
	return nil
}

func notInHostName(r rune) bool {
	return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_'
}
