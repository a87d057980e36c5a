package tunnelserver

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"pushrelay/internal/change"
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
	if !ss.pushing.CompareAndSwap(false, true) {
		ss.end(violation("the agent opened a second stream of changes"))
		return status.Error(codes.FailedPrecondition, "the session has a stream of changes already")
	}
	defer ss.pushing.Store(false)
	return newChangeStream(ss, stream).run()
}

// patience is how long a change may stand still half sent, and a verdict may not be taken. An honest agent sends a chunk of 32 KiB in that
// time over any line that it can live with.
const patience = time.Minute

// endGrace is how long the connection stays open of an agent whose memory others wait for, so that the reason reaches it.
const endGrace = 500 * time.Millisecond

func violation(message string) *sessionEnd {
	return &sessionEnd{reason: relayv1.SessionEndReason_SESSION_END_REASON_VIOLATION, message: message}
}

// window bounds the bytes of the bodies that one agent has under way, as it does itself: what it sends beyond that is not read before
// earlier changes are decided. One change may be larger, alone.
type window struct{ bytes *semaphore.Weighted }

func newWindow() window { return window{semaphore.NewWeighted(tunnel.MaxUnacknowledgedBytes)} }

// room is what a body takes of the window.
func (w window) room(bytes uint64) int64 {
	return int64(min(bytes, tunnel.MaxUnacknowledgedBytes-1)) + 1
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
	room  int64                // of the session's window, for it
	stall *time.Timer          // runs while a change comes in
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
	c.stall = time.AfterFunc(patience, func() { c.session.end(violation("a change of the agent stood still half sent")) })
	c.stall.Stop()
	err := c.receive()
	if err != nil {
		c.cancel()
	}
	c.stall.Stop()
	c.drop()
	c.changes.Wait()
	close(c.verdicts)
	sender.Wait()
	return err
}

