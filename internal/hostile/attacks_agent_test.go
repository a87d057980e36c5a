//go:build linux

package hostile_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	relayv1 "pushrelay/internal/gen/relay/v1"
)

// TestHugeGroupingKeys: changes that are refused leave nothing of keys as large as a message.
func TestHugeGroupingKeys(t *testing.T) {
	r := startRelay(t)
	a := r.issue("evil").attached()
	go a.serve(nil)
	value := strings.Repeat("x", 900<<10)
	r.beside(usual, func(ctx context.Context) {
		for sequence := uint64(1); ctx.Err() == nil; sequence++ {
			begin := change(sequence, "", &relayv1.Label{Name: "evil", Value: fmt.Sprint(value, sequence)})
			begin.Operation = 99
			if v, err := a.push(begin, ""); err != nil || v.GetApplied() != nil {
				t.Errorf("change %d: %v, %v", sequence, v, err)
				return
			}
		}
	})
}

// TestManyStreamsOfChanges: an agent that opens streams of changes whose bodies never end has one, and loses its session.
func TestManyStreamsOfChanges(t *testing.T) {
	r := startRelay(t)
	evil := r.issue("evil")
	r.beside(usual, func(ctx context.Context) {
		a := evil.attached()
		for range 200 {
			stream, err := a.pushes(ctx)
			if err != nil {
				break
			}
			begin := change(1, "")
			begin.BodyBytes = 8 << 20
			stream.Send(&relayv1.PushRequest{Part: &relayv1.PushRequest_Begin{Begin: begin}})
			stream.Send(&relayv1.PushRequest{Part: &relayv1.PushRequest_Chunk{Chunk: make([]byte, 1<<10)}})
		}
		end, err := a.serve(nil)
		if err == nil || end.GetReason() != relayv1.SessionEndReason_SESSION_END_REASON_VIOLATION {
			t.Errorf("the session ended with %v, %v", end, err)
		}
	})
}

// TestLongTexts: failures of scrapes with messages of a megabyte are short everywhere that they are shown.
func TestLongTexts(t *testing.T) {
	r := startRelay(t)
	var targets []*relayv1.Target
	for i := range 20 {
		targets = append(targets, &relayv1.Target{Name: fmt.Sprint("t", i), Job: "j", Instance: fmt.Sprint(i), Address: "localhost:1", Scheme: "http", MetricsPath: "/metrics"})
	}
	a := r.issue("evil").attached(targets...)
	message := strings.Repeat("long\n", 200_000)
	go a.serve(func(s *relayv1.ScrapeRequest) {
		stream, err := a.client.DeliverScrape(context.Background())
		if err != nil {
			return
		}
		reference := &relayv1.ScrapeReference{Session: a.welcome.GetSession(), Scrape: s.GetScrape()}
		stream.Send(&relayv1.DeliverScrapeRequest{Part: &relayv1.DeliverScrapeRequest_Reference{Reference: reference}})
		failure := &relayv1.ScrapeFailure{Reason: relayv1.ScrapeFailureReason_SCRAPE_FAILURE_REASON_TARGET_UNREACHABLE, Message: message}
		stream.Send(&relayv1.DeliverScrapeRequest{Part: &relayv1.DeliverScrapeRequest_Failure{Failure: failure}})
		stream.CloseAndRecv()
	})
	r.beside(usual, func(ctx context.Context) {
		for i := 0; i < len(targets) || ctx.Err() == nil; i++ {
			status, answer := r.do(t.Context(), http.MethodGet, fmt.Sprintf("/agents/evil/targets/t%d/metrics", i%len(targets)), "")
			if status != http.StatusBadGateway || len(answer) > 2<<10 || strings.Count(answer, "\n") > 1 {
				t.Errorf("the scrape is answered %d with %d bytes", status, len(answer))
				return
			}
		}
		if _, known := r.do(t.Context(), http.MethodGet, "/api/v1/agents", ""); len(known) > 100<<10 {
			t.Errorf("what is known of agents has %d bytes", len(known))
		}
	})
}

