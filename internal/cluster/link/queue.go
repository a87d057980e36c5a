package link

import (
	"cmp"
	"crypto/sha256"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"pushrelay/internal/change"
	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/tunnel"
)

// Bounds of what waits to be decided elsewhere: of all of it, and of what went out and has no answer. One body may be larger, alone.
const (
	maxQueued      = 16 << 10
	maxQueuedBytes = 64 << 20
	maxOut         = 1024
	maxOutBytes    = 16 << 20
)

// A groupSum stands for who may push and a grouping key, of whatever length.
type groupSum [sha256.Size]byte

func groupOf(c *change.Change) groupSum {
	return sha256.Sum256([]byte(c.Agent + "\x00" + c.Key.Canonical()))
}

// queue is the changes that are handed on, in the order in which they came. It gives each its number when it goes out first, and has those of a group go
// out in order.
//
// The store keeps one mark of a source in a group, which tells of the last change that was decided and nothing of those before it. So a change must not
// be decided while it is not known here how one before it ended that was not taken: the store calls it out of turn then, and all behind it. Such a
// group is careful: its changes go out one by one, in the order of their numbers, until one is taken.
type queue struct {
	// static
	incarnation [16]byte
	wake        chan struct{} // says that something may go out; one slot

	mu       sync.Mutex
	chains   map[groupSum]*chain // guarded by mu; those with anything in them
	numbered map[uint64]*entry   // guarded by mu; all that have a number
	ready    []*entry            // guarded by mu; may go out, in this order
	last     uint64              // guarded by mu; the number that was given last
	settled  uint64              // guarded by mu; up to this one nothing goes out any more
	count    int                 // guarded by mu; of all
	bytes    int                 // guarded by mu; of their bodies
	lanes    int                 // guarded by mu; how many there were
	out      int                 // guarded by mu; how many went out on the present lane and have no answer
	outBytes int                 // guarded by mu; of their bodies
}

// A chain is the changes of one group. It is guarded by queue.mu.
type chain struct {
	waiting []*entry // that may not go out yet, in the order of their numbers, then in that in which they came
	out     []*entry // that went out on the present lane, in that order
	open    int      // how many are not over and do not wait
	careful bool
}

// An entry is one change that is handed on.
type entry struct {
	// static
	order
	begin  *relayv1.ForwardBegin // without numbers
	group  groupSum
	answer chan change.Outcome // one slot

	// guarded by queue.mu
	number uint64 // 0 until it goes out
	isOpen bool   // it does not wait in its chain
	isOut  bool   // it goes out on the present lane, or went
	sent   bool   // all of it went out, on whatever lane
	resent bool   // it did on an earlier lane, and may have been decided there
	isOver bool   // nobody waits for it any more
}

func newQueue(incarnation [16]byte) *queue {
	return &queue{incarnation: incarnation, wake: make(chan struct{}, 1), chains: map[groupSum]*chain{}, numbered: map[uint64]*entry{}}
}

// notTaken is the outcome of a change of which certainly nothing has happened.
func notTaken(format string, args ...any) *change.Outcome {
	o := change.Refuse(change.Unavailable, format+": the push was not taken, push again", args...)
	o.RetryAfter = retryNotTaken
	return o
}

