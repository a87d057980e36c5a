package mtls

import (
	"crypto/tls"
	"slices"
)

// EnrolmentTLSConfig returns the TLS configuration of a connection on which an agent asks for a certificate (I3): it speaks nothing but the given
// protocol, asks for a certificate and verifies none, and gives no ticket that a later connection could be resumed with.
//
// The relay shows its CA's certificate after its own, for agents that know nothing of it but its digest.
func (m *Material) EnrolmentTLSConfig(protocol string) *tls.Config {
	cert := m.cert
	if m.authority != nil {
		cert.Certificate = append(slices.Clip(cert.Certificate), m.authority.Raw)
	}
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		NextProtos:             []string{protocol},
		Certificates:           []tls.Certificate{cert},
		ClientAuth:             tls.RequestClientCert,
		SessionTicketsDisabled: true,
	}
}
