package relay

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"

	"pushrelay/internal/control"
	"pushrelay/internal/enrol"
	"pushrelay/internal/enrol/enrolserver"
	"pushrelay/internal/mtls"
)

// newEnrolment makes what gives certificates to agents. A relay that has no authority of its own, or no ledger, refuses everybody in words.
func (s *Server) newEnrolment() *enrolserver.Server {
	cfg := enrolserver.Config{
		Certificates: s.certificates, Known: s.agents.CertificateEnd, CheckName: s.agents.CheckName, Lifetime: s.opts.AgentCertificateLifetime, Grace: s.opts.AgentRenewalGrace,
		Logger: s.logger.With(slog.String("component", "enrolment")), Registerer: s.telemetry,
	}
	if s.authority != nil && s.ledger != nil {
		cfg.Authority, cfg.Ledger, cfg.Issued = s.authority, s.ledger, s.control.Issued
	}
	return enrolserver.New(cfg)
}

// place says where agents find this relay, or why it can let none in by a token.
func (s *Server) place() (control.Place, error) {
	switch {
	case s.tunnel == nil:
		return control.Place{}, errors.New("agents cannot dial in: this relay has no certificate for their port")
	case s.authority == nil:
		return control.Place{}, errors.New("this relay has no certificate authority of its own, since it was given the --grpc.tls files: make tokens on the relay whose authority they are from, issue certificates with your own authority, or start it with --grpc.tls.also-own-ca")
	}
	m := s.certificates.Material()
	return control.Place{CA: enrol.PinOf(m.Verifiers(s.authority.CACert())[0]), Addresses: s.agentsDial(), Reaches: s.reaches(m)}, nil
}

// agentsDial returns where agents dial this relay, and those that are one service with it.
func (s *Server) agentsDial() []string {
	if s.cluster == nil {
		return []string{s.dialledAt()}
	}
	return s.cluster.links()
}

// reaches reports whether agents that dial an address find its host in the certificate of who is there.
func (s *Server) reaches(m *mtls.Material) func(address string) error {
	own := hasName(m)
	return func(address string) error {
		if s.cluster != nil && s.cluster.isOther(address) {
			return nil // which has a certificate of its own
		}
		return own(address)
	}
}

// dialledAt returns where agents dial this relay, as far as it knows: the first name that it was given, or else that of the host.
func (s *Server) dialledAt() string {
	port := s.grpcPort()
	for _, name := range s.opts.GRPCServerNames {
		if !strings.HasPrefix(name, "*") {
			return net.JoinHostPort(name, port)
		}
	}
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "localhost"
	}
	return net.JoinHostPort(strings.ToLower(host), port)
}

// hasName reports whether agents that dial an address find its host in the relay's certificate.
func hasName(m *mtls.Material) func(address string) error {
	return func(address string) error {
		host, _, err := net.SplitHostPort(address)
		if err == nil {
			err = m.Leaf().VerifyHostname(host)
		}
		if err != nil {
			return fmt.Errorf("this relay's certificate has not that name (%w)", err)
		}
		return nil
	}
}
