package enroltest

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"pushrelay/internal/enrol"
	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/mtls"
)

// Relay lets agents in. Its fields may be changed between calls of agents, under [Relay.Change].
type Relay struct {
	relayv1.UnimplementedEnrolmentServiceServer

	// Authority issues.
	Authority *Authority
	// Pair is the certificate that the relay shows, and Shown whether the CA's comes after it.
	Pair  tls.Certificate
	Shown bool
	// Protocols are those of TLS that it knows.
	Protocols []string
	// Life is that of the certificates that it issues.
	Life time.Duration
	// Skew is how far its clock is ahead.
	Skew time.Duration
	// Refuses is what it refuses everything with; nil for nothing.
	Refuses *enrol.Refusal
	// Prefix has a token need a name that begins so; empty for tokens that are for one name.
	Prefix string
	// Earlier has it know no fallback name, as relays of an earlier release.
	Earlier bool
	// LosesAnswers has it issue, and not answer.
	LosesAnswers bool
	// Makes changes what it is about to send.
	Makes func(*relayv1.IssuedCertificate)

	mu      sync.Mutex
	tokens  map[enrol.TokenID]*token // guarded by mu
	revoked map[string]bool          // guarded by mu; by name
	issued  []*x509.Certificate      // guarded by mu
	names   []string                 // guarded by mu; that were asked for
}

type token struct {
	secret enrol.Secret
	name   string
	used   []byte // the key that it was exchanged for; nil before
	answer *relayv1.IssuedCertificate
}

// NewRelay returns a relay of an authority that is reached by the names. It serves nothing yet.
func NewRelay(a *Authority, names ...string) *Relay {
	return &Relay{
		Authority: a, Pair: a.RelayPair(names...), Shown: true, Protocols: []string{enrol.Protocol}, Life: 30 * 24 * time.Hour,
		tokens: map[enrol.TokenID]*token{}, revoked: map[string]bool{},
	}
}

// Change changes the relay.
func (r *Relay) Change(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
}

// Token makes a token for a name.
func (r *Relay) Token(name string, addresses ...string) enrol.Token {
	t := enrol.NewToken(addresses, r.Authority.Pin())
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tokens[t.ID] = &token{secret: t.Secret, name: name}
	return t
}

// Revoke has the relay refuse an agent.
func (r *Relay) Revoke(name string) { r.Change(func() { r.revoked[name] = true }) }

// Issued returns the certificates that were issued.
func (r *Relay) Issued() []*x509.Certificate {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.issued)
}

// Asked returns the names that were asked for.
func (r *Relay) Asked() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.names)
}

// Serve serves agents on a listener until the function that it returns is called, or the test ends.
func (r *Relay) Serve(t testing.TB, listener net.Listener) (stop func()) {
	t.Helper()
	server := grpc.NewServer(grpc.Creds(&served{relay: r}))
	relayv1.RegisterEnrolmentServiceServer(server, r)
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := server.Serve(listener); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			t.Error(err)
		}
	})
	stop = sync.OnceFunc(func() {
		server.Stop()
		serving.Wait()
	})
	t.Cleanup(stop)
	return stop
}

// Listen serves agents on a port of loopback, and returns its address.
func (r *Relay) Listen(t testing.TB) (address string, stop func()) {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return listener.Addr().String(), r.Serve(t, listener)
}

// errLost stands for an answer that never came.
var errLost = errors.New("the answer is lost")

// Enroll is EnrolmentService's.
func (r *Relay) Enroll(_ context.Context, request *relayv1.EnrollRequest) (*relayv1.EnrollResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.names = append(r.names, request.GetName())
	if r.Refuses != nil {
		return nil, r.Refuses.Status()
	}
	var known *token
	if len(request.GetTokenId()) == len(enrol.TokenID{}) {
		known = r.tokens[enrol.TokenID(request.GetTokenId())]
	}
	if known == nil || !bytes.Equal(known.secret[:], request.GetTokenSecret()) {
		return nil, (&enrol.Refusal{Reason: enrol.ReasonToken, Message: "the token is unknown here, or used, ended or void"}).Status()
	}
	name := request.GetName()
	switch {
	case r.Prefix == "" && name == "":
		name = known.name
	case name == "" && !r.Earlier:
		name = request.GetFallbackName()
	}
	if r.Prefix == "" && name != known.name || r.Prefix != "" && (len(name) <= len(r.Prefix) || name[:len(r.Prefix)] != r.Prefix) {
		return nil, (&enrol.Refusal{Reason: enrol.ReasonName, Message: "the token is not for this name", KnowsFallback: !r.Earlier}).Status()
	}
	signed, err := x509.ParseCertificateRequest(request.GetCertificateRequest())
	if err != nil || signed.CheckSignature() != nil {
		return nil, (&enrol.Refusal{Reason: enrol.ReasonRequest, Message: "the request is broken"}).Status()
	}
	key, err := x509.MarshalPKIXPublicKey(signed.PublicKey)
	if err != nil {
		return nil, err
	}
	if known.used == nil {
		known.used, known.answer = key, r.issue(name, signed)
	}
	if !bytes.Equal(known.used, key) {
		return nil, (&enrol.Refusal{Reason: enrol.ReasonToken, Message: "the token is unknown here, or used, ended or void"}).Status()
	}
	if r.LosesAnswers {
		return nil, errLost
	}
	return &relayv1.EnrollResponse{Issued: known.answer}, nil
}