// send writes verdicts until there are no more.
func (c *changeStream) send() {
	broken := false
	unread := time.AfterFunc(patience, func() {
		c.session.end(violation("the agent does not take its verdicts"))
		c.session.conn.close() // or Send would wait on
	})
	unread.Stop() // until there is one
	for verdict := range c.verdicts {
		if broken {
			continue
		}
		unread.Reset(patience)
		err := c.stream.Send(verdict)
		unread.Stop()
		if err != nil {
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
		c.session.moved()
		switch part := request.GetPart().(type) {
		case *relayv1.PushRequest_Begin:
			if err := c.takeBegin(part.Begin); err != nil {
				return err
			}
			if part.Begin.Body == nil {
				continue
			}
			c.takeChunk(part.Begin.Body)
			part.Begin.Body = nil // it is in the buffer, or it was refused
			if err := c.takeEnd(); err != nil {
				return err
			}
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

func (c *changeStream) takeBegin(begin *relayv1.ChangeBegin) error {
	c.drop()
	size := tunnel.BodyBytes(begin)
	room := c.session.window.room(size)
	if err := c.session.window.bytes.Acquire(c.ctx, room); err != nil {
		return err
	}
	c.stall.Reset(patience)
	c.begun, c.room = time.Now(), room
	c.begin, c.body, c.fault = begin, c.session.server.budget.Buffer(c.ctx, c.sender()), nil
	if limit := c.session.server.cfg.Limits.MaxDecompressedBytes; limit > 0 && size > uint64(limit) {
		c.fault = change.Refuse(change.TooLarge, "body is larger than %d bytes (--push.max-decompressed-size, or half of --push.max-inflight-bytes)", limit)
	}
	if size := keyBytes(begin); size > tunnel.ChunkBytes && c.fault == nil {
		c.fault = c.body.Grow(size) // A key that is as large as a body counts as one.
	}
	if err := tunnel.CheckBody(begin); err != nil {
		c.fault = err
	}
	return nil
}

// sender is who sends the bodies of this stream. One that stands still while others wait for memory ends the session: it cannot be given
// back otherwise.
func (c *changeStream) sender() push.Sender {
	return push.Sender{Name: "agent " + c.session.agent, End: func() {
		c.session.end(&sessionEnd{reason: relayv1.SessionEndReason_SESSION_END_REASON_OVERLOADED, message: "a change of the agent came too slowly while others waited for memory"})
		time.AfterFunc(endGrace, c.session.conn.close)
	}}
}

// drop forgets a change that has not ended.
func (c *changeStream) drop() {
	if c.body != nil {
		c.body.Release()
		c.session.window.bytes.Release(c.room)
	}
	c.begin, c.body, c.fault = nil, nil, nil
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
	c.stall.Reset(patience)
	if c.begin == nil || c.fault != nil {
		return
	}
	if uint64(c.body.Len()+len(chunk)) > c.begin.GetBodyBytes() {
		c.fault = change.Refuse(change.Invalid, "body is longer than the %d bytes announced", c.begin.GetBodyBytes())
		return
	}
	c.fault = c.body.Take(chunk)
}

// takeEnd hands the change to a goroutine of its own, which waits for the earlier change of the same group.
func (c *changeStream) takeEnd() error {
	if c.begin == nil {
		return status.Error(codes.InvalidArgument, "a change ended that had not begun")
	}
	c.stall.Stop()
	select {
	case c.session.slots <- struct{}{}:
	case <-c.ctx.Done():
		return c.ctx.Err()
	}
	number, body, room := c.begin.GetChange(), c.body, c.room
	request, fault := c.request()
	c.begin, c.body, c.fault = nil, nil, nil
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
		verdict := c.decide(number, request, fault)
		body.Release()
		c.session.window.bytes.Release(room)
		c.verdicts <- verdict
	})
	return nil
}

// request returns the push of the change that has come. A fault for good goes with it, so that it is decided as any other
// change (T13); without a request there is only a fault: one that passes, or one of a change that names no group.
func (c *changeStream) request() (*change.Change, error) {
	fault := c.fault
	if fault != nil && !change.OutcomeOf(fault).IsFinal() {
		return nil, fault
	}
	r, err := tunnel.ChangeFromProto(c.begin, c.begun, c.body.Bytes(), c.session.server.cfg.Names)
	if err != nil {
		return nil, err
	}
	if r.Operation != change.Delete {
		if err := push.CheckKey(r.Key, c.session.server.cfg.Limits); err != nil {
			return nil, err // Nothing is kept of it, not even that it was decided: whenever it comes, it is refused.
		}
	}
	if fault == nil && uint64(c.body.Len()) != c.begin.GetBodyBytes() {
		fault = change.Refuse(change.Invalid, "body has %d bytes of the %d announced", c.body.Len(), c.begin.GetBodyBytes())
	}
	if fault == nil && c.begin.GetEncoding() == relayv1.BodyEncoding_BODY_ENCODING_S2 {
		fault = c.body.Expand(int(c.begin.GetDecompressedBytes()), tunnel.Unpack)
		if fault != nil && !change.OutcomeOf(fault).IsFinal() {
			return nil, fault
		}
		r.Body = c.body.Bytes()
	}
	if fault != nil {
		r.Refused = fault
	} else if err := c.body.Complete(r.Format); err != nil {
		return nil, err
	}
	r.Agent, r.Current, r.Waited = c.session.agent, c.session.attachment.Current, r.At.Before(c.session.startedAt)
	r.Epoch = c.session.attachment.Epoch()
	return r, nil
}

// follow returns when the earlier change of the same group is decided, nil if there is none in progress, and what to
// close when this one is.
func (c *changeStream) follow(r *change.Change) (earlier <-chan struct{}, decided chan struct{}) {
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

// decide gets the verdict on a change.
func (c *changeStream) decide(number uint64, r *change.Change, fault error) *relayv1.PushResponse {
	o := change.OutcomeOf(fault)
	if fault == nil {
		o = c.session.server.apply(r)
	}
	c.session.server.metrics.decided(o)
	o.Decided.Epoch = c.session.server.epoch
	return tunnel.VerdictToProto(number, o)
}

// maxChangesInFlight bounds the changes that are being decided for all agents together (T21): enough that a sync of the log
// has company, whatever the disk, and sixteen agents can send at full speed; few enough that those of ten thousand agents
// which come back at once neither hold the store up for pushes over HTTP nor keep a goroutine each.
const maxChangesInFlight = 1024

// apply hands a change to the store. It does not end with the session: a change that takes effect shall be counted, and one
// of a session that is not current any more is refused there (T3).
func (s *Server) apply(r *change.Change) change.Outcome {
	select {
	case s.changes <- struct{}{}:
		defer func() { <-s.changes }()
	default:
		return overloaded()
	}
	ctx := context.Background() // ended by the timeout, and by the store when it has decided
	if s.cfg.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.cfg.Timeout)
		defer cancel()
	}
	return s.cfg.Applier.Apply(ctx, r)
}

// overloaded puts a change off for about a second, which is longer than what is in flight takes; not for all the same time,
// so that they do not come back together.
func overloaded() change.Outcome {
	return change.Outcome{
		Kind: change.Unavailable, Detail: "too many changes of agents are being stored at once",
		RetryAfter: time.Second/2 + rand.N(time.Second),
	}
}
