package spool

import (
	"context"
	"slices"

	"pushrelay/internal/addup"
	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	"pushrelay/internal/history"
	"pushrelay/internal/metric"
)

// Attachment is what a relay says when a session with it begins.
type Attachment struct {
	// Relay is the address of the relay, one of the configured.
	Relay string
	// Store is the id of its store.
	Store StoreID
	// Journal is the journal that the relay was asked about, Decided its answer.
	Journal JournalID
	Decided Decided
	// History is where the store has been; zero for a relay that does not tell.
	History history.History
	// Limits and AgentLabel are what the relay refuses, so that the spool can refuse it before (T14), if no other relay takes it. Limits count
	// until the session ends.
	Limits     exposition.Limits
	AgentLabel string
	// Names says which names the relay takes. OwnFamilies are the types, by name, of the metric families that it exposes beside the groups and does
	// not take with another type; nil if it tells none. They and AgentLabel are remembered. Whoever attaches bounds them, and changes the map no
	// more.
	Names       metric.NameScheme
	OwnFamilies map[string]metric.Type
}

// A Feed hands out the changes that a relay has still to decide, for as long as a session with it lives. One goroutine calls
// [Feed.Next]; others may call all else. Two sessions with one store share its changes: the first sends, and when it ends
// the other goes on (T17). A session with a copy of a store is handed nothing while there is one with the store itself.
type Feed struct {
	// Static after Attach.
	spool *Spool
	to    Attachment
	wake  chan struct{} // one slot

	// Guarded by Spool.mu.
	cursor *cursor
	begun  *receipt           // of the beginning; nil once it was waited for
	flying map[*Transfer]bool // handed out and not decided
	paused bool               // nothing is handed out

	landed chan struct{} // one slot: the last of flying is decided
}

// Transfer is a change on its way to a relay.
type Transfer struct {
	change  *entry
	journal JournalID
	// Origin is what the relay knows the change by.
	Origin change.Origin
	// Bytes is the length of the body; 0 before [Feed.Request].
	Bytes int
	// Packed is the body as it is to be sent, compressed by S2; nil if it is to be sent as it is.
	Packed []byte
	// whole are the changes of the group up to this one, if the relay gets what its families come to by all of them instead.
	whole []*entry

	// again says that it was under way in an earlier session already, and has no verdict from there: the relay may have decided it.
	again bool
	point history.Point // which change of the relay's store decided it; zero before the verdict, and if the relay does not tell
}

// Attach begins a session with a relay. The caller ends it by [Feed.Detach].
func (s *Spool) Attach(a Attachment) (*Feed, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	cur, inherited, err := s.cursors.meet(a.Relay, a.Store)
	if err != nil {
		return nil, err
	}
	s.groups.recount()
	delete(s.away, a.Relay)
	s.door.met(&a)
	f := &Feed{spool: s, to: a, wake: make(chan struct{}, 1), cursor: cur, flying: map[*Transfer]bool{}, landed: make(chan struct{}, 1)}
	f.place(inherited)
	return f, nil
}

// admit lets the session send.
func (f *Feed) admit(inherited uint64) {
	if cur := f.cursor; !f.to.History.Holds(cur.confirmed) {
		inherited = max(inherited, cur.highest)
		f.meetAnew()
	}
	s, cur := f.spool, f.cursor
	if f.to.Journal == s.journal.id {
		s.cursors.verify(cur, f.to.Decided, inherited)
	}
	if len(cur.feeds) == 0 {
		cur.withdrawn = nil // What was under way in an earlier session is decided, or never will be.
	}
	f.begun = s.journal.note(attachRecord(cur.slot))
	cur.feeds = append(cur.feeds, f)
	if len(cur.feeds) == 1 {
		cur.fillQueue()
	}
}

// Away says why there is no session with a relay, for the answers to pushers.
func (s *Spool) Away(relay, why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away[relay] = why
}

// Drain says that the relay is about to stop: nothing more is handed out, and pushers do not wait for it. Verdicts on what
// was handed out still count.
func (f *Feed) Drain() {
	f.spool.mu.Lock()
	defer f.spool.mu.Unlock()
	f.stopSending("is about to stop")
}