// add takes a change in. A refusal is why it does not.
func (q *queue) add(o order) (*entry, *change.Outcome) {
	e := &entry{order: o, begin: beginOf(o), group: groupOf(o.change), answer: make(chan change.Outcome, 1)}
	if size := proto.Size(e.begin); size > tunnel.MaxMessageBytes-tunnel.ChunkBytes {
		return nil, change.Refuse(change.TooLarge, "what is said of the push beside its body has %d bytes, too many to be handed on to the relay that decides", size)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.count >= maxQueued || q.count > 0 && q.bytes+len(o.change.Body) > maxQueuedBytes {
		return nil, notTaken("too many pushes wait for the relay that decides")
	}
	q.count++
	q.bytes += len(o.change.Body)
	ch := q.chains[e.group]
	if ch == nil {
		ch = &chain{}
		q.chains[e.group] = ch
	}
	ch.waiting = append(ch.waiting, e)
	q.release(ch)
	return e, nil
}

// release lets go out what may of a chain. The caller holds mu.
func (q *queue) release(ch *chain) {
	for len(ch.waiting) > 0 && (!ch.careful || ch.open == 0) {
		e := ch.waiting[0]
		ch.waiting = slices.Delete(ch.waiting, 0, 1)
		e.isOpen = true
		ch.open++
		q.ready = append(q.ready, e)
	}
	q.stir()
}

func (q *queue) stir() {
	select {
	case q.wake <- struct{}{}:
	default: // it knows already
	}
}

// relaunch begins a lane: all that has a number goes out on it again, in the order of the numbers, before anything that has none.
func (q *queue) relaunch() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.lanes++
	again := make([]*entry, 0, len(q.numbered))
	for _, e := range q.numbered {
		if e.isOut {
			e.isOut, e.resent = false, e.sent
		}
		if e.isOpen {
			again = append(again, e)
		}
	}
	slices.SortFunc(again, func(a, b *entry) int { return cmp.Compare(a.number, b.number) })
	for _, e := range q.ready {
		if e.number == 0 {
			again = append(again, e)
		}
	}
	q.ready, q.out, q.outBytes = again, 0, 0
	for _, ch := range q.chains {
		ch.out = nil
		if ch.careful {
			q.park(ch)
		}
		q.release(ch)
	}
}

// park has all of a chain wait that may go out and has not: nothing goes out before one that has a lower number. The caller holds mu.
func (q *queue) park(ch *chain) {
	parked := slices.Clip(ch.waiting)
	for _, e := range slices.Backward(q.ready) {
		if q.chains[e.group] == ch {
			e.isOpen = false
			ch.open--
			parked = slices.Insert(parked, placeOf(e, parked), e)
		}
	}
	q.ready = slices.DeleteFunc(q.ready, func(e *entry) bool { return q.chains[e.group] == ch })
	ch.waiting = parked
}

// placeOf returns where a change that came earlier belongs among those that wait.
func placeOf(e *entry, waiting []*entry) int {
	i := slices.IndexFunc(waiting, func(other *entry) bool { return other.number == 0 || e.number > 0 && other.number > e.number })
	if i < 0 {
		return len(waiting)
	}
	return i
}

// pop returns what goes out next, and its begin; nil for nothing, until there is a wake.
func (q *queue) pop() (*entry, *relayv1.ForwardBegin) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.ready) > 0 {
		e := q.ready[0]
		if q.out > 0 && (q.out >= maxOut || q.outBytes+len(e.change.Body) > maxOutBytes) {
			return nil, nil // until there are answers
		}
		q.ready = slices.Delete(q.ready, 0, 1)
		if !e.sent && e.change.Current != nil && !e.change.Current() {
			q.end(e, *change.Refuse(change.NotCurrent, "the session that carried the push is over: nothing was changed"))
			continue
		}
		return e, q.launch(e)
	}
	return nil, nil
}

// launch notes that a change goes out, and returns its begin, which is the caller's until the next lane. The caller holds mu.
func (q *queue) launch(e *entry) *relayv1.ForwardBegin {
	if e.number == 0 {
		q.last++
		e.number = q.last
		q.numbered[e.number] = e
	}
	for q.settled < q.last && q.numbered[q.settled+1] == nil {
		q.settled++
	}
	e.begin.Number, e.begin.Settled, e.begin.After = e.number, q.settled, 0
	if e.change.Agent == "" { // no process has a number twice, so that the digest needs to tell nothing
		e.begin.Change.Origin = &relayv1.Origin{JournalId: q.incarnation[:], Sequence: e.number, Digest: q.incarnation[:]}
	}
	ch := q.chains[e.group]
	if n := len(ch.out); n > 0 && e.change.Agent == "" {
		e.begin.After = ch.out[n-1].number
	}
	ch.out = append(ch.out, e)
	e.isOut = true
	q.out++
	q.outBytes += len(e.change.Body)
	return e.begin
}

