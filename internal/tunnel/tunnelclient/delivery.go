package tunnelclient

import (
	"google.golang.org/grpc"

	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/tunnel"
)

// delivery is a call on which scrapes are answered, one after the other. A relay that can keeps it for further answers
// (ScrapeRequest.deliver_on); any other takes one answer.
type delivery struct {
	relayv1.RelayService_DeliverScrapeClient

	ended  chan struct{} // closed when the relay has ended it
	scrape uint64        // guarded by session.mu; the one that it answers now, 0 between two
}

// delivery returns the call for the answer to a request: the one that the relay names, or a new one. The error is errRelayGone.
func (s *session) delivery(r *relayv1.ScrapeRequest) (*delivery, error) {
	s.mu.Lock()
	if d := s.deliveries[r.GetDeliverOn()]; d != nil && d.scrape == 0 {
		d.scrape = r.GetScrape()
		s.mu.Unlock()
		return d, nil
	}
	s.mu.Unlock()
	// The failure of a scrape whose time is over must still get out: the call lives as long as the session.
	stream, err := s.client.DeliverScrape(s.ctx, grpc.ForceCodecV2(tunnel.Codec{}))
	if err != nil {
		return nil, errRelayGone
	}
	d := &delivery{RelayService_DeliverScrapeClient: stream, ended: make(chan struct{}), scrape: r.GetScrape()}
	s.mu.Lock()
	s.deliveries[r.GetScrape()] = d
	s.mu.Unlock()
	s.scrapes.Go(func() { s.hear(d, r.GetScrape()) })
	reference := &relayv1.ScrapeReference{Session: s.welcome.GetSession(), Scrape: r.GetScrape()}
	if d.Send(&relayv1.DeliverScrapeRequest{Part: &relayv1.DeliverScrapeRequest_Reference{Reference: reference}}) != nil {
		return nil, errRelayGone
	}
	return d, nil
}

// hear waits until the relay ends the call that was opened for a scrape. Somebody has to: a relay that is no longer interested
// ends it, and the target may be silent then, so that nobody sends and nobody would notice.
func (s *session) hear(d *delivery, opened uint64) {
	d.RecvMsg(new(relayv1.DeliverScrapeResponse)) //nolint:errcheck // That it ended is all there is to know.
	close(d.ended)
	s.mu.Lock()
	delete(s.deliveries, opened)
	answering := d.scrape
	s.mu.Unlock()
	s.cancelScrape(answering)
}

// conclude sends the last part of an answer, and leaves the call to the relay. The next request may come as soon as the relay has
// that part, so that there has to be room for it, and the call has to be free, before.
func (s *session) conclude(d *delivery, end *relayv1.DeliverScrapeRequest) {
	again := tunnel.Has(s.welcome.GetCapabilities(), relayv1.Capability_CAPABILITY_DELIVER_AGAIN)
	if again {
		s.mu.Lock()
		delete(s.running, d.scrape)
		d.scrape = 0
		s.mu.Unlock()
	}
	d.Send(end) //nolint:errcheck // The relay is gone, or knows.
	if !again {
		d.CloseSend() //nolint:errcheck // As above.
		<-d.ended     // until the relay has taken it all
	}
}
