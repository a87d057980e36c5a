package tunnelserver

import (
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/tunnel"
)

// scrapeCall is a scrape that the agent was asked for. It gets at most one delivery.
type scrapeCall struct {
	delivered chan *delivery // one slot, so that whoever claims the call never waits
}

// delivery is a stream that answers scrapes, one after the other. The scraper's goroutine reads from it directly: the flow
// control of the stream then reaches from the scraper to the target, and no chunk waits in a queue of ours. It belongs to the
// one scrape that it answers, and to the session while that keeps it for the next one.
type delivery struct {
	opened   uint64 // the scrape that the agent opened it for, by which the agent knows it
	stream   relayv1.RelayService_DeliverScrapeServer
	finished chan struct{} // closed by finish; the call's handler then returns
	once     sync.Once
	err      error // what the handler returns; set before finished is closed
	unused   bool  // guarded by session.mu; no scrape took it since dropUnused looked
	gone     bool  // guarded by session.mu; its call has ended
}

// finish lets the call end; err is nil when all of the answer was taken. Receiving from the stream fails afterwards.
func (d *delivery) finish(err error) {
	d.once.Do(func() {
		d.err = err
		close(d.finished)
	})
}

var errNotWanted = status.Error(codes.Canceled, "nobody waits for this scrape any more")

// DeliverScrape takes the answer to a scrape, and others after it. See relay.proto.
func (s *Server) DeliverScrape(stream relayv1.RelayService_DeliverScrapeServer) error {
	conn, err := connectionOf(stream.Context())
	if err != nil {
		return err
	}
	first, err := stream.Recv()
	if err != nil {
		conn.waste.Add()
		return err
	}
	reference := first.GetReference()
	if reference == nil {
		conn.waste.Add()
		return status.Error(codes.InvalidArgument, "the first message of DeliverScrape must be a reference")
	}
	ss, err := s.sessionOn(stream.Context(), reference.GetSession())
	if err != nil {
		conn.waste.Add()
		return err
	}
	call := ss.claim(reference.GetScrape())
	if call == nil {
		if !ss.excuses() {
			conn.waste.Add()
		}
		return status.Errorf(codes.NotFound, "no scrape %d waits in this session", reference.GetScrape())
	}
	d := &delivery{opened: reference.GetScrape(), stream: stream, finished: make(chan struct{})}
	defer ss.forget(d)
	call.delivered <- d
	select {
	case <-d.finished:
	case <-ss.ctx.Done(): // whoever reads from a stream that was kept waits for nothing else
		return endOf(ss.ctx).status().Err()
	case <-stream.Context().Done():
		return stream.Context().Err()
	}
	if d.err != nil {
		return d.err
	}
	return stream.SendAndClose(&relayv1.DeliverScrapeResponse{})
}

// claim takes a call out of those that wait; nil if there is none.
func (ss *session) claim(id uint64) *scrapeCall {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	call := ss.scrapes[id]
	delete(ss.scrapes, id)
	return call
}

// excuses reports whether a call may be for a scrape that was given up here: there are as many as there were scrapes.
func (ss *session) excuses() bool {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if ss.excused >= ss.lastScrape {
		return false
	}
	ss.excused++
	return true
}

// newCall numbers a scrape. It is answered on a stream that was kept, or else by the call, which waits for one.
func (ss *session) newCall() (id uint64, kept *delivery, call *scrapeCall) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	ss.lastScrape++
	if last := len(ss.kept) - 1; last >= 0 {
		kept, ss.kept = ss.kept[last], ss.kept[:last]
		return ss.lastScrape, kept, nil
	}
	call = &scrapeCall{delivered: make(chan *delivery, 1)}
	ss.scrapes[ss.lastScrape] = call
	return ss.lastScrape, nil, call
}

// keep keeps a stream whose answer is over for another one, and reports whether it does.
func (ss *session) keep(d *delivery) bool {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if !ss.again || d.gone || len(ss.kept) >= tunnel.MaxKeptDeliveries {
		return false
	}
	d.unused = false
	ss.kept = append(ss.kept, d)
	if !ss.dropping {
		ss.dropping = true
		time.AfterFunc(tunnel.DeliveryIdle, ss.dropUnused)
	}
	return true
}

// forget sees to it that a stream whose call has ended answers nothing more.
func (ss *session) forget(d *delivery) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	d.gone = true
	ss.kept = slices.DeleteFunc(ss.kept, func(kept *delivery) bool { return kept == d })
}

// dropUnused ends the streams that no scrape took since the last time, so that an agent that nobody scrapes takes the memory
// of its session and no more. Few scrapes at once need few streams: it is always the last one kept that is taken. It comes back
// while any are kept.
func (ss *session) dropUnused() {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	ss.kept = slices.DeleteFunc(ss.kept, func(d *delivery) bool {
		if d.unused {
			d.finish(nil)
		}
		drop := d.unused
		d.unused = true
		return drop
	})
	ss.dropping = len(ss.kept) > 0
	if ss.dropping {
		time.AfterFunc(tunnel.DeliveryIdle, ss.dropUnused)
	}
}
