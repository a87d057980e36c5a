package tunnel_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/types/known/durationpb"

	"pushrelay/internal/authority"
	"pushrelay/internal/change"
	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/mtls"
	"pushrelay/internal/tunnel"
)

// journals is a tunnelserver.Journals.
type journals struct {
	mu      sync.Mutex
	decided map[string]tunnel.JournalState // by agent
	passed  []tunnel.SpoolState
}

func (j *journals) Decided(agent string, journal [16]byte) (uint64, change.Digest, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	s, ok := j.decided[agent]
	return s.Decided, s.Digest, ok && s.Journal == journal
}

func (j *journals) Forget(_ string, journal [16]byte, through uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.passed = append(j.passed, tunnel.SpoolState{Journal: journal, DecidedThrough: through})
}

func (j *journals) forgotten() []tunnel.SpoolState {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.passed)
}

// rawAgent is an agent that says what the test wants.
type rawAgent struct {
	t       *testing.T
	client  relayv1.RelayServiceClient
	stream  relayv1.RelayService_AttachClient
	welcome *relayv1.Welcome
	changes relayv1.RelayService_PushClient // nil before the first
	number  uint64
	close   func()
}

// tlsOf returns the TLS configuration of an agent of that name, with a certificate of its own.
func (h *house) tlsOf(name string) *tls.Config {
	h.t.Helper()
	dir := h.t.TempDir()
	issued := must[authority.Issued](h.t)(h.authority.IssueAgent(name))
	if err := authority.WriteIssued(dir, "agent", issued); err != nil {
		h.t.Fatal(err)
	}
	certificates := must[*mtls.Reloader](h.t)(mtls.NewReloader(mtls.Config{Role: mtls.Agent, Files: mtls.Files{
		CertFile: filepath.Join(dir, "agent.crt"), KeyFile: filepath.Join(dir, "agent.key"), CAFile: filepath.Join(dir, "ca.crt"),
	}}))
	return mtls.AgentTLSConfig(certificates, "127.0.0.1")
}

// dialRaw connects without attaching.
func (h *house) dialRaw(name string) *rawAgent {
	h.t.Helper()
	options := []grpc.DialOption{grpc.WithTransportCredentials(credentials.NewTLS(h.tlsOf(name)))}
	if h.dial != nil {
		options = append(options, grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) { return h.dial(ctx, "tcp", address) }))
	}
	cc := must[*grpc.ClientConn](h.t)(grpc.NewClient("passthrough:///"+h.addr, options...))
	a := &rawAgent{t: h.t, client: relayv1.NewRelayServiceClient(cc), close: sync.OnceFunc(func() { cc.Close() })}
	h.t.Cleanup(a.close)
	return a
}

// hello is one that is taken.
func hello(ids ...[]byte) *relayv1.Hello {
	return &relayv1.Hello{ProtocolVersion: tunnel.ProtocolVersion, ProcessId: make([]byte, 16), JournalIds: ids}
}

// attach says hello and returns what the relay answers.
func (a *rawAgent) attach(ctx context.Context, hello *relayv1.Hello) error {
	a.t.Helper()
	var err error
	if a.stream, err = a.client.Attach(ctx); err != nil {
		return err
	}
	if err := a.stream.Send(&relayv1.AttachRequest{Event: &relayv1.AttachRequest_Hello{Hello: hello}}); err != nil && !errors.Is(err, io.EOF) {
		a.t.Fatal(err) // after io.EOF, Recv says why the relay ended the call
	}
	first, err := a.stream.Recv()
	if err == nil {
		a.welcome = first.GetWelcome()
	}
	return err
}

// greet attaches with a hello. The context ends with the test.
func (h *house) greet(name string, greeting *relayv1.Hello) (context.Context, *rawAgent) {
	h.t.Helper()
	a := h.dialRaw(name)
	ctx, cancel := context.WithCancel(context.Background())
	h.t.Cleanup(cancel)
	if err := a.attach(ctx, greeting); err != nil {
		h.t.Fatal(err)
	}
	return ctx, a
}

// attachRaw attaches and opens a stream of changes.
func (h *house) attachRaw(name string) *rawAgent {
	h.t.Helper()
	ctx, a := h.greet(name, hello())
	a.changes = must[relayv1.RelayService_PushClient](h.t)(a.client.Push(ctx))
	a.part(&relayv1.PushRequest{Part: &relayv1.PushRequest_Session{Session: a.welcome.GetSession()}})
	return a
}

func (a *rawAgent) part(r *relayv1.PushRequest) {
	a.t.Helper()
	if err := a.changes.Send(r); err != nil {
		a.t.Fatal(err)
	}
}

// changeBegin is of one that is fine, with origin.
func changeBegin(sequence uint64, body string) *relayv1.ChangeBegin {
	return &relayv1.ChangeBegin{
		Operation: relayv1.Operation_OPERATION_REPLACE, Format: relayv1.BodyFormat_BODY_FORMAT_TEXT, BodyBytes: uint64(len(body)),
		GroupingKey: []*relayv1.Label{{Name: "job", Value: "j"}}, Age: durationpb.New(0),
		Origin: &relayv1.Origin{JournalId: make([]byte, 16), Sequence: sequence, Digest: make([]byte, 16)},
	}
}

// send sends a whole change.
func (a *rawAgent) send(begin *relayv1.ChangeBegin, body string) {
	a.t.Helper()
	a.number++
	begin.Change = a.number
	a.part(&relayv1.PushRequest{Part: &relayv1.PushRequest_Begin{Begin: begin}})
	if body != "" {
		a.part(&relayv1.PushRequest{Part: &relayv1.PushRequest_Chunk{Chunk: []byte(body)}})
	}
	a.part(&relayv1.PushRequest{Part: &relayv1.PushRequest_End{End: &relayv1.ChangeEnd{}}})
}

// verdict waits for the next verdict.
func (a *rawAgent) verdict() *relayv1.PushResponse {
	a.t.Helper()
	return must[*relayv1.PushResponse](a.t)(a.changes.Recv())
}
