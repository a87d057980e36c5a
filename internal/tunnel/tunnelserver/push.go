package tunnelserver

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/push"
	"pushrelay/internal/tunnel"
)

// Push takes changes of groups. See relay.proto.
func (s *Server) Push(stream relayv1.RelayService_PushServer) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	number, ok := first.GetPart().(*relayv1.PushRequest_Session)
	if !ok {
		return status.Error(codes.InvalidArgument, "the first message of Push must be the session")
	}
	ss, err := s.sessionOn(stream.Context(), number.Session)
	if err != nil {
		return err
	}
	return newChangeStream(ss, stream).run()
}

// changeStream is the changes of one session on their way to the pusher. Changes of one group take effect in the order
// in which they came; those of different groups wait for the disk together.
type changeStream struct {
	// static
	session *session
	stream  relayv1.RelayService_PushServer
	ctx     context.Context // ends with the stream or the session
	cancel  context.CancelFunc

	slots    chan struct{}              // one per change in progress
	verdicts chan *relayv1.PushResponse // taken by send, which alone writes to the stream
	changes  sync.WaitGroup             // the goroutines of changes in progress

	// owned by receive
	begin   *relayv1.ChangeBegin // nil between changes
	body    *push.Buffer
	verdict error                    // of the change that comes in, if it is known before its end
	last    map[string]chan struct{} // per grouping key: closed when its last change is decided
}

func newChangeStream(ss *session, stream relayv1.RelayService_PushServer) *changeStream {
	ctx, cancel := context.WithCancel(stream.Context())
	return &changeStream{
		session:  ss,
		stream:   stream,
		ctx:      ctx,
		cancel:   cancel,
		slots:    make(chan struct{}, tunnel.MaxUnacknowledgedChanges),
		verdicts: make(chan *relayv1.PushResponse, tunnel.MaxUnacknowledgedChanges),
		last:     map[string]chan struct{}{},
	}
}

// run returns when the agent has ended the stream and every change has its verdict, or when the stream broke.
func (c *changeStream) run() error {
	defer c.cancel()
	stop := context.AfterFunc(c.session.ctx, c.cancel) // fencing: what a superseded session sent is not stored any more
	defer stop()
	var sender sync.WaitGroup
	sender.Go(c.send)
	err := c.receive()
	if c.body != nil {
		c.body.Release()
	}
	if err != nil {
		c.cancel()
	}
	c.changes.Wait()
	close(c.verdicts)
	sender.Wait()
	return err
}

// send writes verdicts until there are no more.
func (c *changeStream) send() {
	broken := false
	for verdict := range c.verdicts {
		if broken {
			continue
		}
		c.session.server.metrics.decided(verdict)
		if c.stream.Send(verdict) != nil {
			broken = true
			c.cancel()
		}
	}
}

// receive takes changes until the agent ends the stream (nil) or it breaks.
func (c *changeStream) receive() error {
	for {
		request, err := c.stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		c.session.progress.Store(time.Now().UnixNano())
		switch part := request.GetPart().(type) {
		case *relayv1.PushRequest_Begin:
			c.takeBegin(part.Begin)
		case *relayv1.PushRequest_Chunk:
			c.takeChunk(part.Chunk)
		case *relayv1.PushRequest_End:
			if err := c.takeEnd(); err != nil {
				return err
			}
		default:
			return status.Error(codes.InvalidArgument, "a part of the stream of changes is not known to this relay")
		}
	}
}

func (c *changeStream) takeBegin(begin *relayv1.ChangeBegin) {
	if c.body != nil {
		c.body.Release()
	}
	c.begin, c.body, c.verdict = begin, c.session.server.cfg.Budget.Buffer(c.ctx), nil
	if limit := c.session.server.cfg.Limits.MaxDecompressedBytes; limit > 0 && begin.GetBodyBytes() > uint64(limit) {
		c.verdict = push.Errorf(push.ErrTooLarge, "body is larger than %d bytes (--push.max-decompressed-size)", limit)
	}
	if begin.GetEncoding() != relayv1.BodyEncoding_BODY_ENCODING_UNSPECIFIED {
		c.verdict = tunnel.ErrUnsupported
	}
}

// takeChunk adds to the body, unless the verdict is known: the rest is then read and dropped.
func (c *changeStream) takeChunk(chunk []byte) {
	if c.begin == nil || c.verdict != nil {
		return
	}
	if uint64(c.body.Len()+len(chunk)) > c.begin.GetBodyBytes() {
		c.verdict = push.Errorf(push.ErrInvalid, "body is longer than the %d bytes announced", c.begin.GetBodyBytes())
		return
	}
	_, c.verdict = c.body.Write(chunk)
}

// takeEnd hands the change to a goroutine of its own, which waits for the earlier change of the same group.
func (c *changeStream) takeEnd() error {
	if c.begin == nil {
		return status.Error(codes.InvalidArgument, "a change ended that had not begun")
	}
	begin, body, verdict := c.begin, c.body, c.verdict
	c.begin, c.body, c.verdict = nil, nil, nil
	if verdict == nil && uint64(body.Len()) != begin.GetBodyBytes() {
		verdict = push.Errorf(push.ErrInvalid, "body has %d bytes of the %d announced", body.Len(), begin.GetBodyBytes())
	}
	var request *push.Request
	if verdict == nil {
		request, verdict = tunnel.ChangeFromProto(begin, body.Bytes(), c.session.server.cfg.Names)
	}
	if verdict == nil {
		verdict = request.Refused
	}
	select {
	case c.slots <- struct{}{}:
	case <-c.ctx.Done():
		body.Release()
		return c.ctx.Err()
	}
	c.session.inFlight.Add(1)
	earlier, decided := c.follow(request)
	c.changes.Go(func() {
		defer func() {
			close(decided)
			c.session.inFlight.Add(-1)
			<-c.slots
		}()
		if earlier != nil {
			<-earlier
		}
		c.decide(begin.GetChange(), request, verdict)
		body.Release()
	})
	return nil
}

// follow returns when the earlier change of the same group is decided, nil if there is none in progress, and what to
// close when this one is.
func (c *changeStream) follow(r *push.Request) (earlier <-chan struct{}, decided chan struct{}) {
	decided = make(chan struct{})
	if r == nil {
		return nil, decided
	}
	if len(c.last) > 4*tunnel.MaxUnacknowledgedChanges {
		for key, done := range c.last {
			select {
			case <-done:
				delete(c.last, key)
			default:
			}
		}
	}
	key := r.Key.Canonical()
	before, found := c.last[key]
	c.last[key] = decided
	if !found {
		return nil, decided
	}
	return before, decided
}

// decide gets the pusher's verdict and queues it. Nothing of a session that is no longer current is stored (T3).
func (c *changeStream) decide(change uint64, r *push.Request, err error) {
	var result push.Result
	if err == nil {
		if c.ctx.Err() != nil || !c.session.attachment.Current() {
			return
		}
		r.Agent = c.session.agent
		result, err = c.session.server.cfg.Pusher.Push(c.ctx, r)
	}
	c.verdicts <- tunnel.VerdictToProto(change, result, err)
}
