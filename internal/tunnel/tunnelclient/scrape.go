package tunnelclient

import (
	"context"
	"errors"
	"io"

	"google.golang.org/protobuf/proto"

	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/scrape"
	"pushrelay/internal/tunnel"
)

// refusalsPerScrape bounds the goroutines that only say "busy". A relay that asks for more, keeps more calls open than it takes, or
// asks twice under one number gets no answer: it should know better.
const refusalsPerScrape = 4

// startScrape answers a request in a goroutine of its own, which run waits for.
func (s *session) startScrape(r *relayv1.ScrapeRequest) {
	limit := s.link.cfg.MaxConcurrentScrapes
	ctx, cancel := context.WithTimeout(s.ctx, min(r.GetTimeout().AsDuration(), tunnel.MaxScrapeTime))
	s.mu.Lock()
	running := len(s.running)
	ignored := running >= limit*refusalsPerScrape || len(s.deliveries) >= tunnel.MaxStreams ||
		s.running[r.GetScrape()] != nil || s.deliveries[r.GetScrape()] != nil
	if !ignored {
		s.running[r.GetScrape()] = cancel
	}
	s.mu.Unlock()
	if ignored {
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
	resp, err := s.link.cfg.Scraper.Scrape(ctx, tunnel.RequestFromProto(r))
	s.deliver(ctx, r, resp, err)
}

// deliver streams the answer, or the failure, to the relay. When the relay is no longer interested it ends the call,
// sending fails, and closing the body ends the request to the target.
func (s *session) deliver(ctx context.Context, r *relayv1.ScrapeRequest, resp *scrape.Response, failure error) {
	var sent uint64
	d, err := s.delivery(r)
	if err == nil && failure == nil {
		sent, err = s.sendAnswer(d, resp)
	}
	if resp != nil {
		resp.Body.Close()
	}
	if s.ctx.Err() != nil || errors.Is(err, errRelayGone) {
		return // the relay sees that the session is over, or gave this scrape up: it is no fault of the scrape's
	}
	if failure == nil {
		failure = err
	}
	end := &relayv1.DeliverScrapeRequest{Part: &relayv1.DeliverScrapeRequest_End{End: &relayv1.ScrapeEnd{BodyBytes: sent}}}
	if failure != nil {
		end.Part = &relayv1.DeliverScrapeRequest_Failure{Failure: tunnel.FailureToProto(scrape.AsError(ctx, failure))}
	}
	s.conclude(d, end)
}

// errRelayGone means that the relay does not take the answer any more.
var errRelayGone = errors.New("relay does not take the answer")

// sendAnswer sends head and body, and returns how many bytes the body had. The error says why the target's answer is not whole, or
// is errRelayGone.
func (s *session) sendAnswer(d *delivery, resp *scrape.Response) (sent uint64, err error) {
	head := tunnel.HeadToProto(resp)
	if size := proto.Size(head); size > tunnel.MaxHeadBytes {
		return 0, scrape.Errorf(scrape.TargetUnreachable, "the head of the target's answer has %d bytes, more than the %d that are passed on", size, tunnel.MaxHeadBytes)
	}
	if d.Send(&relayv1.DeliverScrapeRequest{Part: &relayv1.DeliverScrapeRequest_Head{Head: head}}) != nil {
		return 0, errRelayGone
	}
	return s.sendBody(d, resp.Body)
}

// sendBody sends the body in chunks until its end, and returns how many bytes it had.
func (s *session) sendBody(d *delivery, body io.Reader) (sent uint64, err error) {
	for {
		chunk := tunnel.NewChunk()
		n, err := body.Read(chunk.Room())
		if n > 0 {
			chunk.Fill(n)
			if d.SendMsg(chunk) != nil {
				chunk.Drop()
				return sent, errRelayGone
			}
			sent += uint64(n)
			s.moved()
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