// TestConnectionsWithoutSessions: one certificate opens connections that never begin a session.
func TestConnectionsWithoutSessions(t *testing.T) {
	r := startRelay(t)
	evil := r.issue("evil")
	r.beside(usual, func(ctx context.Context) {
		var open atomic.Int64
		held, release := context.WithCancel(t.Context())
		go func() {
			defer release()
			<-ctx.Done()
			for deadline := time.Now().Add(patience); open.Load() > 16; <-time.After(10 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Errorf("%d connections stay open", open.Load())
					return
				}
			}
		}()
		several(ctx, 100, func(ctx context.Context, _ int) {
			conn, err := (&tls.Dialer{Config: evil.tls}).DialContext(ctx, "tcp", r.grpc)
			if err != nil {
				return
			}
			defer conn.Close()
			if _, err := conn.Read(make([]byte, 1)); err != nil { // gRPC speaks first
				<-time.After(50 * time.Millisecond)
				return
			}
			open.Add(1)
			defer open.Add(-1) // a moment after the relay closed it
			context.AfterFunc(held, func() { conn.Close() })
			buffer := make([]byte, 1<<10)
			for err == nil {
				_, err = conn.Read(buffer)
			}
		})
	})
}

// TestAttachLoops: one certificate begins sessions and leaves them, as two processes that take them from each other.
func TestAttachLoops(t *testing.T) {
	r := startRelay(t)
	evil := r.issue("evil")
	r.beside(usual, func(ctx context.Context) {
		var taken, refused atomic.Int64
		several(ctx, 4, func(ctx context.Context, _ int) {
			a := evil.dial()
			defer a.close()
			if err := a.hello(ctx); err == nil {
				taken.Add(1)
			} else if ctx.Err() == nil {
				refused.Add(1)
			}
			<-time.After(10 * time.Millisecond)
		})
		if taken.Load() > 60 || refused.Load() == 0 {
			t.Errorf("%d attempts were taken, and %d refused", taken.Load(), refused.Load())
		}
		t.Logf("%d attempts were taken, and %d refused", taken.Load(), refused.Load())
	})
}

// TestLoudAgent: what an agent says in its session is not logged as often as it says it.
func TestLoudAgent(t *testing.T) {
	r := startRelay(t)
	a := r.issue("evil").attached()
	go a.serve(nil)
	long := strings.Repeat("x", 60<<10)
	r.beside(usual, func(ctx context.Context) {
		for i := 0; ctx.Err() == nil; i++ {
			a.tell(&relayv1.AttachRequest{Event: &relayv1.AttachRequest_Spool{Spool: &relayv1.SpoolState{CopyAt: fmt.Sprint(i, long)}}})
			<-time.After(time.Millisecond)
		}
	})
}

// TestManyAnnouncements: an agent announces other targets all the time, good ones and bad ones. Some at once are taken, and then one a
// second.
func TestManyAnnouncements(t *testing.T) {
	long := strings.Repeat("x", 60<<10)
	for name, set := range map[string]func(i int) []*relayv1.Target{
		"good": func(i int) (all []*relayv1.Target) {
			for n := range 1000 {
				all = append(all, targetAt(fmt.Sprint("t", n), fmt.Sprint(i, "-", n)))
			}
			return all
		},
		"bad": func(i int) []*relayv1.Target { return []*relayv1.Target{{Name: fmt.Sprint("/", i), Address: long}} },
	} {
		t.Run(name, func(t *testing.T) {
			r := startRelay(t)
			a := r.issue("evil").attached()
			var reading sync.WaitGroup
			reading.Go(func() { a.serve(nil) })
			began, sent := time.Now(), 0
			r.beside(usual, func(ctx context.Context) {
				stop := context.AfterFunc(ctx, a.close) // or what the relay does not read would hold us up
				defer stop()
				for ctx.Err() == nil && a.attach.Send(&relayv1.AttachRequest{Event: &relayv1.AttachRequest_Targets{Targets: &relayv1.TargetSet{Targets: set(sent)}}}) == nil {
					sent++
				}
			})
			reading.Wait()
			const buffered = 128 // at both ends; some 50 are
			if most := 20 + int(time.Since(began)/time.Second) + buffered; sent > most {
				t.Errorf("%d sets were taken, want %d at most", sent, most)
			}
			t.Logf("%d sets were sent in %v", sent, time.Since(began))
		})
	}
}

