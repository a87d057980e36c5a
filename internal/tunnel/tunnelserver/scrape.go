package tunnelserver

import (
	"context"
	"errors"
	"io"
	"time"

	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/scrape"
	"pushrelay/internal/tunnel"
)

// Scrape asks the agent. See scrape.Scraper.
func (ss *session) Scrape(ctx context.Context, r *scrape.Request) (*scrape.Response, error) {
	if r.Path != "" && !ss.path {
		return nil, scrape.Errorf(scrape.Denied, "agent %q is of a version that cannot be asked for another path", ss.agent)
	}
	ss.inFlight.Add(1)
	id, d, err := ss.ask(ctx, r)
	if err != nil {
		ss.inFlight.Add(-1)
		return nil, err
	}
	body := &deliveredBody{session: ss, ctx: ctx, delivery: d, max: r.MaxBodyBytes}
	// The stream knows nothing of the scraper's context: this ends it, and with it any Recv, when the context ends.
	body.stop = context.AfterFunc(ctx, func() { d.finish(errNotWanted) })
	head, err := body.head()
	if err != nil {
		body.Close() //nolint:errcheck // It returns nil.
		if ctx.Err() != nil {
			ss.cancelScrape(id) // the request may come after the end of the stream that it names
		}
		return nil, err
	}
	resp, err := tunnel.ResponseFromProto(head, body)
	if err != nil {
		body.Close() //nolint:errcheck // It returns nil.
		return nil, err
	}
	return resp, nil
}

// ask sends the request and returns the stream on which the answer comes.
func (ss *session) ask(ctx context.Context, r *scrape.Request) (uint64, *delivery, error) {
	id, kept, call := ss.newCall()
	request := tunnel.RequestToProto(r, tunnel.ScrapeTimeout(ctx, time.Duration(ss.roundTrip.Load())))
	request.Scrape = id
	if kept != nil {
		request.DeliverOn = kept.opened
	}
	if !ss.enqueue(&relayv1.AttachResponse{Event: &relayv1.AttachResponse_Scrape{Scrape: request}}) {
		ss.claim(id)
		if kept != nil {
			kept.finish(errNotWanted)
		}
		return 0, nil, scrape.Errorf(scrape.AgentBusy, "agent %q does not read its requests", ss.agent)
	}
	if kept != nil {
		return id, kept, nil
	}
	var err error
	select {
	case d := <-call.delivered:
		return id, d, nil
	case <-ctx.Done():
		err = scrape.AsError(ctx, ctx.Err())
	case <-ss.ctx.Done():
		err = ss.wentAway()
	}
	if ss.claim(id) == nil {
		(<-call.delivered).finish(errNotWanted) // claimed in the same moment
	} else {
		ss.cancelScrape(id)
	}
	return 0, nil, err
}

// wentAway is why a scrape has no answer whose session has ended.
func (ss *session) wentAway() error {
	return scrape.Errorf(scrape.AgentOffline, "agent %q went away: %v", ss.agent, endOf(ss.ctx))
}

// cancelScrape tells the agent that nobody waits for a scrape any more.
func (ss *session) cancelScrape(id uint64) {
	ss.enqueue(&relayv1.AttachResponse{Event: &relayv1.AttachResponse_ScrapeCancel{ScrapeCancel: &relayv1.ScrapeCancel{Scrape: id}}})
}

// deliveredBody reads the parts of an answer. It is used by one goroutine.
type deliveredBody struct {
	session  *session
	ctx      context.Context // of the scrape
	delivery *delivery       // nil once the answer is over
	stop     func() bool     // takes the end of ctx off the delivery
	max      int64           // bytes; 0: no bound
	received uint64
	part     tunnel.Part // the last that came
	err      error       // of every further Read
	closed   bool
}

// head returns the head of the answer, or why there is none.
func (b *deliveredBody) head() (*relayv1.ScrapeHead, error) {
	if err := b.receive(); err != nil {
		return nil, err
	}
	head := b.part.Message.GetHead()
	if failure := b.part.Message.GetFailure(); failure != nil {
		b.over()
		return nil, tunnel.FailureFromProto(failure)
	}
	if head == nil {
		return nil, scrape.Errorf(scrape.TargetUnreachable, "agent %q sent an answer without a head", b.session.agent)
	}
	return head, nil
}

// receive waits for the next part.
func (b *deliveredBody) receive() error {
	err := b.delivery.stream.RecvMsg(&b.part)
	if err == nil {
		b.session.moved()
		return nil
	}
	if b.ctx.Err() != nil {
		return scrape.AsError(b.ctx, b.ctx.Err())
	}
	if b.session.ctx.Err() != nil {
		return b.session.wentAway()
	}
	if errors.Is(err, io.EOF) {
		return scrape.Errorf(scrape.TargetUnreachable, "agent %q ended the answer early", b.session.agent)
	}
	return scrape.Errorf(scrape.AgentOffline, "agent %q went away in the midst of the answer", b.session.agent)
}

// Read returns io.EOF only after the agent said that the body is complete, and all of it has come.
func (b *deliveredBody) Read(p []byte) (int, error) {
	for b.part.Remaining() == 0 {
		if b.err == nil {
			b.err = b.next()
		}
		if b.err != nil {
			return 0, b.err
		}
	}
	return b.part.Read(p)
}

// next waits for more of the body; io.EOF after a complete one.
func (b *deliveredBody) next() error {
	if err := b.receive(); err != nil {
		return err
	}
	if b.part.Message == nil {
		b.received += uint64(b.part.Remaining())
		if b.max > 0 && b.received > uint64(b.max) {
			b.part.Close()
			return scrape.Errorf(scrape.BodyTooLarge, "the target's body is larger than %d bytes (--scrape.max-body-size)", b.max)
		}
		return nil
	}
	switch p := b.part.Message.GetPart().(type) {
	case *relayv1.DeliverScrapeRequest_End:
		if p.End.GetBodyBytes() != b.received {
			return scrape.Errorf(scrape.TargetUnreachable, "agent %q sent %d bytes and says that they were %d", b.session.agent, b.received, p.End.GetBodyBytes())
		}
		b.over()
		return io.EOF
	case *relayv1.DeliverScrapeRequest_Failure:
		b.over()
		return tunnel.FailureFromProto(p.Failure)
	default:
		return scrape.Errorf(scrape.TargetUnreachable, "agent %q sent a part that this relay does not know", b.session.agent)
	}
}

// over ends an answer of which all was taken. Its stream is kept for another one, unless the end of ctx is about to end it.
func (b *deliveredBody) over() {
	if !b.stop() || !b.session.keep(b.delivery) {
		b.delivery.finish(nil)
	}
	b.delivery = nil
}

// Close gives the scrape up if its body has not ended; the agent then gives up its request to the target.
func (b *deliveredBody) Close() error {
	if !b.closed {
		b.closed = true
		if b.delivery != nil {
			b.stop()
			b.delivery.finish(errNotWanted)
		}
		b.part.Close()
		b.session.inFlight.Add(-1)
	}
	return nil
}
