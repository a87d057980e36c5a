package link

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/scrape"
	"pushrelay/internal/tunnel"
)

// ForwardScrape scrapes over a session of this relay's own, and never over a third one. See member.proto.
func (s *Server) ForwardScrape(in *relayv1.ForwardScrapeRequest, stream relayv1.MemberService_ForwardScrapeServer) error {
	asked := in.GetScrape()
	r := tunnel.RequestFromProto(asked)
	r.Agent = in.GetAgent()
	if r.Method == "" || asked.GetTimeout().AsDuration() <= 0 {
		return refusal(scrape.Errorf(scrape.Denied, "another relay asked in a way that this one does not know"))
	}
	ctx, cancel := context.WithTimeout(stream.Context(), min(asked.GetTimeout().AsDuration(), tunnel.MaxScrapeTime))
	defer cancel()
	resp, err := s.cfg.Local.Scrape(ctx, r)
	if err != nil {
		return refusal(scrape.AsError(ctx, err))
	}
	defer resp.Body.Close()
	if err := answerScrape(stream, resp); err != nil {
		return refusal(scrape.AsError(ctx, err))
	}
	return nil
}

// answerScrape sends an answer as it comes.
func answerScrape(stream relayv1.MemberService_ForwardScrapeServer, resp *scrape.Response) error {
	if err := stream.Send(&relayv1.ForwardScrapeResponse{Part: &relayv1.ForwardScrapeResponse_Head{Head: tunnel.HeadToProto(resp)}}); err != nil {
		return err
	}
	sent := uint64(0)
	for {
		chunk := tunnel.NewChunk()
		n, err := resp.Body.Read(chunk.Room())
		if n > 0 {
			chunk.Fill(n)
			if err := stream.SendMsg(chunk); err != nil {
				chunk.Drop()
				return err
			}
			sent += uint64(n)
		}
		chunk.Drop()
		if errors.Is(err, io.EOF) {
			return stream.Send(&relayv1.ForwardScrapeResponse{Part: &relayv1.ForwardScrapeResponse_End{End: &relayv1.ScrapeEnd{BodyBytes: sent}}})
		}
		if err != nil {
			return err
		}
	}
}

// refusal is how the reason of a scrape without an answer travels.
func refusal(err *scrape.Error) error {
	st := status.New(codes.Aborted, "the scrape has no whole answer")
	detailed, fault := st.WithDetails(&relayv1.ScrapeRefusal{Reason: string(err.Reason), Message: tunnel.Text(err.Message)})
	if fault != nil {
		return st.Err()
	}
	return detailed.Err()
}

// refusalOf returns the reason that came with an error; nil if none did.
func refusalOf(err error) *scrape.Error {
	for _, detail := range status.Convert(err).Details() {
		if r, ok := detail.(*relayv1.ScrapeRefusal); ok {
			return &scrape.Error{Reason: scrape.Reason(tunnel.Text(r.GetReason())), Message: tunnel.Text(r.GetMessage())}
		}
	}
	return nil
}

// maxPlaces bounds over how many relays one scrape is tried.
const maxPlaces = 3

// Scraper scrapes agents over the relay that they have a session with (C13). It is a [scrape.Scraper] and safe for concurrent use.
type Scraper struct {
	cfg     *Config
	client  *client
	metrics *metrics
}

var _ scrape.Scraper = (*Scraper)(nil)

// Scrape asks the agent over this relay's own session, or else over others'. See [scrape.Scraper]. Until an answer begins the next place is tried where
// the agent is not, or nobody can be asked: a scrape changes nothing.
func (s *Scraper) Scrape(ctx context.Context, r *scrape.Request) (*scrape.Response, error) {
	var missed error
	if s.cfg.Here(r.Agent) {
		resp, err := s.cfg.Local.Scrape(ctx, r)
		if err == nil || !isElsewhere(ctx, err) {
			return resp, err
		}
		missed = err
	}
	tried := 0
	for _, member := range s.cfg.Places(r.Agent) {
		if member == s.cfg.Name || tried == maxPlaces {
			continue
		}
		tried++
		resp, err := s.over(ctx, member, r)
		if err == nil || !isElsewhere(ctx, err) {
			return resp, err
		}
		missed = err
	}
	if missed != nil {
		return nil, missed
	}
	return s.cfg.Local.Scrape(ctx, r) // which knows why there is no answer
}

// isElsewhere says that the agent may be asked over another relay.
func isElsewhere(ctx context.Context, err error) bool {
	switch scrape.AsError(ctx, err).Reason {
	case scrape.AgentOffline, scrape.AgentUnknown, scrape.Draining:
		return ctx.Err() == nil
	default:
		return false
	}
}

