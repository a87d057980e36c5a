package authority

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"pushrelay/internal/mtls"
)

// RelayCertificate is the relay's own certificate as EnsureRelay left it on disk.
type RelayCertificate struct {
	// Files are what a [mtls.Reloader] of the relay reads. They stay the same over all renewals.
	Files mtls.Files
	// NotAfter is when the certificate expires, RenewAt when EnsureRelay will replace it.
	NotAfter, RenewAt time.Time
	// Reissued says why there is a new certificate, for the log. Empty if the one that was there is kept.
	Reissued string
}

// EnsureRelay sees to it that the authority's directory holds a certificate and key of the relay (relay.crt, relay.key)
// for exactly these names, issued by this authority and with at least a third of its life to go, and issues one if not. A
// running relay calls it now and then, its [mtls.Reloader] does the rest.
func (a *Authority) EnsureRelay(names []string) (RelayCertificate, error) {
	if _, _, err := subjectAltNames(names); err != nil {
		return RelayCertificate{}, fmt.Errorf("ensuring relay certificate: %w", err)
	}
	var ensured RelayCertificate
	err := withLock(a.dir, func() error {
		var err error
		ensured, err = a.ensureRelay(names)
		return err
	})
	if err != nil {
		return RelayCertificate{}, fmt.Errorf("ensuring relay certificate: %w", err)
	}
	return ensured, nil
}

// ensureRelay is EnsureRelay with the lock held.
func (a *Authority) ensureRelay(names []string) (RelayCertificate, error) {
	files := relayPair(a.dir)
	if err := files.settle(); err != nil {
		return RelayCertificate{}, err
	}
	_, cert, err := files.read()
	var reason string
	switch _, broken := errors.AsType[*brokenPairError](err); {
	case errors.Is(err, errNoPair):
		reason = "there was none"
	case broken:
		// Unlike a CA, a leaf can be made again: nobody but the relay holds it.
		reason = err.Error()
	case err != nil:
		return RelayCertificate{}, err
	default:
		reason = a.whyReissue(cert.Leaf, names, time.Now())
	}
	if reason == "" {
		return RelayCertificate{Files: a.Files(), NotAfter: cert.Leaf.NotAfter, RenewAt: a.renewAt(cert.Leaf)}, nil
	}

	issued, err := a.IssueRelay(names)
	if err != nil {
		return RelayCertificate{}, err
	}
	if err := files.write(issued.CertPEM, issued.KeyPEM); err != nil {
		return RelayCertificate{}, err
	}
	if _, cert, err = files.read(); err != nil {
		return RelayCertificate{}, fmt.Errorf("reading back the new certificate: %w", err)
	}
	return RelayCertificate{Files: a.Files(), NotAfter: issued.NotAfter, RenewAt: a.renewAt(cert.Leaf), Reissued: reason}, nil
}

// whyReissue returns why a relay certificate cannot be kept, empty if it can.
func (a *Authority) whyReissue(leaf *x509.Certificate, names []string, now time.Time) string {
	if err := a.CheckIssued(leaf); err != nil {
		return err.Error()
	}
	if had, want := RelayNames(leaf), canonicalNames(names); !slices.Equal(had, want) {
		return fmt.Sprintf("its names were %q", had)
	}
	if !now.Before(a.renewAt(leaf)) {
		return "two thirds of its life are over"
	}
	return ""
}

// renewAt returns the moment from which a certificate is replaced, at two thirds of its life (T8). One that lives as long
// as the CA cannot get older: replacing it more and more often towards the end would change nothing.
func (a *Authority) renewAt(leaf *x509.Certificate) time.Time {
	if !leaf.NotAfter.Before(a.cert.NotAfter) {
		return leaf.NotAfter
	}
	return leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) / 3 * 2)
}

// RelayNames returns the host names and IP addresses that a relay's certificate was issued for, sorted.
func RelayNames(cert *x509.Certificate) []string {
	names := slices.Clone(cert.DNSNames)
	for _, address := range cert.IPAddresses {
		names = append(names, address.String())
	}
	return canonicalNames(names)
}