// TestForeignSessions: an agent can neither push nor answer in the session of another, nor end it.
func TestForeignSessions(t *testing.T) {
	r := startRelay(t)
	victim := r.issue("victim").attached()
	evil := r.issue("evil").attached()
	number := victim.welcome.GetSession()
	pushing, err := evil.client.Push(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	pushing.Send(&relayv1.PushRequest{Part: &relayv1.PushRequest_Session{Session: number}})
	if _, err := pushing.Recv(); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("a push in another's session = %v", err)
	}
	answering, err := evil.client.DeliverScrape(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	reference := &relayv1.ScrapeReference{Session: number, Scrape: 1}
	answering.Send(&relayv1.DeliverScrapeRequest{Part: &relayv1.DeliverScrapeRequest_Reference{Reference: reference}})
	if _, err := answering.CloseAndRecv(); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("an answer in another's session = %v", err)
	}
	labelled := change(1, "m 1\n", &relayv1.Label{Name: "agent", Value: "victim"})
	if v, err := evil.push(labelled, "m 1\n"); err != nil || v.GetRejected() == nil {
		t.Errorf("a push to another's group = %v, %v", v, err)
	}
	if v, err := victim.push(change(1, "m 1\n"), "m 1\n"); err != nil || v.GetApplied() == nil {
		t.Errorf("the other's own push = %v, %v", v, err)
	}
}

// TestRapidReset: calls that are opened and cancelled at once, and frames that are none of HTTP/2's, over one connection.
func TestRapidReset(t *testing.T) {
	r := startRelay(t)
	evil := r.issue("evil")
	var block bytes.Buffer
	headers := hpack.NewEncoder(&block)
	for _, f := range [][2]string{{":method", "POST"}, {":scheme", "https"}, {":path", "/relay.v1.RelayService/Push"}, {":authority", "r"}, {"content-type", "application/grpc"}, {"te", "trailers"}} {
		headers.WriteField(hpack.HeaderField{Name: f[0], Value: f[1], Sensitive: true})
	}
	r.beside(usual, func(ctx context.Context) {
		several(ctx, 4, func(ctx context.Context, i int) {
			conn, err := (&tls.Dialer{Config: evil.tls}).DialContext(ctx, "tcp", r.grpc)
			if err != nil {
				return
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(patience))
			fmt.Fprint(conn, http2.ClientPreface)
			framer := http2.NewFramer(conn, conn)
			framer.WriteSettings()
			go func() {
				buffer := make([]byte, 32<<10)
				for err := error(nil); err == nil; {
					_, err = conn.Read(buffer)
				}
			}()
			for id := uint32(1); ctx.Err() == nil; id += 2 {
				err := framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndHeaders: true})
				if err == nil && i%2 == 0 {
					err = framer.WriteRSTStream(id, http2.ErrCodeCancel)
				}
				if err != nil {
					<-time.After(10 * time.Millisecond)
					return
				}
			}
		})
	})
}

// TestQuotasOfOneAgent: groups beyond the quota come later, and take nothing.
func TestQuotasOfOneAgent(t *testing.T) {
	r := startRelay(t, "--agents.max-groups=10")
	a := r.issue("evil").attached()
	go a.serve(nil)
	applied := 0
	r.beside(usual, func(ctx context.Context) {
		for sequence := uint64(1); ctx.Err() == nil; sequence++ {
			v, err := a.push(change(sequence, "m 1\n", &relayv1.Label{Name: "n", Value: fmt.Sprint(sequence)}), "m 1\n")
			if err != nil || v.GetApplied() == nil && v.GetLater() == nil {
				t.Errorf("change %d: %v, %v", sequence, v, err)
				return
			}
			if v.GetApplied() != nil {
				applied++
			}
		}
	})
	if applied != 10 {
		t.Errorf("%d groups were taken", applied)
	}
}
