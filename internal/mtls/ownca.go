package mtls

import (
	"crypto/x509"
	"fmt"
	"slices"
)

// ownCA is the relay's own authority beside another one. Each of the two vouches for agents of its own trust domain alone, so that neither can
// make an identity of the other.
type ownCA struct {
	cert        *x509.Certificate
	trustDomain string
}

// CheckVerifiable returns an error unless a CA of the CA file signed the certificate of this end: agents of the relay's own authority are told to
// verify the relay by those CAs.
func (m *Material) CheckVerifiable() error {
	if m.unsigned != nil {
		return fmt.Errorf("certificate %q is not signed by a CA in %q, so that agents of the relay's own authority could not verify this relay: %w", m.files.CertFile, m.files.CAFile, m.unsigned)
	}
	return nil
}

// Verifiers returns the CAs (DER) by which agents of the relay's own authority verify the relay: the one that its certificate ends at, first, and the
// authority's own, for when the relay goes back to it.
func (m *Material) Verifiers(own *x509.Certificate) [][]byte {
	if m.authority == nil || m.authority.Equal(own) {
		return [][]byte{own.Raw}
	}
	return [][]byte{m.authority.Raw, own.Raw}
}

// trustOwn trusts the relay's own authority beside those of the CA file.
func (m *Material) trustOwn(files Files) error {
	if err := m.CheckVerifiable(); err != nil {
		return err
	}
	own, err := m.readCertificates("own CA", files.OwnCAFile)
	if err != nil {
		return err
	}
	ca := own.certs[0]
	domain, err := AuthorityTrustDomain(ca)
	if err != nil {
		return fmt.Errorf("own CA file %q: %w", files.OwnCAFile, err)
	}
	if slices.ContainsFunc(m.cas, ca.Equal) {
		return nil // somebody put it into the CA file already, and it vouches for what those do
	}
	m.trust(ca)
	m.own = &ownCA{cert: ca, trustDomain: domain}
	return nil
}

// checkTrustDomain returns an error unless one of the authorities that vouch for a certificate may name agents of its trust domain.
func (m *Material) checkTrustDomain(id PeerID, chains [][]*x509.Certificate) error {
	byOwn := m.own != nil && slices.ContainsFunc(chains, func(chain []*x509.Certificate) bool { return m.own.cert.Equal(chain[len(chain)-1]) })
	switch {
	case byOwn && id.TrustDomain != m.own.trustDomain:
		return fmt.Errorf("it is of trust domain %q, and the relay's own authority vouches for %q", id.TrustDomain, m.own.trustDomain)
	case byOwn:
		return nil
	case m.trustDomain != "" && id.TrustDomain != m.trustDomain:
		return fmt.Errorf("it is of trust domain %q, this relay is of %q", id.TrustDomain, m.trustDomain)
	case m.trustDomain == "" && m.own != nil && id.TrustDomain == m.own.trustDomain:
		return fmt.Errorf("it is of trust domain %q, for which only the relay's own authority vouches", id.TrustDomain)
	default:
		return nil
	}
}
