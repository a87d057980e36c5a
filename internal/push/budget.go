package push

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"pushrelay/internal/change"
)

const (
	// budgetWait is how long a body waits for memory before its push is refused (S12).
	budgetWait = 5 * time.Second
	// budgetLook is how often somebody who waits sees whether another body stands still.
	budgetLook = 500 * time.Millisecond
	// budgetStep is the least that a body asks for at once, so that most bodies ask once.
	budgetStep = 32 << 10
	// progressBytes must arrive of a body within progressTime while somebody waits for memory: 26 kbit/s.
	progressBytes = 16 << 10
	progressTime  = 5 * time.Second
)

// Budget bounds the memory of all bodies that are held at once (S12). It is shared by every way a push comes in and safe
// for concurrent use. The zero value, and a nil Budget, have no bound.
//
// While nobody waits for memory a body may be as slow as it likes. While somebody does, bodies that make no progress are ended, the largest
// first, and so are those of one sender that has more than half.
type Budget struct {
	pool *pool // nil: no bound
	size int64
	used int64 // guarded by pool.mu
}

// pool is the memory that budgets share.
type pool struct {
	whole *Budget

	mu      sync.Mutex // guards what follows, and what is said to be guarded by it
	open    map[*Buffer]struct{}
	senders map[string]int64 // what each holds
	waiting []*waiter        // in the order in which they came
	parsing int              // bodies that have the memory for their parsing
}

// A waiter waits for memory.
type waiter struct {
	buffer *Buffer
	bytes  int64
	parses bool          // the body is whole, and the bytes are for its parsing
	given  chan struct{} // closed when it has them
}

// NewBudget returns a budget of the given number of bytes; 0 means no bound.
func NewBudget(size int64) *Budget {
	if size <= 0 {
		return &Budget{}
	}
	b := &Budget{size: size, pool: &pool{open: map[*Buffer]struct{}{}, senders: map[string]int64{}}}
	b.pool.whole = b
	return b
}

// Share returns a budget of half the bytes, for one way that pushes come in: what it gives is taken from b as well, so that
// there is one bound for all, and half of it stays for the others.
func (b *Budget) Share() *Budget {
	if b == nil || b.pool == nil {
		return &Budget{}
	}
	return &Budget{size: max(b.size/2, 1), pool: b.pool}
}

// Size returns the number of bytes; 0 means no bound.
func (b *Budget) Size() int64 {
	if b == nil {
		return 0
	}
	return b.size
}

// A Sender is who sends a body.
type Sender struct {
	// Name tells senders apart: an address, or an agent. An empty one is nobody in particular.
	Name string
	// End is called when the body is to be ended for lack of progress while others wait: whoever reads it shall release its buffer soon.
	// It must not block. Nil for a body that cannot be ended.
	End func()
}

// Buffer returns an empty buffer that takes what it holds from the budget. Release gives it back.
func (b *Budget) Buffer(ctx context.Context, from Sender) *Buffer {
	buffer := &Buffer{ctx: ctx, budget: b, from: from, movedAt: time.Now()}
	if b != nil && b.pool != nil {
		b.pool.mu.Lock()
		b.pool.open[buffer] = struct{}{}
		b.pool.mu.Unlock()
	}
	return buffer
}

// fits says whether a waiter can have what it wants. One body may be parsed in any case, or else bodies that have come could all wait for
// each other. The caller holds mu.
func (w *waiter) fits() bool {
	b := w.buffer.budget
	return w.parses && b.pool.parsing == 0 || b.used+w.bytes <= b.size && b.pool.whole.used+w.bytes <= b.pool.whole.size
}

// grant gives a waiter what it wants. The caller holds mu.
func (p *pool) grant(w *waiter) {
	p.give(w.buffer, w.bytes)
	w.buffer.waits, w.buffer.movedAt = false, time.Now() // It could not get on while it waited.
	if w.parses {
		w.buffer.parses = true
		p.parsing++
	}
}

// give counts bytes as held by a buffer; fewer than none are given back. The caller holds mu.
func (p *pool) give(b *Buffer, bytes int64) {
	b.held += bytes
	p.whole.used += bytes
	if b.budget != p.whole {
		b.budget.used += bytes
	}
	if p.senders[b.from.Name] += bytes; p.senders[b.from.Name] == 0 {
		delete(p.senders, b.from.Name)
	}
}

// serve gives memory to those who wait, in their order, as far as there is any: first to those of senders that have no more than half
// with it, then to the others. Who waits for a share that is used up holds up nobody else. The caller holds mu.
func (p *pool) serve() {
	if len(p.waiting) == 0 {
		return
	}
	full := map[*Budget]bool{}
	p.serveSome(full, func(w *waiter) bool { return !p.isGreedy(w.buffer.from, w.bytes) })
	p.serveSome(full, func(*waiter) bool { return true })
}

