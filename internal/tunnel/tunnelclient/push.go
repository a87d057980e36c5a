package tunnelclient

import (
	"context"
	"sync"

	"golang.org/x/sync/semaphore"

	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/push"
	"pushrelay/internal/tunnel"
)

// push sends a push and waits for its verdict. See [Link.Push].
func (s *session) push(ctx context.Context, r *push.Request) (push.Result, error) {
	relay := s.link.cfg.Address
	if !tunnel.Has(s.welcome.GetCapabilities(), relayv1.Capability_CAPABILITY_PUSH) {
		return push.Result{}, push.Errorf(push.ErrUnavailable, "relay %s takes no pushes from agents", relay)
	}
	c := &change{request: r, verdict: make(chan *relayv1.PushResponse, 1), taken: make(chan struct{})}
	select {
	case s.changes.queue <- c:
	case <-ctx.Done():
		return push.Result{}, ctx.Err()
	case <-s.ctx.Done():
		return push.Result{}, push.Errorf(push.ErrUnavailable, "relay %s is not reachable: %v", relay, context.Cause(s.ctx))
	}
	// The body belongs to the caller: it is read until it is sent, or the session is over.
	defer func() { <-c.taken }()
	select {
	case verdict := <-c.verdict:
		return tunnel.VerdictFromProto(verdict)
	case <-ctx.Done():
		return push.Result{}, ctx.Err()
	case <-s.ctx.Done():
		return push.Result{}, push.Errorf(push.ErrUnavailable,
			"relay %s went away before its answer, whether the push was stored is in doubt: %v", relay, context.Cause(s.ctx))
	}
}

// change is a push on its way to the relay.
type change struct {
	request *push.Request
	verdict chan *relayv1.PushResponse // one slot
	taken   chan struct{}              // closed when the request is not read any more
}

// room is what the change takes of the bytes that may await a verdict; one that is larger than all of it goes alone.
func (c *change) room() int64 {
	return min(int64(len(c.request.Body))+1, tunnel.MaxUnacknowledgedBytes)
}

// changeStream sends the session's changes, one after the other, and hands out their verdicts.
type changeStream struct {
	session *session
	queue   chan *change // unbuffered: a change whose client gave up waiting for its turn is never sent
	changes *semaphore.Weighted
	bytes   *semaphore.Weighted

	mu      sync.Mutex
	pending map[uint64]*change // guarded by mu; those that await a verdict, by number
}

func newChangeStream(s *session) *changeStream {
	return &changeStream{
		session: s,
		queue:   make(chan *change),
		changes: semaphore.NewWeighted(tunnel.MaxUnacknowledgedChanges),
		bytes:   semaphore.NewWeighted(tunnel.MaxUnacknowledgedBytes),
		pending: map[uint64]*change{},
	}
}

// run sends changes and takes verdicts until the session ends, and returns why. The stream is opened for the first change:
// most agents of a fleet only scrape.
func (c *changeStream) run() error {
	s := c.session
	var next *change
	select {
	case next = <-c.queue:
	case <-s.ctx.Done():
		return context.Cause(s.ctx)
	}
	defer func() {
		if next != nil {
			close(next.taken)
		}
	}()
	stream, err := s.client.Push(s.ctx)
	if err != nil {
		return s.explain(err)
	}
	var verdicts sync.WaitGroup
	verdicts.Go(func() { s.end(c.takeVerdicts(stream)) })
	defer verdicts.Wait()
	if stream.Send(&relayv1.PushRequest{Part: &relayv1.PushRequest_Session{Session: s.welcome.GetSession()}}) != nil {
		<-s.ctx.Done() // takeVerdicts has the reason
		return context.Cause(s.ctx)
	}
	for number := uint64(1); ; number++ {
		if c.send(stream, number, next) != nil {
			<-s.ctx.Done()
			return context.Cause(s.ctx)
		}
		close(next.taken)
		next = nil
		select {
		case next = <-c.queue:
		case <-s.ctx.Done():
			return context.Cause(s.ctx)
		}
	}
}

func (c *changeStream) send(stream relayv1.RelayService_PushClient, number uint64, next *change) error {
	if err := c.changes.Acquire(c.session.ctx, 1); err != nil {
		return err
	}
	if err := c.bytes.Acquire(c.session.ctx, next.room()); err != nil {
		return err
	}
	c.mu.Lock()
	c.pending[number] = next
	c.mu.Unlock()
	begin := tunnel.ChangeToProto(next.request)
	begin.Change = number
	if err := stream.Send(&relayv1.PushRequest{Part: &relayv1.PushRequest_Begin{Begin: begin}}); err != nil {
		return err
	}
	for body := next.request.Body; len(body) > 0; {
		n := min(len(body), tunnel.ChunkBytes)
		if err := stream.Send(&relayv1.PushRequest{Part: &relayv1.PushRequest_Chunk{Chunk: body[:n]}}); err != nil {
			return err
		}
		body = body[n:]
	}
	return stream.Send(&relayv1.PushRequest{Part: &relayv1.PushRequest_End{End: &relayv1.ChangeEnd{}}})
}

// takeVerdicts hands verdicts to those who wait for them until the stream ends, and returns why.
func (c *changeStream) takeVerdicts(stream relayv1.RelayService_PushClient) error {
	for {
		verdict, err := stream.Recv()
		if err != nil {
			return c.session.explain(err)
		}
		c.mu.Lock()
		decided := c.pending[verdict.GetChange()]
		delete(c.pending, verdict.GetChange())
		c.mu.Unlock()
		if decided == nil {
			continue
		}
		decided.verdict <- verdict
		c.bytes.Release(decided.room())
		c.changes.Release(1)
	}
}
