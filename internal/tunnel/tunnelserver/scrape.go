package tunnelserver

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/scrape"
	"pushrelay/internal/tunnel"
)

// scrapeCall is a scrape that the agent was asked for. It gets at most one delivery.
type scrapeCall struct {
	delivered chan *delivery // one slot, so that whoever claims the call never waits
}

// delivery is the stream that answers a scrape. The scraper's goroutine reads from it directly: the flow control of the
// stream then reaches from the scraper to the target, and no chunk waits in a queue of ours.
type delivery struct {
	stream   relayv1.RelayService_DeliverScrapeServer
	finished chan struct{} // closed by finish; the call's handler then returns
	once     sync.Once
	err      error // what the handler returns; set before finished is closed
}

// finish lets the call end; err is nil when all of the answer was taken. Receiving from the stream fails afterwards.
func (d *delivery) finish(err error) {
	d.once.Do(func() {
		d.err = err
		close(d.finished)
	})
}

var errNotWanted = status.Error(codes.Canceled, "nobody waits for this scrape any more")

// DeliverScrape takes the answer to a scrape. See relay.proto.
func (s *Server) DeliverScrape(stream relayv1.RelayService_DeliverScrapeServer) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	reference := first.GetReference()
	if reference == nil {
		return status.Error(codes.InvalidArgument, "the first message of DeliverScrape must be a reference")
	}
	ss, err := s.sessionOn(stream.Context(), reference.GetSession())
	if err != nil {
		return err
	}
	call := ss.claim(reference.GetScrape())
	if call == nil {
		return status.Errorf(codes.NotFound, "no scrape %d waits in this session", reference.GetScrape())
	}
	d := &delivery{stream: stream, finished: make(chan struct{})}
	call.delivered <- d
	select {
	case <-d.finished:
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

func (ss *session) newCall() (uint64, *scrapeCall) {
	call := &scrapeCall{delivered: make(chan *delivery, 1)}
	ss.mu.Lock()
	defer ss.mu.Unlock()
	ss.lastScrape++
	ss.scrapes[ss.lastScrape] = call
	return ss.lastScrape, call
}

// Scrape asks the agent. See scrape.Scraper.
func (ss *session) Scrape(ctx context.Context, r *scrape.Request) (*scrape.Response, error) {
	if r.Path != "" && !ss.path {
		return nil, scrape.Errorf(scrape.Denied, "agent %q is of a version that cannot be asked for another path", ss.agent)
	}
	ss.inFlight.Add(1)
	d, err := ss.ask(ctx, r)
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
		return nil, err
	}
	resp := &scrape.Response{
		Status:        int(head.GetStatus()),
		Header:        scrape.ResponseHeader(tunnel.HeadersFromProto(head.GetHeaders())),
		ContentLength: -1,
		Body:          body,
	}
	if head.ContentLength != nil {
		resp.ContentLength = int64(head.GetContentLength())
	}
	return resp, nil
}

// ask sends the request and waits for the stream that answers it.
func (ss *session) ask(ctx context.Context, r *scrape.Request) (*delivery, error) {
	id, call := ss.newCall()
	event := &relayv1.AttachResponse{Event: &relayv1.AttachResponse_Scrape{Scrape: &relayv1.ScrapeRequest{
		Scrape:       id,
		Target:       r.Target,
		Method:       tunnel.MethodToProto(r.Method),
		Headers:      tunnel.HeadersToProto(r.Header),
		Timeout:      durationpb.New(ss.agentTimeout(ctx)),
		MaxBodyBytes: uint64(r.MaxBodyBytes),
		Path:         r.Path,
		RawQuery:     r.RawQuery,
	}}}
	if !ss.enqueue(event) {
		ss.claim(id)
		return nil, scrape.Errorf(scrape.AgentBusy, "agent %q does not read its requests", ss.agent)
	}
	var err error
	select {
	case d := <-call.delivered:
		return d, nil
	case <-ctx.Done():
		err = scrape.AsError(ctx, ctx.Err())
	case <-ss.ctx.Done():
		err = scrape.Errorf(scrape.AgentOffline, "agent %q went away: %v", ss.agent, endOf(ss.ctx))
	}
	if ss.claim(id) == nil {
		(<-call.delivered).finish(errNotWanted) // claimed in the same moment
	} else {
		ss.enqueue(&relayv1.AttachResponse{Event: &relayv1.AttachResponse_ScrapeCancel{ScrapeCancel: &relayv1.ScrapeCancel{Scrape: id}}})
	}
	return nil, err
}

// returnMargin is what an agent gives up earlier than its reason would arrive in the very last moment.
const returnMargin = 20 * time.Millisecond

// agentTimeout is what is left of the scrape's time, less the round trip and a little but not below three quarters of it
// (T28), so that the agent gives up first and its reason still arrives.
func (ss *session) agentTimeout(ctx context.Context) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return time.Minute // never: the handler sets one
	}
	left := time.Until(deadline)
	return max(left-time.Duration(ss.roundTrip.Load())-returnMargin, left*3/4, time.Millisecond)
}

// deliveredBody reads the parts of an answer. It is used by one goroutine.
type deliveredBody struct {
	session  *session
	ctx      context.Context // of the scrape
	delivery *delivery
	stop     func() bool // takes the end of ctx off the delivery
	max      int64       // bytes; 0: no bound
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
		b.delivery.finish(nil)
		return nil, tunnel.FailureFromProto(failure)
	}
	if head == nil || head.GetStatus() < 200 || head.GetStatus() > 599 {
		return nil, scrape.Errorf(scrape.TargetUnreachable, "agent %q sent an answer without a head", b.session.agent)
	}
	return head, nil
}

// receive waits for the next part.
func (b *deliveredBody) receive() error {
	err := b.delivery.stream.RecvMsg(&b.part)
	if err == nil {
		b.session.progress.Store(time.Now().UnixNano())
		return nil
	}
	if b.ctx.Err() != nil {
		return scrape.AsError(b.ctx, b.ctx.Err())
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
		b.delivery.finish(nil)
		return io.EOF
	case *relayv1.DeliverScrapeRequest_Failure:
		b.delivery.finish(nil)
		return tunnel.FailureFromProto(p.Failure)
	default:
		return scrape.Errorf(scrape.TargetUnreachable, "agent %q sent a part that this relay does not know", b.session.agent)
	}
}

// Close gives the scrape up if its body has not ended; the agent then gives up its request to the target.
func (b *deliveredBody) Close() error {
	if !b.closed {
		b.closed = true
		b.stop()
		b.delivery.finish(errNotWanted)
		b.part.Close()
		b.session.inFlight.Add(-1)
	}
	return nil
}
