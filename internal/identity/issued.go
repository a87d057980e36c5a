package identity

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"pushrelay/internal/enrol"
	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/mtls"
)

// A Certificate is what a relay issued, checked: [Store.Put] and [Identity.Renew] write it.
type Certificate struct {
	// Agent is whose it is.
	Agent mtls.PeerID
	// Leaf is the certificate itself.
	Leaf *x509.Certificate

	authority      enrol.Pin
	pairPEM, caPEM []byte
}

// A ClockError says that what a relay issued is outside its validity by this machine's clock.
type ClockError struct{ NotBefore, NotAfter, Now time.Time }

// Error says what to do.
func (e *ClockError) Error() string {
	return fmt.Sprintf("the relay issued a certificate that is valid from %s to %s, and this machine's clock says %s: check both clocks",
		e.NotBefore.UTC().Format(time.RFC3339), e.NotAfter.UTC().Format(time.RFC3339), e.Now.UTC().Format(time.RFC3339))
}

// CheckFirst returns what a relay issued for a token, or what is wrong with it: it is for the key, of the agent of that name (empty for any), and signed
// by one of the authorities that came with it, of which one is the CA of the pin. One that is outside its validity is a [*ClockError].
func CheckFirst(issued *relayv1.IssuedCertificate, key crypto.Signer, name string, authority enrol.Pin) (*Certificate, error) {
	return check(issued, key, func(c *Certificate, cas []*x509.Certificate) error {
		c.authority = authority
		if name != "" && c.Agent.Agent != name {
			return fmt.Errorf("it is of agent %q and not of %q", c.Agent.Agent, name)
		}
		if !slices.ContainsFunc(cas, func(ca *x509.Certificate) bool { return enrol.PinOf(ca.Raw) == authority }) {
			return errors.New("the authority of the token is not among the CAs that came with it")
		}
		return nil
	})
}

// CheckNext returns what a relay issued in the place of the identity's certificate, as [CheckFirst] does: it is of the same agent, and one of the
// authorities is one that the identity has, so that no relay can have the agent believe strangers only.
func (id *Identity) CheckNext(issued *relayv1.IssuedCertificate, key crypto.Signer) (*Certificate, error) {
	return check(issued, key, func(c *Certificate, cas []*x509.Certificate) error {
		c.authority = id.Authority
		if c.Agent != id.Agent {
			return fmt.Errorf("it is of %s and not of %s", c.Agent, id.Agent)
		}
		if !slices.ContainsFunc(cas, func(ca *x509.Certificate) bool { return slices.ContainsFunc(id.cas, ca.Equal) }) {
			return errors.New("none of the CAs that came with it is one of those before")
		}
		return nil
	})
}

func check(issued *relayv1.IssuedCertificate, key crypto.Signer, more func(*Certificate, []*x509.Certificate) error) (*Certificate, error) {
	c, err := checked(issued, key, more)
	if _, clock := errors.AsType[*ClockError](err); err != nil && !clock {
		return nil, fmt.Errorf("the relay issued a certificate that cannot be used: %w", err)
	}
	return c, err
}

func checked(issued *relayv1.IssuedCertificate, key crypto.Signer, more func(*Certificate, []*x509.Certificate) error) (*Certificate, error) {
	chain, err := parse("chain", issued.GetChain(), enrol.MaxChain)
	if err != nil {
		return nil, err
	}
	cas, err := parse("authorities", issued.GetAuthorities(), enrol.MaxAuthorities)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	for _, ca := range cas {
		if !ca.IsCA || !ca.BasicConstraintsValid {
			return nil, errors.New("one of its authorities is no CA")
		}
		roots.AddCert(ca)
	}
	intermediates := x509.NewCertPool()
	for _, cert := range chain[1:] {
		intermediates.AddCert(cert)
	}
	leaf := chain[0]
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(leaf.PublicKey) {
		return nil, errors.New("it is for another key")
	}
	c := &Certificate{Leaf: leaf}
	if c.Agent, err = mtls.PeerIDFromCertificate(leaf); err != nil {
		return nil, err
	}
	// The dates of the leaf are judged below, in words about clocks.
	options := x509.VerifyOptions{
		Roots: roots, Intermediates: intermediates, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, CurrentTime: leaf.NotAfter,
	}
	if _, err := leaf.Verify(options); err != nil {
		return nil, err
	}
	if err := more(c, cas); err != nil {
		return nil, err
	}
	keyPEM, err := mtls.EncodePrivateKey(key)
	if err != nil {
		return nil, err
	}
	c.pairPEM, c.caPEM = append(mtls.EncodeCertificates(issued.GetChain()...), keyPEM...), mtls.EncodeCertificates(issued.GetAuthorities()...)
	if now := time.Now(); now.Before(leaf.NotBefore) || now.After(leaf.NotAfter) {
		return nil, &ClockError{NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter, Now: now}
	}
	return c, nil
}

func parse(what string, ders [][]byte, most int) ([]*x509.Certificate, error) {
	if len(ders) == 0 || len(ders) > most {
		return nil, fmt.Errorf("its %s has %d certificates, want 1 to %d", what, len(ders), most)
	}
	certs := make([]*x509.Certificate, 0, len(ders))
	for _, der := range ders {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("parsing its %s: %w", what, err)
		}
		certs = append(certs, cert)
	}
	return certs, nil
}
