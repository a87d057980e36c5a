package mtls

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
)

// Fault is the kind of a handshake that failed at the relay. Each is the value of a metric's label.
type Fault string

// What can be wrong with a connection to the agents' port.
const (
	// FaultNone is a connection that was opened and closed again, or one whose other end went away by itself.
	FaultNone Fault = ""
	// FaultNoTLS is something else than TLS, FaultProxyProtocol that of a load balancer which puts the PROXY protocol before it.
	FaultNoTLS         Fault = "not_tls"
	FaultProxyProtocol Fault = "proxy_protocol"
	// FaultTLSVersion is TLS of another version, FaultNoCertificate TLS by somebody who shows no certificate: no agent does either.
	FaultTLSVersion    Fault = "tls_version"
	FaultNoCertificate Fault = "no_certificate"
	// FaultCertificate is a certificate that the relay refuses, FaultRevoked one that is good and revoked, FaultRelayRefused the agent's refusal of the
	// relay's.
	FaultCertificate  Fault = "certificate"
	FaultRevoked      Fault = "revoked"
	FaultRelayRefused Fault = "relay_refused"
	// FaultBrokenOff is a connection that broke in the middle, FaultTimeout one on which nothing more came.
	FaultBrokenOff Fault = "broken_off"
	FaultTimeout   Fault = "timeout"
)

// Faults are all of them but FaultNone.
func Faults() []Fault {
	return []Fault{
		FaultNoTLS, FaultProxyProtocol, FaultTLSVersion, FaultNoCertificate, FaultCertificate, FaultRevoked, FaultRelayRefused, FaultBrokenOff, FaultTimeout,
	}
}

// FaultOf returns why the handshake failed at the relay: err is its error, and state that of the connection then.
func FaultOf(state tls.ConnectionState, err error) Fault {
	if header, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		if isProxyProtocol(header) {
			return FaultProxyProtocol
		}
		return FaultNoTLS
	}
	if _, ok := errors.AsType[*RevokedError](err); ok {
		return FaultRevoked
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok || len(state.PeerCertificates) > 0 {
		return FaultCertificate
	}
	if remote, ok := errors.AsType[*net.OpError](err); ok && remote.Op == "remote error" {
		return FaultRelayRefused
	}
	agreed := state.Version != 0 // on a version: the hello has come
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return FaultTimeout
	case errors.Is(err, io.EOF):
		return FaultNone
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		if agreed {
			return FaultBrokenOff
		}
		return FaultNone // a health check may also close by a reset
	case agreed:
		return FaultNoCertificate // crypto/tls has no type for it: nothing else fails between the hello and the certificate
	default:
		return FaultTLSVersion
	}
}

// AgentOf returns the agent that is named in the certificate which the relay refused; empty if there is none. Nothing vouches
// for it.
func AgentOf(state tls.ConnectionState, err error) string {
	shown := state.PeerCertificates
	if verification, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		shown = verification.UnverifiedCertificates
	}
	if len(shown) == 0 {
		return ""
	}
	id, err := PeerIDFromCertificate(shown[0])
	if err != nil {
		return ""
	}
	return id.Agent
}

// isProxyProtocol says whether the PROXY protocol, of version 1 or 2, stands where TLS should begin.
func isProxyProtocol(e tls.RecordHeaderError) bool {
	begin := e.RecordHeader[:]
	return bytes.HasPrefix([]byte("PROXY "), begin) || bytes.HasPrefix([]byte("\r\n\r\n\x00\r\nQUIT\n"), begin)
}