// over asks for the scrape at another relay.
func (s *Scraper) over(ctx context.Context, member string, r *scrape.Request) (*scrape.Response, error) {
	resp, err := s.ask(ctx, member, r)
	switch {
	case err == nil:
		s.metrics.scrapes.WithLabelValues(resultAnswer).Inc()
		return resp, nil
	case refusalOf(err) != nil:
		s.metrics.scrapes.WithLabelValues(resultRefused).Inc()
		return nil, refusalOf(err)
	}
	s.metrics.scrapes.WithLabelValues(resultBroken).Inc()
	if ctx.Err() != nil {
		return nil, scrape.AsError(ctx, ctx.Err())
	}
	if named, ok := errors.AsType[*scrape.Error](err); ok {
		return nil, named
	}
	switch st := status.Convert(err); st.Code() {
	case codes.Canceled, codes.DeadlineExceeded: // which is how the other end says that the deadline has passed there, a moment before it does here
		return nil, scrape.Errorf(scrape.Timeout, "the target took too long, asked over member %q", member)
	default:
		return nil, scrape.Errorf(scrape.AgentOffline, "agent %q has its session with member %q, which cannot be asked: %s", r.Agent, member, st.Message())
	}
}

func (s *Scraper) ask(ctx context.Context, member string, r *scrape.Request) (*scrape.Response, error) {
	conn, err := s.client.conn(member)
	if err != nil {
		return nil, err
	}
	streamCtx, cancel := context.WithCancel(ctx)
	stream, err := relayv1.NewMemberServiceClient(conn).ForwardScrape(streamCtx, &relayv1.ForwardScrapeRequest{Agent: r.Agent, Scrape: tunnel.RequestToProto(r, tunnel.ScrapeTimeout(ctx, 0))})
	if err != nil {
		cancel()
		return nil, err
	}
	body := &farBody{ctx: ctx, cancel: cancel, stream: stream, member: member, max: r.MaxBodyBytes}
	resp, err := body.head()
	if err != nil {
		body.Close() //nolint:errcheck // It returns nil.
		return nil, err
	}
	return resp, nil
}

// farBody reads the parts of an answer that another relay sends. It is used by one goroutine.
type farBody struct {
	ctx      context.Context // of the scrape
	cancel   context.CancelFunc
	stream   relayv1.MemberService_ForwardScrapeClient
	member   string
	max      int64 // bytes; 0: no bound
	received uint64
	part     tunnel.Part // the last that came
	err      error       // of every further Read
}

// head waits for the head of the answer. Its error says why there is none.
func (b *farBody) head() (*scrape.Response, error) {
	if err := b.stream.RecvMsg(&b.part); err != nil {
		return nil, err
	}
	head := b.part.Message.GetHead()
	if head == nil {
		return nil, scrape.Errorf(scrape.TargetUnreachable, "member %q sent an answer without a head", b.member)
	}
	return tunnel.ResponseFromProto(head, b)
}

// Read returns io.EOF only after the other relay said that the body is complete, and all of it has come.
func (b *farBody) Read(p []byte) (int, error) {
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
func (b *farBody) next() error {
	if err := b.stream.RecvMsg(&b.part); err != nil {
		switch refused := refusalOf(err); {
		case refused != nil:
			return refused
		case b.ctx.Err() != nil:
			return scrape.AsError(b.ctx, b.ctx.Err())
		default:
			return scrape.Errorf(scrape.AgentOffline, "member %q went away in the midst of the answer: %s", b.member, status.Convert(err).Message())
		}
	}
	if b.part.Message == nil {
		b.received += uint64(b.part.Remaining())
		if b.max > 0 && b.received > uint64(b.max) {
			b.part.Close()
			return scrape.Errorf(scrape.BodyTooLarge, "the target's body is larger than %d bytes (--scrape.max-body-size)", b.max)
		}
		return nil
	}
	end, ok := b.part.Message.GetPart().(*relayv1.DeliverScrapeRequest_End)
	switch {
	case !ok:
		return scrape.Errorf(scrape.TargetUnreachable, "member %q sent a part that this relay does not know", b.member)
	case end.End.GetBodyBytes() != b.received:
		return scrape.Errorf(scrape.TargetUnreachable, "member %q sent %d bytes and says that they were %d", b.member, b.received, end.End.GetBodyBytes())
	default:
		return io.EOF
	}
}

// Close gives the scrape up if its body has not ended; the other relay then does, and so on to the target.
func (b *farBody) Close() error {
	b.cancel()
	b.part.Close()
	if b.err == nil {
		b.err = errors.New("the body is closed")
	}
	return nil
}