// chunk copies some of the body of a change that goes out; ok is false once nobody waits for it. The body is the caller's of Apply.
func (q *queue) chunk(e *entry, offset int, room []byte) (n int, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if e.isOver {
		return 0, false
	}
	return copy(room, e.change.Body[offset:]), true
}

// body returns a copy of the whole body.
func (q *queue) body(e *entry) (body []byte, ok bool) {
	body = make([]byte, len(e.change.Body))
	_, ok = q.chunk(e, 0, body)
	return body, ok
}

// complete notes that the last of a change is about to go out: from then on it may be decided. It reports whether anybody waits for it.
func (q *queue) complete(e *entry) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	e.sent = e.sent || !e.isOver
	return !e.isOver
}

// take takes an answer of the decider in.
func (q *queue) take(response *relayv1.ForwardResponse) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e := q.numbered[response.GetNumber()]
	if e == nil || !e.isOut {
		return // it was given up
	}
	switch r := response.GetResult().(type) {
	case *relayv1.ForwardResponse_Outcome:
		o := outcomeFromProto(r.Outcome)
		if e.resent && !o.IsFinal() && o.Kind != change.Full {
			q.retry(e) // it was not taken now, and may have been before. What is full was looked at.
			return
		}
		q.end(e, o)
	default:
		q.again(e)
	}
}

// retry has a change go out again a little later, unless another lane has it go out before. The caller holds mu.
func (q *queue) retry(e *entry) {
	lane := q.lanes
	time.AfterFunc(again, func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		if e.isOut && q.lanes == lane {
			q.again(e)
		}
	})
}

// again has a change go out again, when nothing of its group is out any more. The caller holds mu.
func (q *queue) again(e *entry) {
	ch := q.withdraw(e)
	ch.waiting = slices.Insert(ch.waiting, placeOf(e, ch.waiting), e)
	ch.careful = true
	q.park(ch)
	q.release(ch)
}

// withdraw takes a change out of the list that it is in. The caller holds mu.
func (q *queue) withdraw(e *entry) *chain {
	ch := q.chains[e.group]
	switch {
	case e.isOut:
		e.isOut = false
		q.out--
		q.outBytes -= len(e.change.Body)
		ch.out = without(ch.out, e)
	case e.isOpen:
		q.ready = without(q.ready, e)
	default:
		ch.waiting = without(ch.waiting, e)
	}
	if e.isOpen {
		e.isOpen = false
		ch.open--
	}
	return ch
}

func without(list []*entry, e *entry) []*entry {
	if i := slices.Index(list, e); i >= 0 {
		return slices.Delete(list, i, i+1)
	}
	return list
}

// end ends the waiting for a change. The caller holds mu.
func (q *queue) end(e *entry, a change.Outcome) {
	ch := q.withdraw(e)
	delete(q.numbered, e.number)
	e.isOver = true
	q.count--
	q.bytes -= len(e.change.Body)
	ch.careful = ch.careful && !a.IsTaken()
	if ch.open == 0 && len(ch.waiting) == 0 {
		delete(q.chains, e.group)
	}
	q.release(ch)
	e.answer <- a
}

// giveUp ends the waiting for a change whose pusher waits no longer, and says whether it may have been decided. What was answered meanwhile stands.
func (q *queue) giveUp(e *entry, notSent, inDoubt change.Outcome) change.Outcome {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !e.isOver {
		o := notSent
		if e.sent {
			o = inDoubt
		}
		q.end(e, o)
	}
	return <-e.answer
}
