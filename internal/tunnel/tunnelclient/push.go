package tunnelclient

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"pushrelay/internal/change"
	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/lifetime"
	"pushrelay/internal/spool"
	"pushrelay/internal/tunnel"
)

// keptBodyBytes is the largest buffer for bodies that is kept for the next change.
const keptBodyBytes = 1 << 20

// changeStream sends what the spool has for the relay, one change after the other, and brings the verdicts back.
type changeStream struct {
	// static
	session *session
	feed    *spool.Feed
	window  window
	ctx     context.Context // ends with the session, or when another session takes over
	end     context.CancelCauseFunc
	tasks   sync.WaitGroup // run and report
	detach  sync.Once

	body []byte // owned by run: the buffer for bodies

	mu      sync.Mutex
	pending map[uint64]*spool.Transfer // guarded by mu; those that await a verdict, by number
}

// attachSpool begins with the relay's part of the spool. The relay must take pushes.
func (s *session) attachSpool(welcome tunnel.Welcome, asked spool.JournalID) error {
	a := spool.Attachment{
		Relay: s.link.cfg.Address, Store: welcome.StoreID, Journal: asked, History: welcome.History,
		Limits: welcome.Limits, AgentLabel: welcome.AgentLabel, Names: welcome.Names, OwnFamilies: welcome.OwnFamilies,
	}
	for _, j := range welcome.Journals {
		if j.Journal == asked {
			a.Decided = spool.Decided{Sequence: j.Decided, Digest: j.Digest}
		}
	}
	feed, err := s.link.cfg.Spool.Attach(a)
	if err != nil {
		return err
	}
	limits := s.welcome.GetLimits()
	s.changes = &changeStream{
		session: s, feed: feed, pending: map[uint64]*spool.Transfer{},
		window: newWindow(limits.GetMaxUnacknowledgedChanges(), limits.GetMaxUnacknowledgedBytes()),
	}
	s.changes.ctx, s.changes.end = context.WithCancelCause(s.ctx)
	return nil
}

// errTakenOver ends what a session does for the spool when another session does it from then on.
var errTakenOver = errors.New("another session sends the changes")

// begin starts to send changes and to report on the spool, until the session ends or close is called.
func (c *changeStream) begin() {
	c.tasks.Go(func() { c.over(c.run()) })
	c.tasks.Go(c.report)
	c.session.reportSpool()
}

// over ends the session, unless another one has taken over.
func (c *changeStream) over(err error) {
	if !errors.Is(context.Cause(c.ctx), errTakenOver) {
		c.session.end(err)
	}
}

// close leaves the changes to whoever comes next. Nothing of the stream is left when it returns.
func (c *changeStream) close() {
	c.end(errTakenOver)
	c.tasks.Wait()
	c.detach.Do(c.feed.Detach)
}

// run sends changes and takes verdicts until the session ends, and returns why. The stream is opened for the first change:
// most agents of a fleet only scrape.
func (c *changeStream) run() error {
	s := c.session
	next, err := c.feed.Next(c.ctx)
	if err != nil {
		return err
	}
	stream, err := s.client.Push(c.ctx)
	if err != nil {
		return s.explain(err)
	}
	var verdicts sync.WaitGroup
	verdicts.Go(func() { c.over(c.takeVerdicts(stream)) })
	defer verdicts.Wait()
	if stream.Send(&relayv1.PushRequest{Part: &relayv1.PushRequest_Session{Session: s.welcome.GetSession()}}) != nil {
		<-c.ctx.Done() // takeVerdicts has the reason
		return context.Cause(c.ctx)
	}
	for number := uint64(1); ; number++ {
		if c.send(stream, number, next) != nil {
			<-c.ctx.Done()
			return context.Cause(c.ctx)
		}
		s.reportSpool()
		if next, err = c.feed.Next(c.ctx); err != nil {
			return err
		}
	}
}

// send sends one change, as soon as the window has room for it.
func (c *changeStream) send(stream relayv1.RelayService_PushClient, number uint64, next *spool.Transfer) error {
	packs := c.session.relayCan(relayv1.Capability_CAPABILITY_PUSH_S2)
	var packing spool.Packing
	if packs {
		packing = tunnel.Packs
	}
	r, err := c.feed.Request(next, c.body, packing)
	if err != nil {
		c.feed.Decide(next, *change.Refuse(change.Invalid, "the change cannot be sent: %v", err))
		return nil
	}
	if err := c.session.supports(r); err != nil {
		c.feed.Decide(next, change.OutcomeOf(err)) // as if the relay had said so
		return nil
	}
	if cap(r.Body) > cap(c.body) && cap(r.Body) <= keptBodyBytes {
		c.body = r.Body
	}
	if err := c.window.acquire(c.ctx, next.Bytes); err != nil {
		return err
	}
	c.mu.Lock()
	c.pending[number] = next
	c.mu.Unlock()
	begin, body := tunnel.ChangeToProto(r), r.Body
	begin.Change = number
	if next.Packed != nil {
		body = next.Packed
		tunnel.Pack(begin, len(body), next.Bytes)
	}
	if packs && len(body) <= tunnel.MaxInlineBodyBytes {
		begin.Body = body
		if body == nil {
			begin.Body = []byte{} // there, and empty
		}
		return stream.Send(&relayv1.PushRequest{Part: &relayv1.PushRequest_Begin{Begin: begin}})
	}
	if err := stream.Send(&relayv1.PushRequest{Part: &relayv1.PushRequest_Begin{Begin: begin}}); err != nil {
		return err
	}
	for len(body) > 0 {
		n := min(len(body), tunnel.ChunkBytes)
		if err := stream.Send(&relayv1.PushRequest{Part: &relayv1.PushRequest_Chunk{Chunk: body[:n]}}); err != nil {
			return err
		}
		body = body[n:]
	}
	return stream.Send(&relayv1.PushRequest{Part: &relayv1.PushRequest_End{End: &relayv1.ChangeEnd{}}})
}