// RenewLate is EnrolmentService's.
func (r *Relay) RenewLate(ctx context.Context, request *relayv1.RenewLateRequest) (*relayv1.RenewLateResponse, error) {
	p, _ := peer.FromContext(ctx)
	shown := p.AuthInfo.(credentials.TLSInfo).State.PeerCertificates
	if len(shown) == 0 {
		return nil, (&enrol.Refusal{Reason: enrol.ReasonCertificate, Message: "no certificate was shown"}).Status()
	}
	issued, err := r.Renew(shown[0], request.GetCertificateRequest())
	if err != nil {
		return nil, err
	}
	return &relayv1.RenewLateResponse{Issued: issued}, nil
}

// Renew issues the next certificate after one.
func (r *Relay) Renew(shown *x509.Certificate, request []byte) (*relayv1.IssuedCertificate, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	id, err := mtls.PeerIDFromCertificate(shown)
	roots := x509.NewCertPool()
	roots.AddCert(r.Authority.Certificate)
	_, verified := shown.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: shown.NotAfter, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	known := slices.ContainsFunc(r.issued, shown.Equal)
	switch {
	case r.Refuses != nil:
		return nil, r.Refuses.Status()
	case err != nil || verified != nil || !known:
		return nil, (&enrol.Refusal{Reason: enrol.ReasonCertificate, Message: "the certificate is none of this relay's"}).Status()
	case r.revoked[id.Agent]:
		return nil, (&enrol.Refusal{Reason: enrol.ReasonRevoked, Message: "this agent is revoked"}).Status()
	}
	signed, err := x509.ParseCertificateRequest(request)
	if err != nil || signed.CheckSignature() != nil {
		return nil, (&enrol.Refusal{Reason: enrol.ReasonRequest, Message: "the request is broken"}).Status()
	}
	return r.issue(id.Agent, signed), nil
}

// issue issues. r.mu is held.
func (r *Relay) issue(name string, request *x509.CertificateRequest) *relayv1.IssuedCertificate {
	template := Agent(name, r.Life)
	template.NotBefore, template.NotAfter = template.NotBefore.Add(r.Skew), template.NotAfter.Add(r.Skew)
	cert := r.Authority.Sign(template, request.PublicKey)
	r.issued = append(r.issued, cert)
	issued := &relayv1.IssuedCertificate{Chain: [][]byte{cert.Raw}, Authorities: [][]byte{r.Authority.Certificate.Raw}}
	if r.Makes != nil {
		r.Makes(issued)
	}
	return issued
}

// Know has the relay know a certificate that it has not issued itself.
func (r *Relay) Know(cert *x509.Certificate) { r.Change(func() { r.issued = append(r.issued, cert) }) }

// served is the relay's end of TLS.
type served struct {
	credentials.TransportCredentials // those that are not used
	relay                            *Relay
}

// ServerHandshake shows the relay's certificate, and verifies nobody.
func (s *served) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	s.relay.mu.Lock()
	pair := s.relay.Pair
	if s.relay.Shown {
		pair.Certificate = append(slices.Clip(pair.Certificate), s.relay.Authority.Certificate.Raw)
	}
	config := &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: s.relay.Protocols, Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequestClientCert, SessionTicketsDisabled: true,
	}
	s.relay.mu.Unlock()
	conn := tls.Server(raw, config)
	if err := conn.HandshakeContext(context.Background()); err != nil {
		raw.Close()
		return nil, nil, err
	}
	return conn, credentials.TLSInfo{State: conn.ConnectionState(), CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}}, nil
}

// Info describes the protocol.
func (*served) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

// Clone returns the same credentials.
func (s *served) Clone() credentials.TransportCredentials { return s }

// LastKey returns the key of the certificate that was issued last. It is for Makes.
func (r *Relay) LastKey() any { return r.issued[len(r.issued)-1].PublicKey }

// Allow lifts what Revoke has done.
func (r *Relay) Allow(name string) { r.Change(func() { delete(r.revoked, name) }) }

// ForgetIssued has the relay know no certificate any more.
func (r *Relay) ForgetIssued() { r.Change(func() { r.issued = nil }) }
