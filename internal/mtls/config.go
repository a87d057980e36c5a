package mtls

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// alpn is the one protocol that both ends offer: gRPC runs on HTTP/2 and on nothing else.
const alpn = "h2"

// RelayTLSConfig returns the TLS configuration of the listener that agents dial. Every connection gets the material that
// r holds at that moment, and the choice is made per connection, so that a join service without agent certificates can
// stand beside it (T1).
//
// No certificate, one of another CA, a relay's or one without an identity fails in the handshake, on a full one and on a
// resumed one. If the relay's own certificate names a trust domain, agents of another one are refused too: two agents of
// one name would otherwise be one. So does a certificate that revoked refuses; nil refuses none. Use [ExplainHandshake] on the error before it is
// logged.
func RelayTLSConfig(r *Reloader, revoked Revoked) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{alpn},
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return relayConfig(r.Material(), revoked), nil
		},
	}
}

// relayConfig sets no ticket keys: those of the listener's configuration are used for all connections, so that a session
// can be resumed on a later connection.
func relayConfig(m *Material, revoked Revoked) *tls.Config {
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		NextProtos:   []string{alpn},
		Certificates: []tls.Certificate{m.cert},
		// The verification of crypto/tls, and not only ours below, because it tells the agent why: unknown CA, expired and
		// no certificate are alerts of their own.
		ClientAuth:       tls.RequireAndVerifyClientCert,
		ClientCAs:        m.roots,
		VerifyConnection: func(state tls.ConnectionState) error { return m.verifyAgent(state, revoked) },
	}
}

// Revoked reports whether the certificate of an agent is revoked, and why; chains are those by which it was verified, each from the certificate
// itself up to the authority. It is asked at the end of every handshake, and must be quick.
type Revoked func(id PeerID, chains [][]*x509.Certificate) (reason string, revoked bool)

// verifyAgent runs at the end of every handshake. On a resumed one nobody shows a certificate, it comes out of the ticket:
// crypto/tls resumes only if that is still valid under the CAs and the clock of now, and its identity is held against the
// relay of now here (TestResumptionIsVerifiedAgain).
func (m *Material) verifyAgent(state tls.ConnectionState, revoked Revoked) error {
	if len(state.PeerCertificates) == 0 || len(state.VerifiedChains) == 0 {
		return errors.New("refusing agent: no certificate")
	}
	id, err := PeerIDFromCertificate(state.PeerCertificates[0])
	if err != nil {
		return fmt.Errorf("refusing agent: %w", err)
	}
	if err := m.checkTrustDomain(id, state.VerifiedChains); err != nil {
		return fmt.Errorf("refusing agent %q: %w", id.Agent, err)
	}
	if revoked == nil {
		return nil
	}
	if reason, is := revoked(id, state.VerifiedChains); is {
		return &RevokedError{Agent: id.Agent, Reason: reason}
	}
	return nil
}

// AgentTLSConfig returns the TLS configuration with which an agent dials the relay at serverName, a host name or an IP
// address without port. It can be used for any number of connections; each gets the material that r holds at that moment.
//
// The relay's certificate must be signed by a CA of the CA file, name serverName, and be for a relay (extended key usage
// serverAuth, not an agent's identity): whoever holds an agent's certificate cannot pose as the relay. One of another CA
// fails with an [*UntrustedRelayError], an own certificate that is expired with a [*ValidityError]. The relay's refusal
// comes after the handshake: see [ExplainHandshake].
//
// Sessions are not resumed: a ticket would carry the agent's old certificate past a renewal, to save the relay one
// signature.
func AgentTLSConfig(r *Reloader, serverName string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{alpn},
		ServerName: serverName,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			m := r.Material()
			if err := m.CheckValidity(time.Now()); err != nil {
				return nil, err
			}
			return &m.cert, nil
		},
		// Not less verification but our own, below: the CA file can change while this configuration lives, which RootCAs
		// cannot, and the error can say what an operator has to look for.
		InsecureSkipVerify: true,
		// serverName is bound here: what gRPC writes into its copy of ServerName is the authority of its target.
		VerifyConnection: func(state tls.ConnectionState) error {
			return VerifyRelay(r.Material().roots, serverName, state)
		},
	}
}

// VerifyRelay is the whole verification of a relay's certificate: a CA of the roots signed it, it names serverName, and it is for a relay.
// One of another CA is an [*UntrustedRelayError].
func VerifyRelay(roots *x509.CertPool, serverName string, state tls.ConnectionState) error {
	if serverName == "" {
		return errors.New("verifying relay: no host name is given to verify it by")
	}
	if len(state.PeerCertificates) == 0 {
		return fmt.Errorf("verifying relay %q: it shows no certificate", serverName)
	}
	leaf := state.PeerCertificates[0]
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots:         roots,
		Intermediates: poolOf(state.PeerCertificates[1:]),
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return &UntrustedRelayError{ServerName: serverName, Subject: leaf.Subject.String(), Issuer: leaf.Issuer.String(), Err: err}
	}
	// Before the rest of the verification's errors: that it is an agent's certificate says more than "incompatible usage".
	if err := checkRole(Relay, leaf); err != nil {
		return fmt.Errorf("verifying relay %q: its certificate is not a relay's: %w", serverName, err)
	}
	if err != nil {
		return fmt.Errorf("verifying relay %q: %w", serverName, err)
	}
	if err := leaf.VerifyHostname(serverName); err != nil {
		return fmt.Errorf("verifying relay %q: its certificate has other names (the relay's --grpc.tls.server-name sets them): %w", serverName, err)
	}
	return nil
}
