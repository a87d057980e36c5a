package enrolserver_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"pushrelay/internal/authority"
	"pushrelay/internal/enrol"
	"pushrelay/internal/enrol/enrolclient"
	"pushrelay/internal/enrol/enrolserver"
	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/identity"
	"pushrelay/internal/ledger"
	"pushrelay/internal/mtls"
)

const (
	day      = 24 * time.Hour
	lifetime = 30 * day
	grace    = 90 * day
)

// relay is what a relay has for enrolment. It is used within a bubble of synctest, where the network is pipes.
type relay struct {
	t         testing.TB
	dir       string
	authority *authority.Authority
	ledger    *ledger.Ledger
	server    *enrolserver.Server
	pin       enrol.Pin
	log       *logged
	metrics   *prometheus.Registry

	mu     sync.Mutex
	issued []ledger.Certificate // guarded by mu
	known  map[string]time.Time // guarded by mu
}

// newRelay starts a relay; change may take things from it.
func newRelay(t testing.TB, change ...func(*enrolserver.Config)) *relay {
	t.Helper()
	r := &relay{t: t, dir: t.TempDir(), known: map[string]time.Time{}, log: &logged{}, metrics: prometheus.NewRegistry()}
	var err error
	if r.authority, err = authority.Create(filepath.Join(r.dir, "authority"), authority.Config{}); err != nil {
		t.Fatal(err)
	}
	ensured, err := r.authority.EnsureRelay([]string{"relay"})
	if err != nil {
		t.Fatal(err)
	}
	if r.ledger, err = ledger.Open(ledger.Config{Dir: r.dir, Grace: grace}); err != nil {
		t.Fatal(err)
	}
	certificates, err := mtls.NewReloader(mtls.Config{Role: mtls.Relay, Files: ensured.Files})
	if err != nil {
		t.Fatal(err)
	}
	r.pin = enrol.PinOf(r.authority.CACert().Raw)
	cfg := enrolserver.Config{
		Authority: r.authority, Ledger: r.ledger, Certificates: certificates, Lifetime: lifetime, Grace: grace,
		Logger: slog.New(slog.NewTextHandler(r.log, nil)), Registerer: r.metrics,
		Issued: func(c ledger.Certificate) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.issued = append(r.issued, c)
		},
		Known: func(name string) (time.Time, bool) {
			r.mu.Lock()
			defer r.mu.Unlock()
			end, found := r.known[name]
			return end, found
		},
	}
	cfg.CheckName = func(name, trustDomain string) error {
		if name == "site-foreign" {
			return fmt.Errorf("%s is not of %s", name, trustDomain)
		}
		return nil
	}
	for _, change := range change {
		change(&cfg)
	}
	r.server = enrolserver.New(cfg)
	served := make(chan error)
	go func() { served <- r.server.Serve() }()
	t.Cleanup(func() {
		r.server.Stop()
		if err := errors.Join(<-served, r.ledger.Close()); err != nil {
			t.Error(err)
		}
	})
	return r
}

// logged is what was logged.
type logged struct {
	mu   sync.Mutex
	text strings.Builder // guarded by mu
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// token makes a token and returns it as the agent has it.
func (r *relay) token(t ledger.Token) enrol.Token {
	r.t.Helper()
	made := enrol.NewToken([]string{"relay:9443"}, r.pin)
	t.ID, t.Hash, t.At = made.ID.String(), made.Secret.Hash(), time.Now()
	if t.Uses == 0 {
		t.Uses = 1
	}
	if t.End.IsZero() {
		t.End = t.At.Add(time.Hour)
	}
	if err := r.ledger.MakeToken(t); err != nil {
		r.t.Fatal(err)
	}
	return made
}

// fromConn is a connection from somewhere.
type fromConn struct {
	net.Conn

	from net.Addr
}

func (c *fromConn) RemoteAddr() net.Addr { return c.from }

// open opens a connection from an address, and returns the client's end of it, and how the handshake ended at the relay's.
func (r *relay) open(from string) (here net.Conn, shaken <-chan error) {
	here, there := net.Pipe()
	addr := &net.TCPAddr{IP: net.ParseIP(from), Port: 4711}
	server := tls.Server(&fromConn{there, addr}, r.server.TLSConfig())
	done := make(chan error, 1)
	go func() {
		err := server.HandshakeContext(context.Background())
		if err == nil {
			r.server.Take(server)
		}
		done <- err
	}()
	return here, done
}

// dial opens a connection from an address, with a certificate if there is one, and returns the client's end of it after the handshake.
func (r *relay) dial(from string, cert *tls.Certificate) (*tls.Conn, error) {
	here, shaken := r.open(from)
	config := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{enrol.Protocol}}
	if cert != nil {
		config.Certificates = []tls.Certificate{*cert}
	}
	conn := tls.Client(here, config)
	unread := time.AfterFunc(time.Second, func() { here.Close() }) // an alert that nobody takes out of the pipe
	err := errors.Join(conn.HandshakeContext(context.Background()), <-shaken)
	unread.Stop()
	if err != nil {
		here.Close()
		return nil, err
	}
	return conn, nil
}

// client returns a client whose every call has a connection of its own.
func (r *relay) client(from string, cert *tls.Certificate) relayv1.EnrolmentServiceClient {
	return &client{r: r, from: from, cert: cert}
}

type client struct {
	r    *relay
	from string
	cert *tls.Certificate
}

func call[In, Out any](ctx context.Context, c *client, in In, do func(relayv1.EnrolmentServiceClient, context.Context, In, ...grpc.CallOption) (Out, error)) (Out, error) {
	cc, err := grpc.NewClient("passthrough:///relay", grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy(), grpc.WithDisableServiceConfig(),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return c.r.dial(c.from, c.cert) }))
	if err != nil {
		c.r.t.Fatal(err)
	}
	defer cc.Close()
	return do(relayv1.NewEnrolmentServiceClient(cc), ctx, in)
}

