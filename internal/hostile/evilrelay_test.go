//go:build linux

package hostile_test

import (
	"errors"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/mtls"
)

// evilRelay is a relay with the certificate of a true one that says what the test wants.
type evilRelay struct {
	relayv1.UnimplementedRelayServiceServer
	address string
	agent   mtls.Files // of an agent

	mu       sync.Mutex
	welcome  *relayv1.Welcome          // guarded by mu; from the next session on
	after    []*relayv1.AttachResponse // guarded by mu; what follows it
	later    *relayv1.Later            // guarded by mu; the verdict on every change
	attached int                       // guarded by mu; how often an agent came
	changes  int                       // guarded by mu; that came
	failures []*relayv1.ScrapeFailure  // guarded by mu; of scrapes
	scraped  int                       // guarded by mu; scrapes that were answered
}

// startEvil starts an evil relay, whose authority has issued a certificate for an agent.
func startEvil(t *testing.T) *evilRelay {
	t.Helper()
	data := &relay{t: t, dir: t.TempDir()}
	out := filepath.Join(data.dir, "relay")
	for _, args := range [][]string{{"init"}, {"relay-certificate", "--server-name=127.0.0.1", "--out=" + out}} {
		if said, err := exec.Command(relayServer, append(args, "--data.dir="+data.data())...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", args[0], err, said)
		}
	}
	certificates, err := mtls.NewReloader(mtls.Config{Role: mtls.Relay, Files: mtls.Files{
		CertFile: filepath.Join(out, "relay.crt"), KeyFile: filepath.Join(out, "relay.key"), CAFile: filepath.Join(out, "ca.crt"),
	}})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := &evilRelay{address: listener.Addr().String(), agent: data.files("site")}
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(mtls.RelayTLSConfig(certificates, nil))))
	relayv1.RegisterRelayServiceServer(server, e)
	go server.Serve(listener)
	t.Cleanup(server.Stop)
	return e
}

// do changes or reads the relay.
func (e *evilRelay) do(f func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f()
}

// Attach welcomes an agent and says what follows.
func (e *evilRelay) Attach(stream relayv1.RelayService_AttachServer) error {
	if _, err := stream.Recv(); err != nil {
		return err
	}
	e.mu.Lock()
	e.attached++
	welcome := e.welcome
	after := e.after
	e.mu.Unlock()
	for _, event := range append([]*relayv1.AttachResponse{{Event: &relayv1.AttachResponse_Welcome{Welcome: welcome}}}, after...) {
		if err := stream.Send(event); err != nil {
			return err
		}
	}
	<-stream.Context().Done()
	return nil
}

// Push wants every change later.
func (e *evilRelay) Push(stream relayv1.RelayService_PushServer) error {
	number := uint64(0)
	for {
		part, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if begin := part.GetBegin(); begin != nil {
			number = begin.GetChange()
		}
		if part.GetEnd() == nil {
			continue
		}
		e.mu.Lock()
		e.changes++
		later := e.later
		e.mu.Unlock()
		if err := stream.Send(&relayv1.PushResponse{Change: number, Verdict: &relayv1.PushResponse_Later{Later: later}}); err != nil {
			return err
		}
	}
}

// DeliverScrape takes the answers to scrapes.
func (e *evilRelay) DeliverScrape(stream relayv1.RelayService_DeliverScrapeServer) error {
	for {
		part, err := stream.Recv()
		if err != nil {
			return stream.SendAndClose(&relayv1.DeliverScrapeResponse{})
		}
		e.do(func() {
			if part.GetHead() != nil {
				e.scraped++
			}
			if part.GetFailure() != nil {
				e.failures = append(e.failures, part.GetFailure())
			}
		})
	}
}
