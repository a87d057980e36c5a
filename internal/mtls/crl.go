package mtls

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// maxCRLBytes bounds the file of revocation lists: some 400,000 certificates, which take 100 MB while they are read and 35 MB after that.
const maxCRLBytes = 16 << 20

// Extensions of revocation lists (RFC 5280, section 5.2 and 5.3).
var (
	deltaCRLIndicator        = asn1.ObjectIdentifier{2, 5, 29, 27}
	issuingDistributionPoint = asn1.ObjectIdentifier{2, 5, 29, 28}
)

// revocationLists are what a file of certificate revocation lists says. It is immutable.
type revocationLists struct {
	// revoked is when a certificate was revoked, by its issuer (DER of the name) and its serial number (its bytes).
	revoked map[string]map[string]time.Time
	// count is how many certificates that are.
	count int
	// nextUpdate is when the first of the lists is out of date; zero if none says.
	nextUpdate time.Time
	// issuer is whose list that is, for people.
	issuer string
	// warnings are what is odd and not wrong, one line each.
	warnings []string
}

// loadRevocationLists reads a file: one list in DER, or any number in PEM, and beside those the certificates of intermediate CAs that issued
// them. Each list must be signed by a CA that agents' certificates are verified against, by an intermediate one of the relay's own chain, or by
// one of those in the file. What cannot be read is an error, and never a list less: nobody is to be let in because a file was cut short.
func loadRevocationLists(file string, m *Material) (*revocationLists, error) {
	text, err := readBounded(file)
	if err != nil {
		return nil, fmt.Errorf("reading revocation lists: %w", err)
	}
	lists, issuers, err := parseRevocationLists(text)
	if err != nil {
		return nil, fmt.Errorf("reading revocation lists %q: %w", file, err)
	}
	issuers = append(issuers, m.chain[1:]...)
	out := &revocationLists{revoked: map[string]map[string]time.Time{}}
	for _, list := range lists {
		if err := checkRevocationList(list, issuers, m); err != nil {
			return nil, fmt.Errorf("reading revocation lists %q: that of %q %w", file, clip(list.Issuer.String()), err)
		}
		out.add(list)
	}
	for _, ca := range m.cas {
		if _, listed := out.revoked[string(ca.RawSubject)]; !listed {
			out.warnings = append(out.warnings, fmt.Sprintf("it has no list of %q, so that no certificate that this CA issued itself is revoked by it", clip(ca.Subject.String())))
		}
	}
	return out, nil
}

// ListsFile is what a file of revocation lists has.
type ListsFile struct {
	// Lists and Certificates are how many lists it has, and how many certificates these revoke.
	Lists, Certificates int
	// NextUpdate is when the first of the lists is out of date; zero if none says.
	NextUpdate time.Time
}

// ReadRevocationLists reads a file of revocation lists as a relay does, all but whether its authorities have signed them: those are in other files.
func ReadRevocationLists(file string) (ListsFile, error) {
	text, err := readBounded(file)
	if err != nil {
		return ListsFile{}, fmt.Errorf("reading revocation lists: %w", err)
	}
	lists, _, err := parseRevocationLists(text)
	if err != nil {
		return ListsFile{}, fmt.Errorf("reading revocation lists %q: %w", file, err)
	}
	all := &revocationLists{revoked: map[string]map[string]time.Time{}}
	for _, list := range lists {
		if err := checkExtensions(list); err != nil {
			return ListsFile{}, fmt.Errorf("reading revocation lists %q: that of %q %w", file, clip(list.Issuer.String()), err)
		}
		all.add(list)
	}
	return ListsFile{Lists: len(lists), Certificates: all.count, NextUpdate: all.nextUpdate}, nil
}