func (c *client) Enroll(ctx context.Context, in *relayv1.EnrollRequest, _ ...grpc.CallOption) (*relayv1.EnrollResponse, error) {
	return call(ctx, c, in, relayv1.EnrolmentServiceClient.Enroll)
}

func (c *client) RenewLate(ctx context.Context, in *relayv1.RenewLateRequest, _ ...grpc.CallOption) (*relayv1.RenewLateResponse, error) {
	return call(ctx, c, in, relayv1.EnrolmentServiceClient.RenewLate)
}

// agent is somebody with a key.
type agent struct {
	t   testing.TB
	key *ecdsa.PrivateKey
}

func newAgent(t testing.TB) *agent {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &agent{t, key}
}

func (a *agent) request() []byte { return requestOf(a.t, a.key, x509.CertificateRequest{}) }

func requestOf(t testing.TB, key crypto.Signer, template x509.CertificateRequest) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &template, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// with returns the agent's certificate with its key.
func (a *agent) with(cert *x509.Certificate) *tls.Certificate {
	return &tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: a.key, Leaf: cert}
}

// ask asks for a certificate by a token.
func (a *agent) ask(token enrol.Token, name string) *relayv1.EnrollRequest {
	return &relayv1.EnrollRequest{TokenId: token.ID[:], TokenSecret: token.Secret[:], Name: name, CertificateRequest: a.request()}
}

// enroll comes in by a token.
func (r *relay) enroll(a *agent, token enrol.Token, name string) (*x509.Certificate, error) {
	r.t.Helper()
	out, err := r.client("192.0.2.1", nil).Enroll(r.t.Context(), a.ask(token, name))
	return r.leaf(out.GetIssued()), err
}

// joining returns an agent whose host has a name, from an address, that comes in as the program does.
func (r *relay) joining(from string, token enrol.Token, host string) *enrolclient.Join {
	r.t.Helper()
	return &enrolclient.Join{
		Client: enrolclient.New(enrolclient.Config{Dial: func(context.Context, string, string) (net.Conn, error) {
			conn, _ := r.open(from)
			return conn, nil
		}}),
		Store: identity.In(r.t.TempDir()), Token: &token, Names: enrolclient.Names{Otherwise: host},
	}
}

// size is that of the ledger's file.
func (r *relay) size() int64 {
	r.t.Helper()
	stat, err := os.Stat(filepath.Join(r.dir, "ledger.jsonl"))
	if err != nil {
		r.t.Fatal(err)
	}
	return stat.Size()
}

// refusals returns how many refusals were counted, by reason; none is left out.
func (r *relay) refusals() map[string]float64 {
	r.t.Helper()
	families, err := r.metrics.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	counts := map[string]float64{}
	for _, f := range families {
		if f.GetName() != "relay_enrolments_refused_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			if n := m.GetCounter().GetValue(); n > 0 {
				counts[m.GetLabel()[0].GetValue()] = n
			}
		}
	}
	return counts
}

// renewLate renews a certificate over the way of enrolment, for a new key.
func (r *relay) renewLate(old *tls.Certificate, a *agent) (*x509.Certificate, error) {
	r.t.Helper()
	out, err := r.client("192.0.2.1", old).RenewLate(r.t.Context(), &relayv1.RenewLateRequest{CertificateRequest: a.request()})
	return r.leaf(out.GetIssued()), err
}

// leaf returns the certificate that was issued, nil for none.
func (r *relay) leaf(issued *relayv1.IssuedCertificate) *x509.Certificate {
	r.t.Helper()
	if issued == nil {
		return nil
	}
	cert, err := x509.ParseCertificate(issued.GetChain()[0])
	if err != nil {
		r.t.Fatal(err)
	}
	if len(issued.GetAuthorities()) != 1 || enrol.PinOf(issued.GetAuthorities()[0]) != r.pin {
		r.t.Errorf("%d authorities come with it", len(issued.GetAuthorities()))
	}
	return cert
}

// mustEnroll is enroll where it must succeed.
func (r *relay) mustEnroll(a *agent, token enrol.Token, name string) *x509.Certificate {
	r.t.Helper()
	cert, err := r.enroll(a, token, name)
	if err != nil {
		r.t.Fatal(err)
	}
	return cert
}

func wantRefusal(t testing.TB, err error, reason enrol.Reason, want string) {
	t.Helper()
	refusal, ok := enrol.RefusalFrom(err)
	if !ok || refusal.Reason != reason || !strings.Contains(refusal.Message, want) || strings.Contains(refusal.Message, "\n") {
		t.Errorf("got %v (%+v), want a refusal for %s with %q", err, refusal, reason, want)
	}
}

func wantAgent(t testing.TB, cert *x509.Certificate, name string, key *ecdsa.PrivateKey) {
	t.Helper()
	id, err := mtls.PeerIDFromCertificate(cert)
	if err != nil || id.Agent != name || !key.PublicKey.Equal(cert.PublicKey) {
		t.Errorf("the certificate is that of %v, %v, want %s", id, err, name)
	}
}

// spoil makes the ledger one that cannot be written.
func (r *relay) spoil() {
	r.t.Helper()
	if err := r.ledger.Close(); err != nil {
		r.t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(r.dir, "ledger.jsonl.tmp"), 0o700); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(r.dir, "ledger.jsonl.tmp", "x"), nil, 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// mend makes it one that can.
func (r *relay) mend() {
	r.t.Helper()
	if err := os.RemoveAll(filepath.Join(r.dir, "ledger.jsonl.tmp")); err != nil {
		r.t.Fatal(err)
	}
}