// Pause hands out nothing more until [Feed.Resume], and waits until all that was handed out is decided, or ctx ends. Unlike after [Feed.Drain] pushers go
// on waiting: another session with the store is about to take over.
func (f *Feed) Pause(ctx context.Context) error {
	for {
		f.spool.mu.Lock()
		f.paused = true
		flying := len(f.flying)
		f.spool.mu.Unlock()
		if flying == 0 {
			return nil
		}
		select {
		case <-f.landed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Resume goes on where Pause has stopped.
func (f *Feed) Resume() {
	f.spool.mu.Lock()
	defer f.spool.mu.Unlock()
	f.paused = false
	f.notify()
}

// notify has Next look for a change.
func (f *Feed) notify() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// land notes that a change is no longer under way in this session. The caller holds Spool.mu.
func (f *Feed) land(c *Transfer) {
	delete(f.flying, c)
	if len(f.flying) > 0 {
		return
	}
	select {
	case f.landed <- struct{}{}:
	default:
	}
}

// Detach ends the session. Changes that have no verdict are in doubt: they are sent again in the next one. No other method
// of the feed may be called any more.
func (f *Feed) Detach() {
	s := f.spool
	s.mu.Lock()
	defer s.mu.Unlock()
	f.stopSending("went away")
	if !s.cursors.haveSession(f.to.Relay) {
		s.door.left(f.to.Relay)
	}
	cur := f.cursor
	if !s.cursors.have(cur) {
		return
	}
	for c := range f.flying {
		c.change.group.busy &^= of(cur.slot)
		c.change.answer.tell(cur, reply{detail: "relay " + cur.name() + " went away before its answer"})
		cur.enqueue(c.change.group)
		s.groups.dropIfEmpty(c.change.group)
	}
}

// stopSending gives up what the feed has not handed out: another session with the same store sends it, or it waits for one.
func (f *Feed) stopSending(why string) {
	s, cur := f.spool, f.cursor
	sends := len(cur.feeds) > 0 && cur.feeds[0] == f
	isThis := func(other *Feed) bool { return other == f }
	cur.feeds, cur.copies = slices.DeleteFunc(cur.feeds, isThis), slices.DeleteFunc(cur.copies, isThis)
	if !sends || !s.cursors.have(cur) {
		return
	}
	cur.clearQueue()
	if len(cur.feeds) > 0 {
		cur.fillQueue()
		return
	}
	for c := range cur.pendingChanges() {
		if c.group.busy.has(cur.slot) {
			continue // The verdict may still come.
		}
		c.answer.tell(cur, reply{detail: "relay " + cur.name() + " " + why})
	}
	s.cursors.promote(cur)
}

// Next waits for a change that the relay has to decide, and that is on the disk. It hands out one change of a group at a time,
// so that one which the relay wants later never comes behind a newer one.
func (f *Feed) Next(ctx context.Context) (*Transfer, error) {
	for {
		recovered := f.spool.recovered()
		c, begun, durable := f.handOut()
		if c == nil {
			select {
			case <-f.wake:
				continue
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		}
		begun.wait(ctx) //nolint:errcheck // What could not be written is in the next snapshot, and until that nothing new is handed out.
		err := durable.wait(ctx)
		if err == nil && ctx.Err() == nil {
			return c, nil
		}
		f.requeue(c)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		select {
		case <-recovered:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// handOut dequeues the next change, notes that it is under way, and returns it with what waits until the session and the change are
// on the disk.
func (f *Feed) handOut() (c *Transfer, begun, durable *receipt) {
	s := f.spool
	s.mu.Lock()
	defer s.mu.Unlock()
	cur := f.cursor
	if len(cur.feeds) == 0 || cur.feeds[0] != f || f.paused {
		return nil, nil, nil
	}
	e := cur.dequeue()
	if e == nil {
		return nil, nil, nil
	}
	c = &Transfer{
		change: e, journal: s.journal.id, again: e.sent.has(cur.slot),
		Origin: change.Origin{Journal: s.journal.id, Sequence: e.sequence, Digest: e.identity()},
	}
	if e.anew.has(cur.slot) {
		c.whole = e.group.through(e)
	}
	e.group.busy |= of(cur.slot)
	e.sent |= of(cur.slot)
	f.flying[c] = true
	begun, f.begun = f.begun, nil
	return c, begun, e.durable
}

// requeue puts a change back into the queue that was not sent.
func (f *Feed) requeue(c *Transfer) {
	s := f.spool
	s.mu.Lock()
	defer s.mu.Unlock()
	f.land(c)
	cur := f.cursor
	if !s.cursors.have(cur) {
		return
	}
	c.notSent(cur)
	c.change.group.busy &^= of(cur.slot)
	cur.enqueue(c.change.group)
}

// notSent says that the change is not in doubt by this session. A doubt of an earlier session stays: the relay may have decided
// the change, and would know it under a number of which this spool knows nothing.
func (c *Transfer) notSent(cur *cursor) {
	if !c.again {
		c.change.sent &^= of(cur.slot)
	}
}

// Packing says whether a body of that size may travel as a block of S2 of so many bytes; nil for never.
type Packing func(packed, size uint64) bool

func (p Packing) allows(packed []byte, size int) bool {
	return p != nil && len(packed) < size && p(uint64(len(packed)), uint64(size))
}

// Request returns the push as it is to be sent. A body that may be packed, and is shorter then, is left out of it, and travels as it lies
// ([Transfer.Packed]). Where the relay may have some of what was added up, it is one that replaces families (L14). Its body is put into buf, if that is large enough. An error means that the
// change cannot be sent, by fault of the program.
func (f *Feed) Request(c *Transfer, buf []byte, packing Packing) (*change.Change, error) {
	f.spool.mu.Lock()
	frozen := *c.change
	f.spool.mu.Unlock()
	if c.whole == nil && packing.allows(frozen.body, frozen.bodyBytes) {
		r := frozen.push()
		r.Origin, c.Bytes, c.Packed = &c.Origin, frozen.bodyBytes, frozen.body
		return r, nil
	}
	r, err := frozen.request(buf)
	if err != nil {
		return nil, err
	}
	r.Origin = &c.Origin
	if c.whole != nil {
		if r.Body, err = totalOf(&f.spool.parsers, c.whole); err != nil {
			return nil, err
		}
		r.Operation, r.Gauges, r.Format = change.Merge, addup.Last, exposition.ProtobufDelimited
	}
	c.Bytes = len(r.Body)
	if c.whole != nil && packing != nil {
		if body := compress(r.Body); packing.allows(body, len(r.Body)) {
			r.Body, c.Packed = nil, body
		}
	}
	return r, nil
}

// FeedState is how far a relay is.
type FeedState struct {
	// Pending counts the changes that it has still to decide.
	Pending uint64
	// DecidedThrough is the sequence of Journal up to which it has decided all, and none of it will ever be sent again. Journal is zero if
	// that cannot be said.
	DecidedThrough uint64
	Journal        JournalID
	// CopyAt is the address of a relay that there is a session with, and that runs on a copy of this one's store, or this one on a copy
	// of that one's; empty for none.
	CopyAt string
}

// State says what waits for the relay, and what it has decided: that much is on the disk.
func (f *Feed) State(ctx context.Context) FeedState {
	s := f.spool
	s.mu.Lock()
	cur := f.cursor
	st := FeedState{Pending: uint64(cur.pending), DecidedThrough: cur.decidedThrough(s.journal.sequence), Journal: s.journal.id, CopyAt: cur.copyFor(f)}
	if slices.Contains(cur.copies, f) {
		st.DecidedThrough, st.Journal = 0, JournalID{}
	}
	recorded := s.journal.flush()
	s.mu.Unlock()
	if recorded.wait(ctx) != nil {
		st.DecidedThrough, st.Journal = 0, JournalID{}
	}
	return st
}