func readBounded(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // Nothing was written.
	text, err := io.ReadAll(io.LimitReader(f, maxCRLBytes+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxCRLBytes {
		return nil, fmt.Errorf("%q is larger than %d MiB", file, maxCRLBytes>>20)
	}
	return text, nil
}

// parseRevocationLists returns the lists of a text, and the certificates beside them.
func parseRevocationLists(text []byte) (lists []*x509.RevocationList, issuers []*x509.Certificate, err error) {
	const sequence = 0x30 // what DER begins with
	if len(text) > 0 && text[0] == sequence && !bytes.Contains(text, []byte("-----BEGIN ")) {
		list, err := x509.ParseRevocationList(text)
		if err != nil {
			return nil, nil, err
		}
		return []*x509.RevocationList{list}, nil, nil
	}
	blocks, faults, err := pemBlocks(text)
	if err != nil {
		return nil, nil, err
	}
	if len(faults) > 0 {
		return nil, nil, errors.New(faults[0].String())
	}
	for _, block := range blocks {
		switch block.Type {
		case "X509 CRL":
			list, err := x509.ParseRevocationList(block.Bytes)
			if err != nil {
				return nil, nil, fmt.Errorf("line %d: %w", block.line, err)
			}
			lists = append(lists, list)
		case "CERTIFICATE":
			issuer, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, nil, fmt.Errorf("line %d: %w", block.line, err)
			}
			issuers = append(issuers, issuer)
		default:
			return nil, nil, fmt.Errorf("line %d: a block of type %q is not read, want X509 CRL", block.line, clip(block.Type))
		}
	}
	if len(lists) == 0 {
		return nil, nil, errors.New("no revocation list in it, neither in PEM (X509 CRL) nor in DER")
	}
	return lists, issuers, nil
}

// checkRevocationList returns an error unless a CA that is trusted with that signed the list, and the list means what it seems to.
func checkRevocationList(list *x509.RevocationList, intermediates []*x509.Certificate, m *Material) error {
	if err := checkExtensions(list); err != nil {
		return err
	}
	err := errors.New("is of a CA that is neither in the file of the agents' authorities, nor an intermediate one in the relay's certificate file or beside the list")
	for _, ca := range m.cas {
		if !bytes.Equal(ca.RawSubject, list.RawIssuer) {
			continue
		}
		signed := list.CheckSignatureFrom(ca)
		if signed == nil {
			return nil
		}
		err = fmt.Errorf("is not signed by it: %w", signed)
	}
	for _, ca := range intermediates {
		if !bytes.Equal(ca.RawSubject, list.RawIssuer) {
			continue
		}
		signed := list.CheckSignatureFrom(ca)
		if signed == nil {
			_, signed = checkIssuer(append([]*x509.Certificate{ca}, intermediates...), m.roots)
		}
		if signed == nil {
			return nil
		}
		err = fmt.Errorf("is not signed by an authority of agents: %w", signed)
	}
	return err
}

// checkExtensions refuses lists that say less, or of others, than it seems.
func checkExtensions(list *x509.RevocationList) error {
	for _, extension := range list.Extensions {
		switch {
		case extension.Id.Equal(deltaCRLIndicator):
			return errors.New("is a delta, which has only what changed: give the whole list")
		case extension.Critical && !extension.Id.Equal(issuingDistributionPoint): // which leaves out some certificates, or has a name
			return fmt.Errorf("has a critical extension %s that is not known here", extension.Id)
		}
	}
	for _, entry := range list.RevokedCertificateEntries {
		for _, extension := range entry.Extensions {
			if extension.Critical {
				return fmt.Errorf("has certificates of other issuers (an indirect list), or a critical extension %s that is not known here", extension.Id)
			}
		}
	}
	return nil
}

// add takes a list that is good. Several lists of one issuer count together.
func (l *revocationLists) add(list *x509.RevocationList) {
	issuer := string(list.RawIssuer)
	if l.revoked[issuer] == nil {
		l.revoked[issuer] = make(map[string]time.Time, len(list.RevokedCertificateEntries))
	}
	for _, entry := range list.RevokedCertificateEntries {
		l.revoked[issuer][string(entry.SerialNumber.Bytes())] = entry.RevocationTime
	}
	l.count += len(list.RevokedCertificateEntries)
	if next := list.NextUpdate; !next.IsZero() && (l.nextUpdate.IsZero() || next.Before(l.nextUpdate)) {
		l.nextUpdate, l.issuer = next, list.Issuer.String()
	}
}

// refuses reports whether a certificate is revoked by the lists, or a CA above it, and why. Of several chains one that is good is enough.
func (l *revocationLists) refuses(chains [][]*x509.Certificate) (reason string, refused bool) {
	for _, chain := range chains {
		if reason, refused = l.refusesChain(chain); !refused {
			return "", false
		}
	}
	return reason, refused
}

func (l *revocationLists) refusesChain(chain []*x509.Certificate) (reason string, refused bool) {
	for i, cert := range chain {
		at, listed := l.revoked[string(cert.RawIssuer)][string(cert.SerialNumber.Bytes())]
		if !listed || i > 0 && i == len(chain)-1 { // who is trusted as a root is trusted
			continue
		}
		what := "its certificate " + Serial(cert)
		if i > 0 {
			what = fmt.Sprintf("the certificate of the intermediate CA %q", clip(cert.Subject.String()))
		}
		return fmt.Sprintf("%s is in the revocation list of %q, since %s", what, clip(cert.Issuer.String()), at.UTC().Format(time.RFC3339)), true
	}
	return "", false
}

// isOutOfDate says that there should be a newer list.
func (l *revocationLists) isOutOfDate(now time.Time) bool {
	return !l.nextUpdate.IsZero() && now.After(l.nextUpdate)
}
