package mtls

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strings"
)

const (
	identityScheme  = "spiffe"
	agentPathPrefix = "/agent/"
	relayPath       = "/relay"

	// maxName is the length of a DNS label: a name then also fits where people put it, in host names and labels.
	maxName = 63
	// maxTrustDomain is the limit that SPIFFE sets.
	maxTrustDomain = 255
)

// PeerID is who an agent is: what its verified certificate says, and nothing else does.
//
// The zero value is nobody. PeerIDs are comparable.
type PeerID struct {
	// TrustDomain is the host part of the identity: whose certificate authority vouches for the name.
	TrustDomain string
	// Agent is the name of the agent, unique within the trust domain; it satisfies [CheckAgentName].
	Agent string
}

// String returns the identity as the URI that the certificate carries.
func (id PeerID) String() string { return AgentURI(id.TrustDomain, id.Agent).String() }

// AgentURI returns the identity of an agent, spiffe://<trust domain>/agent/<name>. It does not check its arguments: see
// [CheckTrustDomain] and [CheckAgentName].
func AgentURI(trustDomain, name string) *url.URL {
	return &url.URL{Scheme: identityScheme, Host: trustDomain, Path: agentPathPrefix + name}
}

// RelayURI returns the identity of the relays of a trust domain, spiffe://<trust domain>/relay. All relays share it:
// agents tell relays apart by host name. It does not check its argument: see [CheckTrustDomain].
func RelayURI(trustDomain string) *url.URL {
	return &url.URL{Scheme: identityScheme, Host: trustDomain, Path: relayPath}
}

// AuthorityURI returns how the certificate of a relay's own authority carries its trust domain, spiffe://<trust domain>. It does not check its
// argument: see [CheckTrustDomain].
func AuthorityURI(trustDomain string) *url.URL {
	return &url.URL{Scheme: identityScheme, Host: trustDomain}
}

// AuthorityTrustDomain returns the trust domain that the certificate of a relay's own authority names.
func AuthorityTrustDomain(ca *x509.Certificate) (string, error) {
	for _, uri := range ca.URIs {
		if CheckTrustDomain(uri.Host) == nil && uri.String() == AuthorityURI(uri.Host).String() {
			return uri.Host, nil
		}
	}
	return "", errors.New("the CA's certificate names no trust domain (URI SAN spiffe://<trust domain>): it was not made by this program")
}

// CheckAgentName returns an error that names what is wrong unless name can be an agent's:
// [a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?, that is at most 63 lower-case letters, digits, dots and hyphens, the first and
// the last of them a letter or digit.
func CheckAgentName(name string) error {
	return checkName("agent", name, ".-", "lower-case letters, digits, dots and hyphens")
}

// checkName checks a name of that kind, in which signs are allowed beside lower-case letters and digits, but not at its ends.
func checkName(kind, name, signs, allowed string) error {
	switch {
	case name == "":
		return fmt.Errorf("%s name is empty", kind)
	case len(name) > maxName:
		return fmt.Errorf("%s name %q has %d characters, %d are allowed", kind, clip(name), len(name), maxName)
	case !isAlphanumeric(name[0]) || !isAlphanumeric(name[len(name)-1]):
		return fmt.Errorf("%s name %q does not begin and end with a lower-case letter or digit", kind, name)
	}
	for _, c := range []byte(name) {
		if !isAlphanumeric(c) && strings.IndexByte(signs, c) < 0 {
			return fmt.Errorf("%s name %q has %q in it: %s are allowed", kind, name, c, allowed)
		}
	}
	return nil
}

// CheckTrustDomain returns an error that names what is wrong unless trustDomain can be one: 1 to 255 lower-case letters,
// digits, dots, hyphens and underscores (SPIFFE ID, section 2.1).
func CheckTrustDomain(trustDomain string) error {
	if trustDomain == "" {
		return errors.New("trust domain is empty")
	}
	if len(trustDomain) > maxTrustDomain {
		return fmt.Errorf("trust domain %q has %d characters, %d are allowed", clip(trustDomain), len(trustDomain), maxTrustDomain)
	}
	for _, c := range []byte(trustDomain) {
		if !isAlphanumeric(c) && c != '.' && c != '-' && c != '_' {
			return fmt.Errorf("trust domain %q has %q in it: lower-case letters, digits, dots, hyphens and underscores are allowed",
				clip(trustDomain), c)
		}
	}
	return nil
}

// PeerIDFromCertificate returns the identity that the certificate carries as its one URI SAN. The error names what is
// wrong with it. It does not verify the certificate: use [PeerIDFromState] for a peer.
func PeerIDFromCertificate(cert *x509.Certificate) (PeerID, error) {
	if n := len(cert.URIs); n != 1 {
		return PeerID{}, fmt.Errorf("certificate has %d URI SANs, want exactly one, spiffe://<trust domain>/agent/<name>", n)
	}
	uri := cert.URIs[0]
	if uri.Scheme != identityScheme {
		return PeerID{}, fmt.Errorf("identity %q is not a %s URI", clip(uri.String()), identityScheme)
	}
	if err := CheckTrustDomain(uri.Host); err != nil {
		return PeerID{}, fmt.Errorf("identity %q: %w", clip(uri.String()), err)
	}
	if uri.Path == relayPath {
		return PeerID{}, fmt.Errorf("identity %q is a relay's, not an agent's", clip(uri.String()))
	}
	name, ok := strings.CutPrefix(uri.Path, agentPathPrefix)
	if !ok {
		return PeerID{}, fmt.Errorf("identity %q has the path %q, not %s<name>", clip(uri.String()), clip(uri.Path), agentPathPrefix)
	}
	if err := CheckAgentName(name); err != nil {
		return PeerID{}, fmt.Errorf("identity %q: %w", clip(uri.String()), err)
	}
	// One agent, one spelling: escapes, a query or a user would be other texts for the same name.
	id := PeerID{TrustDomain: uri.Host, Agent: name}
	if uri.String() != id.String() {
		return PeerID{}, fmt.Errorf("identity %q has parts beside trust domain and name, want %q", clip(uri.String()), id)
	}
	return id, nil
}

// Serial returns the serial number of a certificate in lower-case hexadecimal, as it is told and compared.
func Serial(cert *x509.Certificate) string { return cert.SerialNumber.Text(16) }

// PeerIDFromState returns the identity of the agent at the other end of a connection that a relay accepted with
// [RelayTLSConfig]. It is an error if the handshake is not complete or did not verify a certificate.
func PeerIDFromState(state tls.ConnectionState) (PeerID, error) {
	if !state.HandshakeComplete {
		return PeerID{}, errors.New("reading the peer's identity: TLS handshake is not complete")
	}
	if len(state.VerifiedChains) == 0 || len(state.PeerCertificates) == 0 {
		return PeerID{}, errors.New("reading the peer's identity: no verified certificate")
	}
	id, err := PeerIDFromCertificate(state.PeerCertificates[0])
	if err != nil {
		return PeerID{}, fmt.Errorf("reading the peer's identity: %w", err)
	}
	return id, nil
}

// relayTrustDomain returns the trust domain of a relay's certificate, empty if it does not say: a certificate of a
// public CA can serve a relay and cannot carry such a URI.
func relayTrustDomain(cert *x509.Certificate) string {
	for _, uri := range cert.URIs {
		if uri.String() == RelayURI(uri.Host).String() && CheckTrustDomain(uri.Host) == nil {
			return uri.Host
		}
	}
	return ""
}

func isAlphanumeric(c byte) bool { return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' }

// clip bounds what a stranger's certificate can write into an error and so into a log.
func clip(s string) string {
	const limit = 200
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "…"
}
