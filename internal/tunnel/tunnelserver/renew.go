package tunnelserver

import (
	"context"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	relayv1 "pushrelay/internal/gen/relay/v1"
)

// capabilities are what every relay of this release can take.
var capabilities = []relayv1.Capability{
	relayv1.Capability_CAPABILITY_PUSH,
	relayv1.Capability_CAPABILITY_PUSH_ORIGIN,
	relayv1.Capability_CAPABILITY_PUSH_FAILURE,
	relayv1.Capability_CAPABILITY_MAY_BE_HIDDEN,
	relayv1.Capability_CAPABILITY_DELIVER_AGAIN,
	relayv1.Capability_CAPABILITY_LIFE,
	relayv1.Capability_CAPABILITY_ADD,
	relayv1.Capability_CAPABILITY_PUSH_S2,
}

// renews reports whether this relay renews certificates.
func (s *Server) renews() bool { return s.cfg.Enrolment != nil && s.cfg.Enrolment.CanSign() }

// capabilities are what this relay can take.
func (s *Server) capabilities() []relayv1.Capability {
	if !s.renews() {
		return capabilities
	}
	return append(slices.Clip(capabilities), relayv1.Capability_CAPABILITY_RENEW)
}

// Renew issues the next certificate of the agent. See relay.proto.
func (s *Server) Renew(ctx context.Context, in *relayv1.RenewRequest) (*relayv1.RenewResponse, error) {
	if !s.renews() {
		return nil, status.Error(codes.Unimplemented, "this relay renews no certificates")
	}
	ss, err := s.sessionOn(ctx, in.GetSession())
	if err != nil {
		return nil, err
	}
	issued, err := s.cfg.Enrolment.Renew(ss.conn.certificate(), in.GetCertificateRequest(), ss.conn.addr())
	if err != nil {
		return nil, err
	}
	return &relayv1.RenewResponse{Issued: issued}, nil
}
