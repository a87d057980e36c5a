package tunnelclient

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/scrape"
	"pushrelay/internal/tunnel"
)

// refusalsPerScrape bounds the goroutines that only say "busy": beyond it the relay, which should know better, gets no
// answer.
const refusalsPerScrape = 4

// startScrape answers a request in a goroutine of its own, which run waits for.
func (s *session) startScrape(r *relayv1.ScrapeRequest) {
	limit := s.link.cfg.MaxConcurrentScrapes
	ctx, cancel := context.WithTimeout(s.ctx, r.GetTimeout().AsDuration())
	s.mu.Lock()
	running := len(s.running)
	if running < limit*refusalsPerScrape {
		s.running[r.GetScrape()] = cancel
	}
	s.mu.Unlock()
	if running >= limit*refusalsPerScrape {
		cancel()
		return
	}
	s.scrapes.Go(func() {
		defer func() {
			cancel()
			s.mu.Lock()
			delete(s.running, r.GetScrape())
			s.mu.Unlock()
		}()
		if running >= limit {
			s.deliver(ctx, r, nil, scrape.Errorf(scrape.AgentBusy, "the agent already has %d scrapes at once", running))
			return
		}
		s.scrape(ctx, r)
	})
}

func (s *session) cancelScrape(id uint64) {
	s.mu.Lock()
	cancel := s.running[id]
	s.mu.Unlock()
	if cancel != nil {
		cancel()
	}
}

func (s *session) scrape(ctx context.Context, r *relayv1.ScrapeRequest) {
	resp, err := s.link.cfg.Scraper.Scrape(ctx, &scrape.Request{
		Target:       r.GetTarget(),
		Method:       tunnel.MethodFromProto(r.GetMethod()),
		Header:       tunnel.HeadersFromProto(r.GetHeaders()),
		MaxBodyBytes: int64(r.GetMaxBodyBytes()),
		Path:         r.GetPath(),
		RawQuery:     r.GetRawQuery(),
	})
	s.deliver(ctx, r, resp, err)
}

// deliver streams the answer, or the failure, to the relay. When the relay is no longer interested it ends the call,
// sending fails, and closing the body ends the request to the target.
func (s *session) deliver(ctx context.Context, r *relayv1.ScrapeRequest, resp *scrape.Response, failure error) {
	// The failure of a scrape whose time is over must still get out: the call lives as long as the session.
	callCtx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	stream, err := s.client.DeliverScrape(callCtx, grpc.ForceCodecV2(tunnel.Codec{}))
	if err != nil {
		if resp != nil {
			resp.Body.Close()
		}
		return
	}
	// Somebody has to listen: a relay that is no longer interested ends the call, and the target may be silent then, so that
	// nobody sends and nobody would notice.
	ended := make(chan struct{})
	s.scrapes.Go(func() {
		stream.RecvMsg(new(relayv1.DeliverScrapeResponse)) //nolint:errcheck // That it ended is all there is to know.
		close(ended)
		s.cancelScrape(r.GetScrape())
	})
	reference := &relayv1.ScrapeReference{Session: s.welcome.GetSession(), Scrape: r.GetScrape()}
	err = stream.Send(&relayv1.DeliverScrapeRequest{Part: &relayv1.DeliverScrapeRequest_Reference{Reference: reference}})
	if err == nil && failure == nil {
		failure = s.sendAnswer(stream, resp)
	}
	if resp != nil {
		resp.Body.Close()
	}
	if err != nil || errors.Is(failure, errRelayGone) || s.ctx.Err() != nil {
		return // the session is over, and the relay sees that: it is no fault of the scrape's
	}
	if failure != nil {
		named := scrape.AsError(ctx, failure)
		stream.Send(&relayv1.DeliverScrapeRequest{Part: &relayv1.DeliverScrapeRequest_Failure{Failure: tunnel.FailureToProto(named)}}) //nolint:errcheck // The relay is gone, or knows.
	}
	stream.CloseSend() //nolint:errcheck // As above.
	<-ended            // until the relay has taken it all
}

// errRelayGone means that the relay does not take the answer any more.
var errRelayGone = errors.New("relay does not take the answer")

// sendAnswer sends head, body and end. It returns why the target's answer is not whole, or errRelayGone.
func (s *session) sendAnswer(stream relayv1.RelayService_DeliverScrapeClient, resp *scrape.Response) error {
	head := &relayv1.ScrapeHead{Status: uint32(resp.Status), Headers: tunnel.HeadersToProto(resp.Header)}
	if resp.ContentLength >= 0 {
		length := uint64(resp.ContentLength)
		head.ContentLength = &length
	}
	if size := proto.Size(head); size > tunnel.MaxHeadBytes {
		return scrape.Errorf(scrape.TargetUnreachable, "the head of the target's answer has %d bytes, more than the %d that are passed on", size, tunnel.MaxHeadBytes)
	}
	if stream.Send(&relayv1.DeliverScrapeRequest{Part: &relayv1.DeliverScrapeRequest_Head{Head: head}}) != nil {
		return errRelayGone
	}
	sent, err := s.sendBody(stream, resp.Body)
	if err != nil {
		return err
	}
	if stream.Send(&relayv1.DeliverScrapeRequest{Part: &relayv1.DeliverScrapeRequest_End{End: &relayv1.ScrapeEnd{BodyBytes: sent}}}) != nil {
		return errRelayGone
	}
	return nil
}

// sendBody sends the body in chunks until its end, and returns how many bytes it had.
func (s *session) sendBody(stream grpc.ClientStream, body io.Reader) (sent uint64, err error) {
	for {
		chunk := tunnel.NewChunk()
		n, err := body.Read(chunk.Room())
		if n > 0 {
			chunk.Fill(n)
			if stream.SendMsg(chunk) != nil {
				chunk.Drop()
				return sent, errRelayGone
			}
			sent += uint64(n)
			s.progress.Store(time.Now().UnixNano())
		}
		chunk.Drop()
		if errors.Is(err, io.EOF) {
			return sent, nil
		}
		if err != nil {
			return sent, err
		}
	}
}