// isGreedy says whether a sender would have more than half with so many bytes more. The caller holds mu.
func (p *pool) isGreedy(from Sender, more int64) bool {
	return from.Name != "" && 2*(p.senders[from.Name]+more) > p.whole.size
}

// serveSome serves those that are among some. The caller holds mu.
func (p *pool) serveSome(full map[*Budget]bool, among func(*waiter) bool) {
	p.waiting = slices.DeleteFunc(p.waiting, func(w *waiter) bool {
		if !among(w) {
			return false
		}
		b := w.buffer.budget
		if (full[b] || full[p.whole]) && !w.parses || !w.fits() {
			full[b] = true
			full[p.whole] = full[p.whole] || p.whole.used+w.bytes > p.whole.size
			return false
		}
		p.grant(w)
		close(w.given)
		return true
	})
}

// acquire waits for bytes, for a while.
func (p *pool) acquire(w *waiter) error {
	b := w.buffer
	p.mu.Lock()
	switch {
	case b.ended.Load():
		p.mu.Unlock()
		return errEnded()
	case len(p.waiting) == 0 && w.fits():
		p.grant(w)
		p.mu.Unlock()
		return nil
	}
	w.given, b.waits = make(chan struct{}), true
	p.waiting = append(p.waiting, w)
	p.serve()
	p.mu.Unlock()
	look := time.NewTicker(budgetLook)
	defer look.Stop()
	ctx, cancel := context.WithTimeout(b.ctx, budgetWait)
	defer cancel()
	for {
		p.endOthers(w)
		select {
		case <-w.given:
			return p.given(w)
		case <-look.C:
		case <-ctx.Done():
			return p.giveUp(w)
		}
	}
}

// given returns why there is nothing to go on with, though the waiting is over.
func (p *pool) given(w *waiter) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w.buffer.ended.Load() {
		return errEnded()
	}
	return nil
}

// giveUp ends the waiting.
func (p *pool) giveUp(w *waiter) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.Index(p.waiting, w)
	if i < 0 {
		return nil // It has been given its bytes in this moment.
	}
	p.waiting = slices.Delete(p.waiting, i, i+1)
	w.buffer.waits = false
	p.serve() // It may have held up others.
	if w.buffer.ended.Load() {
		return errEnded()
	}
	return &change.Outcome{Kind: change.Unavailable, Detail: "too many bytes of pushes are being read at once, try again", RetryAfter: time.Second}
}

func errEnded() error {
	return change.Refuse(change.Stalled, "the body came too slowly while others waited for memory: push again")
}

// endOthers ends bodies in favour of one who waits, until it could have what it waits for: those that stand still, the largest first, and
// then those of a sender that has more than half, also while they wait themselves.
func (p *pool) endOthers(w *waiter) {
	p.mu.Lock()
	var candidates []*Buffer
	now := time.Now()
	missing := p.missing(w)
	shareOnly := p.whole.used+w.bytes <= p.whole.size // what is used up is the share alone
	for b := range p.open {
		if b.ended.Load() {
			missing -= b.held // It is about to be given back.
			continue
		}
		greedy := b.from.Name != w.buffer.from.Name && p.isGreedy(b.from, 0)
		if b != w.buffer && (!shareOnly || b.budget == w.buffer.budget) && b.from.End != nil && !b.whole && b.held > 0 && (greedy || !b.waits && now.Sub(b.movedAt) >= progressTime) {
			candidates = append(candidates, b)
		}
	}
	slices.SortFunc(candidates, func(a, b *Buffer) int { return cmp.Compare(b.held, a.held) })
	var ended []*Buffer
	for _, b := range candidates {
		if missing <= 0 {
			break
		}
		b.ended.Store(true)
		missing -= b.held
		ended = append(ended, b)
	}
	p.waiting = slices.DeleteFunc(p.waiting, func(w *waiter) bool {
		over := w.buffer.ended.Load() && w.buffer.waits
		if over {
			w.buffer.waits = false
			close(w.given)
		}
		return over
	})
	p.mu.Unlock()
	for _, b := range ended {
		b.from.End()
	}
}

// missing is how many bytes have to be given back before the waiter can have what it waits for.
func (p *pool) missing(w *waiter) int64 {
	b := w.buffer.budget
	return max(b.used+w.bytes-b.size, p.whole.used+w.bytes-p.whole.size)
}

// Buffer collects one body. It is not safe for concurrent use.
type Buffer struct {
	// Static.
	ctx    context.Context // of the one request that fills the buffer
	budget *Budget
	from   Sender

	body   bytes.Buffer
	marked int // how much had come at movedAt

	// ended says that it shall make room for others. It is set under pool.mu.
	ended atomic.Bool

	// Guarded by pool.mu where there is one. What is held changes only in calls of the buffer, so that those may read it without.
	held    int64
	movedAt time.Time // when it last made progress
	whole   bool      // all of it has come
	parses  bool      // it has the memory for its parsing
	waits   bool      // it waits for memory
}
