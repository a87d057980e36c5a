package tunnel_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"pushrelay/internal/enrol"
	relayv1 "pushrelay/internal/gen/relay/v1"
)

// renewingRelay keeps a session open, and answers Renew with what the test wants.
type renewingRelay struct {
	evilRelay
	capabilities []relayv1.Capability
	answer       error // nil: what was asked for
}

func (r *renewingRelay) Attach(stream relayv1.RelayService_AttachServer) error {
	if _, err := stream.Recv(); err != nil {
		return err
	}
	welcome := &relayv1.Welcome{Session: 7, StoreId: make([]byte, 16), Capabilities: r.capabilities}
	if err := stream.Send(&relayv1.AttachResponse{Event: &relayv1.AttachResponse_Welcome{Welcome: welcome}}); err != nil {
		return err
	}
	<-stream.Context().Done()
	return nil
}

func (r *renewingRelay) Renew(_ context.Context, in *relayv1.RenewRequest) (*relayv1.RenewResponse, error) {
	if r.answer != nil {
		return nil, r.answer
	}
	if in.GetSession() != 7 {
		return nil, status.Error(codes.FailedPrecondition, "not this session")
	}
	return &relayv1.RenewResponse{Issued: &relayv1.IssuedCertificate{Chain: [][]byte{in.GetCertificateRequest()}}}, nil
}

// TestRenewOverTheSession: what the relay issues comes back, its refusal is one line with its reason, and a relay that renews none, or is away, is not asked.
func TestRenewOverTheSession(t *testing.T) {
	can := []relayv1.Capability{relayv1.Capability_CAPABILITY_RENEW}
	for name, tt := range map[string]struct {
		relay  *renewingRelay
		reason enrol.Reason // of a refusal
		want   string       // in the error; empty for none
	}{
		"issued":           {&renewingRelay{capabilities: can}, "", ""},
		"earlier release":  {&renewingRelay{}, enrol.ReasonCannotSign, "renews no certificates"},
		"refused":          {&renewingRelay{capabilities: can, answer: (&enrol.Refusal{Reason: enrol.ReasonRevoked, Message: "out\nwith\x1b[2J you"}).Status()}, enrol.ReasonRevoked, "out with [2J you"},
		"another failure":  {&renewingRelay{capabilities: can, answer: status.Error(codes.Internal, "broken\ndisk")}, "", "broken disk"},
		"without a relay":  {nil, enrol.ReasonLater, "no session"},
		"a reason unknown": {&renewingRelay{capabilities: can, answer: (&enrol.Refusal{Reason: "no reason", Message: "x"}).Status()}, enrol.ReasonLater, "x"},
	} {
		t.Run(name, func(t *testing.T) {
			relay := tt.relay
			if relay == nil {
				relay = &renewingRelay{evilRelay: evilRelay{}}
			}
			under(t, relay, func(t *testing.T, agent *dialled, _ *logLines) {
				if tt.relay != nil {
					waitFor(t, "attached", 5*time.Second, func() bool { return agent.IsOpen() })
				}
				issued, err := agent.Renew(timeout(t, time.Minute), []byte("request"))
				if tt.want == "" {
					if err != nil || string(issued.GetChain()[0]) != "request" {
						t.Errorf("Renew() = %v, %v", issued, err)
					}
					return
				}
				refusal, ok := errors.AsType[*enrol.Refusal](err)
				if err == nil || !strings.Contains(err.Error(), tt.want) || strings.ContainsAny(err.Error(), "\n\x1b") || ok != (tt.reason != "") || ok && refusal.Reason != tt.reason {
					t.Errorf("Renew() = %v (%T), want %s %q", err, err, tt.reason, tt.want)
				}
			})
		})
	}
}
