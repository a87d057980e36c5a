// Package enrolserver is the relay's end of enrolment: it gives certificates to agents that show a join token, and the next one to those that show the
// certificate that they have (I1 to I5).
//
// It promises that nothing is signed that the ledger does not have before it is handed out, that a token is not spent by a failure, and that
// whatever strangers send has a bound: a connection carries one call, soon, and what proves that somebody may ask is compared before anything that they
// sent is parsed. Start reading at [Server.Enroll], then desk.go.
package enrolserver

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"google.golang.org/grpc"

	"pushrelay/internal/authority"
	"pushrelay/internal/enrol"
	"pushrelay/internal/enrol/strangers"
	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/ledger"
	"pushrelay/internal/loglimit"
	"pushrelay/internal/mtls"
)

// Config is what a [Server] works with. All fields are required unless they say otherwise.
type Config struct {
	// Authority signs; nil for a relay that has none of its own, or does not trust it: everybody is refused in words then.
	Authority *authority.Authority
	// Ledger has the tokens, and takes what is issued. Nil without an authority.
	Ledger *ledger.Ledger
	// Certificates are what the relay shows.
	Certificates *mtls.Reloader
	// Known returns when the last certificate ends that an agent came with; found is false for an agent that is not known, or of which nobody knows.
	Known func(agent string) (notAfter time.Time, found bool)
	// CheckName returns an error if the name is that of an agent of another trust domain.
	CheckName func(name, trustDomain string) error
	// Issued is told of each certificate once it is in the ledger.
	Issued func(c ledger.Certificate)
	// Lifetime is how long certificates live that are issued here, Grace how long after their end they may be renewed.
	Lifetime, Grace time.Duration
	Logger          *slog.Logger
	// Registerer takes the server's metrics.
	Registerer prometheus.Registerer
}

// Server gives certificates to agents. It is safe for concurrent use.
type Server struct {
	relayv1.UnimplementedEnrolmentServiceServer
	*strangers.Port

	// static after New
	cfg      Config
	buckets  *buckets
	lines    *loglimit.Limiter   // by token
	refusals *loglimit.Strangers // by reason and address
	refused  *prometheus.CounterVec

	using sync.Mutex // held while a token is used, so that a key gets one certificate however often it asks at once
}

// New returns a server. It starts nothing.
func New(cfg Config) *Server {
	s := &Server{
		cfg: cfg, buckets: newBuckets(), lines: loglimit.New(), refusals: loglimit.NewStrangers(),
		refused: promauto.With(cfg.Registerer).NewCounterVec(prometheus.CounterOpts{
			Name: "relay_enrolments_refused_total",
			Help: "Certificates that were asked for and not issued, by why.",
		}, []string{"reason"}),
	}
	for _, reason := range enrol.Reasons() {
		s.refused.WithLabelValues(string(reason))
	}
	s.Port = strangers.New(func(r grpc.ServiceRegistrar) { relayv1.RegisterEnrolmentServiceServer(r, s) })
	return s
}

// TLSConfig returns the TLS configuration of a connection that offers [enrol.Protocol].
func (s *Server) TLSConfig() *tls.Config {
	return s.cfg.Certificates.Material().EnrolmentTLSConfig(enrol.Protocol)
}

// Enroll exchanges a join token for a certificate. See enrolment.proto.
func (s *Server) Enroll(ctx context.Context, in *relayv1.EnrollRequest) (*relayv1.EnrollResponse, error) {
	from, err := strangers.AttemptOf(ctx)
	if err != nil {
		return nil, err
	}
	who := askerWith(in, from.Address)
	issued, refusal := s.enroll(ctx, in, who)
	switch {
	case refusal == nil:
	case refusal.Reason == enrol.ReasonName && in.GetName() == "" && in.GetFallbackName() == "":
		// The token is good, and an agent of an earlier release asks without a name first, and then with one: that is no failure.
		s.tell(who, refusal)
		return nil, refusal.Status()
	default:
		return nil, s.refuse(from, who, refusal)
	}
	return &relayv1.EnrollResponse{Issued: issued}, nil
}

// RenewLate renews the certificate that the connection was opened with. See enrolment.proto.
func (s *Server) RenewLate(ctx context.Context, in *relayv1.RenewLateRequest) (*relayv1.RenewLateResponse, error) {
	from, err := strangers.AttemptOf(ctx)
	if err != nil {
		return nil, err
	}
	who := &asker{address: from.Address}
	issued, refusal := s.renewLate(from.Certificate, in.GetCertificateRequest(), who)
	if refusal != nil {
		return nil, s.refuse(from, who, refusal)
	}
	return &relayv1.RenewLateResponse{Issued: issued}, nil
}

// Renew issues the next certificate to an agent that has a session, opened with the given verified certificate. What is refused is an error that
// travels as a status.
func (s *Server) Renew(certificate *x509.Certificate, request []byte, address string) (*relayv1.IssuedCertificate, error) {
	who := &asker{address: address}
	issued, refusal := s.renew(certificate, request, who)
	if refusal != nil {
		s.tell(who, refusal)
		return nil, refusal.Status()
	}
	return issued, nil
}

// CanSign reports whether the relay gives certificates at all.
func (s *Server) CanSign() bool { return s.cfg.Authority != nil }

// refuse counts a refusal as a failure of whoever asked, unless it is not theirs.
func (s *Server) refuse(from *strangers.Attempt, who *asker, refusal *enrol.Refusal) error {
	if refusal.Reason != enrol.ReasonLater && refusal.Reason != enrol.ReasonCannotSign {
		s.Failed(from)
	}
	s.tell(who, refusal)
	return refusal.Status()
}
