package mtls

import (
	"crypto/x509"
	"fmt"
	"net/url"
	"strings"
)

const (
	memberPathPrefix  = "/member/"
	joiningPathPrefix = "/joining/"
	memberTrustDomain = "pushrelay"
)

// MemberID is who a member of a cluster is. The zero value is nobody.
type MemberID struct {
	// Cluster is the id of the cluster, lower-case hexadecimal.
	Cluster string
	// Name is the member's; it satisfies [CheckMemberName].
	Name string
}

// URI returns the identity as the certificate carries it, spiffe://pushrelay/member/<cluster>/<name>.
func (id MemberID) URI() *url.URL {
	return &url.URL{Scheme: identityScheme, Host: memberTrustDomain, Path: memberPathPrefix + id.Cluster + "/" + id.Name}
}

// CheckMemberName returns an error that names what is wrong unless name can be a member's: a DNS label, that is at most 63 lower-case letters, digits
// and hyphens, the first and the last of them a letter or digit.
func CheckMemberName(name string) error {
	return checkName("member", name, "-", "lower-case letters, digits and hyphens")
}

// JoiningURI returns what the certificate of somebody carries who is no member yet and has the key of the members' authority,
// spiffe://pushrelay/joining/<name>. No member has one, so that none can be taken for it.
func JoiningURI(name string) *url.URL {
	return &url.URL{Scheme: identityScheme, Host: memberTrustDomain, Path: joiningPathPrefix + name}
}

// JoiningNameFromCertificate returns the name that a certificate carries by [JoiningURI], as its one URI SAN. It does not verify the certificate.
func JoiningNameFromCertificate(cert *x509.Certificate) (string, error) {
	if n := len(cert.URIs); n != 1 {
		return "", fmt.Errorf("certificate has %d URI SANs, want exactly one, that of a relay which joins", n)
	}
	text := cert.URIs[0].String()
	name, ok := strings.CutPrefix(text, JoiningURI("").String())
	if !ok {
		return "", fmt.Errorf("identity %q is not that of a relay which joins", clip(text))
	}
	if err := CheckMemberName(name); err != nil {
		return "", fmt.Errorf("identity %q: %w", clip(text), err)
	}
	return name, nil
}

// MemberIDFromCertificate returns the identity that a member's certificate carries as its one URI SAN. It does not verify the certificate.
func MemberIDFromCertificate(cert *x509.Certificate) (MemberID, error) {
	if n := len(cert.URIs); n != 1 {
		return MemberID{}, fmt.Errorf("certificate has %d URI SANs, want exactly one, that of a member", n)
	}
	text := cert.URIs[0].String()
	path, ok := strings.CutPrefix(text, (&url.URL{Scheme: identityScheme, Host: memberTrustDomain, Path: memberPathPrefix}).String())
	cluster, name, both := strings.Cut(path, "/")
	if !ok || !both || cluster == "" {
		return MemberID{}, fmt.Errorf("identity %q is not that of a member", clip(text))
	}
	if err := CheckMemberName(name); err != nil {
		return MemberID{}, fmt.Errorf("identity %q: %w", clip(text), err)
	}
	return MemberID{Cluster: cluster, Name: name}, nil
}