// errCannotAdd puts off what would be counted twice, or taken for something else, until the relay is of a release that can add (L14).
var errCannotAdd = &change.Outcome{Kind: change.Unavailable, Detail: "the relay is of a release that cannot add to a group: the push waits until it can", RetryAfter: time.Minute}

// supports adapts a change to what the relay announced (T9), or says that it does not take the like.
func (s *session) supports(r *change.Change) error {
	if r.Operation == change.Fail && !s.relayCan(relayv1.Capability_CAPABILITY_PUSH_FAILURE) {
		return tunnel.ErrUnsupported
	}
	if r.Operation.IsOnto() && (!s.relayCan(relayv1.Capability_CAPABILITY_ADD) || !s.relayCan(relayv1.Capability_CAPABILITY_PUSH_ORIGIN)) {
		return errCannotAdd
	}
	if !s.relayCan(relayv1.Capability_CAPABILITY_PUSH_ORIGIN) {
		r.Origin = nil
	}
	r.MayBeHidden = r.MayBeHidden && s.relayCan(relayv1.Capability_CAPABILITY_MAY_BE_HIDDEN)
	if (!r.Life.IsZero() || r.Failed != "") && !s.relayCan(relayv1.Capability_CAPABILITY_LIFE) {
		r.Life, r.Failed = lifetime.Declaration{}, ""
		s.link.tellOfLife()
	}
	return nil
}

// relayCan says whether the relay announced a capability.
func (s *session) relayCan(c relayv1.Capability) bool {
	return tunnel.Has(s.welcome.GetCapabilities(), c)
}

// takeVerdicts brings verdicts to the spool until the stream ends, and returns why.
func (c *changeStream) takeVerdicts(stream relayv1.RelayService_PushClient) error {
	for {
		verdict, err := stream.Recv()
		if err != nil {
			return c.session.explain(err)
		}
		c.session.moved()
		c.mu.Lock()
		decided := c.pending[verdict.GetChange()]
		delete(c.pending, verdict.GetChange())
		c.mu.Unlock()
		if decided == nil {
			continue
		}
		if _, err := tunnel.ChangeDelay(verdict.GetLater()); err != nil {
			c.session.link.complain(err)
		}
		c.feed.Decide(decided, tunnel.VerdictFromProto(verdict))
		c.window.release(decided.Bytes)
		c.session.reportSpool()
	}
}

// report tells the relay what waits for it: when that changed, at most once a second, and with each heartbeat. That it has
// decided all up to a change is said once that is on the disk (T12).
func (c *changeStream) report() {
	s := c.session
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-s.spoolChanged:
		}
		st := c.feed.State(c.ctx)
		state := tunnel.SpoolState{Pending: st.Pending, DecidedThrough: st.DecidedThrough, Journal: st.Journal, CopyAt: st.CopyAt}
		s.enqueue(&relayv1.AttachRequest{Event: &relayv1.AttachRequest_Spool{Spool: tunnel.SpoolToProto(state)}})
		select {
		case <-c.ctx.Done():
			return
		case <-time.After(tunnel.SpoolStateInterval):
		}
	}
}

// reportSpool asks for a report soon.
func (s *session) reportSpool() {
	select {
	case s.spoolChanged <- struct{}{}:
	default:
	}
}

// window bounds the changes that await a verdict, and the bytes of their bodies (T5).
type window struct {
	changes, bytes *semaphore.Weighted
	size           int64
}

// newWindow returns a window of what the relay allows, which is no more than what is good for the link.
func newWindow(changes uint32, bytes uint64) window {
	if changes == 0 || changes > tunnel.MaxUnacknowledgedChanges {
		changes = tunnel.MaxUnacknowledgedChanges
	}
	if bytes == 0 || bytes > tunnel.MaxUnacknowledgedBytes {
		bytes = tunnel.MaxUnacknowledgedBytes
	}
	return window{changes: semaphore.NewWeighted(int64(changes)), bytes: semaphore.NewWeighted(int64(bytes)), size: int64(bytes)}
}

func (w *window) acquire(ctx context.Context, bytes int) error {
	if err := w.changes.Acquire(ctx, 1); err != nil {
		return err
	}
	return w.bytes.Acquire(ctx, w.room(bytes))
}

func (w *window) release(bytes int) {
	w.bytes.Release(w.room(bytes))
	w.changes.Release(1)
}

// room is what a body takes of the window; one that is larger than all of it goes alone.
func (w *window) room(bytes int) int64 { return min(int64(bytes)+1, w.size) }
