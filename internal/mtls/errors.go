package mtls

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"time"
)

// ValidityError says that the certificate of this end is expired or not yet valid.
type ValidityError struct {
	Role                Role
	CertFile            string
	NotBefore, NotAfter time.Time
	// Now is what this machine's clock said, which may be what is wrong.
	Now time.Time
	// Renewal says what to do; empty for what is done with the relay's own CA.
	Renewal string
}

// Error names the file, the date and what to do.
func (e *ValidityError) Error() string {
	if e.Now.Before(e.NotBefore) {
		return fmt.Sprintf("certificate %q is not valid before %s and this machine's clock says %s: check the clock",
			e.CertFile, e.NotBefore.UTC().Format(time.RFC3339), e.Now.UTC().Format(time.RFC3339))
	}
	renewal := cmp.Or(e.Renewal, fmt.Sprintf("replace it, with the relay's own CA by `relay-server %s-certificate`", e.Role))
	return fmt.Sprintf("certificate %q expired at %s (this machine's clock says %s): %s", e.CertFile, e.NotAfter.UTC().Format(time.RFC3339), e.Now.UTC().Format(time.RFC3339), renewal)
}

// UntrustedRelayError says that what answered at the relay's address showed a certificate that no CA of the agent's CA
// file signed (T10).
type UntrustedRelayError struct {
	// ServerName is the host that the agent meant to reach.
	ServerName string
	// Subject and Issuer are the distinguished names in the certificate that was shown; nothing vouches for them.
	Subject, Issuer string
	// Err is the reason of the verification.
	Err error
}

// Error names the issuer and asks the question that most often solves it.
func (e *UntrustedRelayError) Error() string {
	return fmt.Sprintf("relay %q shows a certificate issued by %q, which is not in the CA file: is TLS inspected on the way, or is the"+
		" CA file that of another relay?: %v", e.ServerName, clip(e.Issuer), e.Err)
}

// Unwrap returns the reason of the verification.
func (e *UntrustedRelayError) Unwrap() error { return e.Err }

// RefusedError says that the relay refused the agent's certificate. With TLS 1.3 it arrives after the agent's handshake
// is done, at the first read (T10).
type RefusedError struct {
	// Reason is what the relay's alert means here, one line.
	Reason string
	// Lasting says that it is about the certificate itself, so that the relay will say the same again until somebody does something. Revoked says that
	// the certificate is revoked, and not only that it may be.
	Lasting, Revoked bool
	// Expired says that the certificate is outside its validity by the relay's clock.
	Expired bool
	// Err is the error of the connection.
	Err error
}

// Error says who refused and why.
func (e *RefusedError) Error() string { return "relay refused this agent: " + e.Reason }

// Unwrap returns the error of the connection.
func (e *RefusedError) Unwrap() error { return e.Err }

// RevokedError says that the relay refuses a genuine certificate, because its agent or the certificate is revoked. The agent gets the alert
// bad_certificate: crypto/tls has no way to send certificate_revoked.
type RevokedError struct {
	// Agent is who the certificate is of.
	Agent string
	// Reason says what was revoked and when, one line.
	Reason string
}

// Error names the agent.
func (e *RevokedError) Error() string { return fmt.Sprintf("refusing agent %q: %s", e.Agent, e.Reason) }

// ExplainHandshake returns the error of a handshake, or of the first read after it, in words for the operator of this
// end; it wraps err. own is the end that got the error. On an agent the relay's refusal becomes a [*RefusedError]. An
// error that has nothing to explain is returned as it is.
func ExplainHandshake(own Role, err error) error {
	if verification, ok := errors.AsType[*tls.CertificateVerificationError](err); ok && len(verification.UnverifiedCertificates) > 0 {
		return fmt.Errorf("%s: %w", describeRefused(verification), err)
	}
	if header, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		if own == Relay && isProxyProtocol(header) {
			return fmt.Errorf("the PROXY protocol comes before TLS, which the relay does not read: turn it off for this port at the load balancer (send-proxy, proxy_protocol, proxy protocol v2): %w", err)
		}
		if own == Relay {
			return fmt.Errorf("what dialled does not speak TLS: %w", err)
		}
		return fmt.Errorf("what answers there does not speak TLS: is that the relay's port for agents (--grpc.listen-address), not its HTTP port?: %w", err)
	}
	remote, ok := errors.AsType[*net.OpError](err)
	if !ok || remote.Op != "remote error" {
		return err
	}
	if own == Relay {
		return fmt.Errorf("agent refused the relay's certificate or its TLS (the agent's log says why): %w", err)
	}
	if refused := refusalOf(remote.Err); refused != nil {
		refused.Err = err
		return refused
	}
	return fmt.Errorf("relay broke off TLS: %w", err)
}

// The alerts that are about an agent's certificate (RFC 8446, section 6.2).
const (
	alertBadCertificate      tls.AlertError = 42
	alertCertificateRevoked  tls.AlertError = 44
	alertCertificateExpired  tls.AlertError = 45
	alertUnknownCA           tls.AlertError = 48
	alertCertificateRequired tls.AlertError = 116
)

// refusalOf says what an alert of the relay means for an agent's certificate, nil if it is about something else.
func refusalOf(alert error) *RefusedError {
	for _, refusal := range []struct {
		alert  tls.AlertError
		reason string
	}{
		{alertBadCertificate, "it refuses this certificate: it may be revoked, or it has no agent identity of the relay's trust domain, or is not for agents (the relay's log says which)"},
		{alertCertificateRevoked, "the certificate is revoked"},
		{alertCertificateExpired, "the certificate is expired or not yet valid by the relay's clock: replace it, or check the clocks"},
		{alertUnknownCA, "the certificate is not signed by the relay's CA: was it issued by another relay?"},
		{alertCertificateRequired, "no certificate was sent"},
	} {
		// crypto/tls keeps the alerts of a TCP connection in a type of its own; the text is the same.
		if alert.Error() == refusal.alert.Error() {
			revoked := refusal.alert == alertCertificateRevoked
			return &RefusedError{
				Reason: refusal.reason, Lasting: revoked || refusal.alert == alertBadCertificate, Revoked: revoked, Expired: refusal.alert == alertCertificateExpired,
			}
		}
	}
	return nil
}

// describeRefused says whose certificate the relay refused, and why. Nothing vouches for the names in it.
func describeRefused(e *tls.CertificateVerificationError) string {
	leaf := e.UnverifiedCertificates[0]
	who := fmt.Sprintf("certificate of %q", clip(leaf.Subject.String()))
	if id, err := PeerIDFromCertificate(leaf); err == nil {
		who = fmt.Sprintf("certificate that names agent %q", id.Agent)
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](e.Err); ok {
		return fmt.Sprintf("%s is issued by %q, not by this relay's CA", who, clip(leaf.Issuer.String()))
	}
	invalid, ok := errors.AsType[x509.CertificateInvalidError](e.Err)
	switch {
	case ok && invalid.Reason == x509.Expired && invalid.Cert != nil:
		return fmt.Sprintf("%s is outside its validity, %s to %s", who,
			invalid.Cert.NotBefore.UTC().Format(time.RFC3339), invalid.Cert.NotAfter.UTC().Format(time.RFC3339))
	case ok && invalid.Reason == x509.IncompatibleUsage:
		return who + " is not for agents (extended key usage clientAuth)"
	default:
		return who + " is not acceptable"
	}
}
