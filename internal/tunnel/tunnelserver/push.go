package tunnelserver

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
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
	ctx     context.Context // ends with the stream or the session; what has come whole is decided all the same
	cancel  context.CancelFunc

	verdicts chan *relayv1.PushResponse // taken by send, which alone writes to the stream
	changes  sync.WaitGroup             // the goroutines of changes in progress

	// owned by receive
	begin *relayv1.ChangeBegin // nil between changes
	begun time.Time            // when it came
	body  *push.Buffer
	fault error                    // of the change that comes in, if it is known before its end
	last  map[keySum]chan struct{} // per grouping key: closed when its last change is decided
}

func newChangeStream(ss *session, stream relayv1.RelayService_PushServer) *changeStream {
	ctx, cancel := context.WithCancel(stream.Context())
	return &changeStream{
		session:  ss,
		stream:   stream,
		ctx:      ctx,
		cancel:   cancel,
		verdicts: make(chan *relayv1.PushResponse, tunnel.MaxUnacknowledgedChanges),
		last:     map[keySum]chan struct{}{},
	}
}

// A keySum stands for a grouping key, of whatever length.
type keySum [sha256.Size]byte

// run returns when the agent has ended the stream and every change has its verdict, or when the stream broke.
func (c *changeStream) run() error {
	defer c.cancel()
	stop := context.AfterFunc(c.session.ctx, c.cancel)
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
	c.begun = time.Now()
	c.begin, c.body, c.fault = begin, c.session.server.budget.Buffer(c.ctx), nil
	if limit := c.session.server.cfg.Limits.MaxDecompressedBytes; limit > 0 && begin.GetBodyBytes() > uint64(limit) {
		c.fault = push.Errorf(push.ErrTooLarge, "body is larger than %d bytes (--push.max-decompressed-size, or half of --push.max-inflight-bytes)", limit)
	}
	if size := keyBytes(begin); size > tunnel.ChunkBytes && c.fault == nil {
		c.fault = c.body.Grow(size) // A key that is as large as a body counts as one.
	}
	if begin.GetEncoding() != relayv1.BodyEncoding_BODY_ENCODING_UNSPECIFIED {
		c.fault = fmt.Errorf("body encoding %d: %w", begin.GetEncoding(), tunnel.ErrUnsupported)
	}
}

// keyBytes is the size of the grouping key.
func keyBytes(begin *relayv1.ChangeBegin) (n int) {
	for _, l := range begin.GetGroupingKey() {
		n += len(l.GetName()) + len(l.GetValue())
	}
	return n
}

// takeChunk adds to the body, unless a fault is known: the rest is then read and dropped.
func (c *changeStream) takeChunk(chunk []byte) {
	if c.begin == nil || c.fault != nil {
		return
	}
	if uint64(c.body.Len()+len(chunk)) > c.begin.GetBodyBytes() {
		c.fault = push.Errorf(push.ErrInvalid, "body is longer than the %d bytes announced", c.begin.GetBodyBytes())
		return
	}
	c.fault = c.body.Take(chunk)
}

// takeEnd hands the change to a goroutine of its own, which waits for the earlier change of the same group.
func (c *changeStream) takeEnd() error {
	if c.begin == nil {
		return status.Error(codes.InvalidArgument, "a change ended that had not begun")
	}
	number, body := c.begin.GetChange(), c.body
	request, fault := c.request()
	c.begin, c.body, c.fault = nil, nil, nil
	select {
	case c.session.slots <- struct{}{}:
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
			<-c.session.slots
		}()
		if earlier != nil {
			<-earlier
		}
		c.decide(number, request, fault)
		body.Release()
	})
	return nil
}

// request returns the push of the change that has come. A fault for good goes with it, so that it is decided as any other
// change (T13); without a request there is only a fault: one that passes, or one of a change that names no group.
func (c *changeStream) request() (*push.Request, error) {
	fault := c.fault
	if fault != nil && !push.IsFinal(fault) {
		return nil, fault
	}
	r, err := tunnel.ChangeFromProto(c.begin, c.begun, c.body.Bytes(), c.session.server.cfg.Names)
	if err != nil {
		return nil, err
	}
	if r.Operation != push.Delete {
		if err := c.session.server.cfg.Limits.CheckKey(r.Key); err != nil {
			return nil, err // Nothing is kept of it, not even that it was decided: whenever it comes, it is refused.
		}
	}
	if fault == nil && uint64(c.body.Len()) != c.begin.GetBodyBytes() {
		fault = push.Errorf(push.ErrInvalid, "body has %d bytes of the %d announced", c.body.Len(), c.begin.GetBodyBytes())
	}
	if fault != nil {
		r.Refused = fault
	}
	r.Agent, r.Current, r.Waited = c.session.agent, c.session.attachment.Current, r.ReceivedAt.Before(c.session.startedAt)
	return r, nil
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
	key := keySum(sha256.Sum256([]byte(r.Key.Canonical())))
	before, found := c.last[key]
	c.last[key] = decided
	if !found {
		return nil, decided
	}
	return before, decided
}

// decide gets the verdict on a change and queues it.
func (c *changeStream) decide(number uint64, r *push.Request, fault error) {
	var result push.Result
	if fault == nil {
		result, fault = c.session.server.push(r)
	}
	c.session.server.metrics.decided(result, fault)
	result.Decided.Epoch = c.session.server.epoch
	c.verdicts <- tunnel.VerdictToProto(number, result, fault)
}

// maxChangesInFlight bounds the changes that are being decided for all agents together (T21): enough that a sync of the log
// has company, whatever the disk, and sixteen agents can send at full speed; few enough that those of ten thousand agents
// which come back at once neither hold the store up for pushes over HTTP nor keep a goroutine each.
const maxChangesInFlight = 1024

// push hands a change to the pusher. It does not end with the session: a change that takes effect shall be counted, and one
// of a session that is not current any more is refused by the pusher (T3).
func (s *Server) push(r *push.Request) (push.Result, error) {
	select {
	case s.changes <- struct{}{}:
		defer func() { <-s.changes }()
	default:
		return push.Result{}, overloaded()
	}
	ctx := context.Background() // ended by the timeout, and by the pusher when it has decided
	if s.cfg.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.cfg.Timeout)
		defer cancel()
	}
	return s.cfg.Pusher.Push(ctx, r)
}

// overloaded puts a change off for about a second, which is longer than what is in flight takes; not for all the same time,
// so that they do not come back together.
func overloaded() error {
	return &push.Error{
		Kind: push.ErrUnavailable, Message: "too many changes of agents are being stored at once",
		RetryAfter: time.Second/2 + rand.N(time.Second),
	}
}
