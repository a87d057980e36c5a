//go:build linux

package hostile_test

import (
	"context"
	"crypto/tls"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/types/known/durationpb"

	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/mtls"
)

// certificate is what an agent of some name shows.
type certificate struct {
	r   *relay
	tls *tls.Config
}

// files issues a certificate as an operator does.
func (r *relay) files(name string) mtls.Files {
	r.t.Helper()
	dir := filepath.Join(r.dir, "certificate-"+name)
	if out, err := exec.Command(relayServer, "agent-certificate", name, "--data.dir="+r.data(), "--out="+dir).CombinedOutput(); err != nil {
		r.t.Fatalf("issuing a certificate: %v\n%s", err, out)
	}
	return mtls.Files{CertFile: filepath.Join(dir, "agent.crt"), KeyFile: filepath.Join(dir, "agent.key"), CAFile: filepath.Join(dir, "ca.crt")}
}

// issue issues a certificate for an agent that the test plays.
func (r *relay) issue(name string) certificate {
	r.t.Helper()
	reloader, err := mtls.NewReloader(mtls.Config{Role: mtls.Agent, Files: r.files(name)})
	if err != nil {
		r.t.Fatal(err)
	}
	return certificate{r, mtls.AgentTLSConfig(reloader, "127.0.0.1")}
}

// agent is one that says what the test wants.
type agent struct {
	t       *testing.T
	client  relayv1.RelayServiceClient
	attach  relayv1.RelayService_AttachClient
	welcome *relayv1.Welcome
	changes relayv1.RelayService_PushClient
	number  uint64
	close   func()

	sending sync.Mutex // of attach
}

// dial connects, lazily, without attaching.
func (c certificate) dial() *agent {
	c.r.t.Helper()
	cc, err := grpc.NewClient("passthrough:///"+c.r.grpc, grpc.WithTransportCredentials(credentials.NewTLS(c.tls)))
	if err != nil {
		c.r.t.Fatal(err)
	}
	a := &agent{t: c.r.t, client: relayv1.NewRelayServiceClient(cc), close: sync.OnceFunc(func() { cc.Close() })}
	c.r.t.Cleanup(a.close)
	return a
}

// hello says hello with targets and returns why it was refused, or nil.
func (a *agent) hello(ctx context.Context, targets ...*relayv1.Target) (err error) {
	if a.attach, err = a.client.Attach(ctx); err != nil {
		return err
	}
	hello := &relayv1.Hello{ProtocolVersion: 1, ProcessId: make([]byte, 16), Targets: &relayv1.TargetSet{Targets: targets}, Capabilities: []relayv1.Capability{relayv1.Capability_CAPABILITY_SCRAPE_PATH}}
	if err := a.attach.Send(&relayv1.AttachRequest{Event: &relayv1.AttachRequest_Hello{Hello: hello}}); err != nil {
		return err
	}
	first, err := a.attach.Recv()
	if err == nil {
		a.welcome = first.GetWelcome()
	}
	return err
}

// attached begins a session, and a stream of changes in it. What comes besides is taken.
func (c certificate) attached(targets ...*relayv1.Target) *agent {
	c.r.t.Helper()
	a := c.dial()
	ctx, cancel := context.WithCancel(context.Background())
	c.r.t.Cleanup(cancel)
	if err := a.hello(ctx, targets...); err != nil {
		c.r.t.Fatal(err)
	}
	var err error
	if a.changes, err = a.pushes(ctx); err != nil {
		c.r.t.Fatal(err)
	}
	return a
}

// pushes opens a stream of changes in the session.
func (a *agent) pushes(ctx context.Context) (relayv1.RelayService_PushClient, error) {
	stream, err := a.client.Push(ctx)
	if err != nil {
		return nil, err
	}
	return stream, stream.Send(&relayv1.PushRequest{Part: &relayv1.PushRequest_Session{Session: a.welcome.GetSession()}})
}

// serve takes what the relay sends on Attach and hands scrapes to f, until the session ends. It answers heartbeats.
func (a *agent) serve(f func(*relayv1.ScrapeRequest)) (end *relayv1.SessionEnd, err error) {
	for {
		event, err := a.attach.Recv()
		if err != nil {
			return end, err
		}
		switch {
		case event.GetHeartbeat() != nil:
			a.tell(&relayv1.AttachRequest{Event: &relayv1.AttachRequest_HeartbeatEcho{HeartbeatEcho: &relayv1.HeartbeatEcho{SentAt: event.GetHeartbeat().GetSentAt()}}})
		case event.GetScrape() != nil && f != nil:
			f(event.GetScrape())
		case event.GetEnd() != nil:
			end = event.GetEnd()
		}
	}
}

func (a *agent) tell(event *relayv1.AttachRequest) {
	a.sending.Lock()
	defer a.sending.Unlock()
	a.attach.Send(event)
}

// change is one with an origin.
func change(sequence uint64, body string, labels ...*relayv1.Label) *relayv1.ChangeBegin {
	return &relayv1.ChangeBegin{
		Operation: relayv1.Operation_OPERATION_REPLACE, Format: relayv1.BodyFormat_BODY_FORMAT_TEXT, BodyBytes: uint64(len(body)),
		GroupingKey: append([]*relayv1.Label{{Name: "job", Value: "j"}}, labels...), Age: durationpb.New(0),
		Origin: &relayv1.Origin{JournalId: make([]byte, 16), Sequence: sequence, Digest: make([]byte, 16)},
	}
}

// push sends a change and returns the verdict.
func (a *agent) push(begin *relayv1.ChangeBegin, body string) (*relayv1.PushResponse, error) {
	a.number++
	begin.Change = a.number
	for _, part := range []*relayv1.PushRequest{
		{Part: &relayv1.PushRequest_Begin{Begin: begin}},
		{Part: &relayv1.PushRequest_Chunk{Chunk: []byte(body)}},
		{Part: &relayv1.PushRequest_End{End: &relayv1.ChangeEnd{}}},
	} {
		if err := a.changes.Send(part); err != nil {
			break // Recv has the reason.
		}
	}
	return a.changes.Recv()
}
