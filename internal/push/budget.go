package push

import (
	"bytes"
	"context"
	"time"

	"golang.org/x/sync/semaphore"
)

// budgetWait is how long a body waits for memory before its push is refused (S12).
const budgetWait = 5 * time.Second

// budgetStep is the least that a body asks for at once, so that most bodies ask once.
const budgetStep = 32 << 10

// Budget bounds the memory of all bodies that are held at once (S12). It is shared by every way a push comes in and safe
// for concurrent use. The zero value, and a nil Budget, have no bound.
type Budget struct {
	bytes *semaphore.Weighted // nil: no bound
	size  int64
	whole *Budget // what this one is a share of; nil for none
}

// NewBudget returns a budget of the given number of bytes; 0 means no bound.
func NewBudget(size int64) *Budget {
	if size <= 0 {
		return &Budget{}
	}
	return &Budget{bytes: semaphore.NewWeighted(size), size: size}
}

// Share returns a budget of half the bytes, for one way that pushes come in: what it gives is taken from b as well, so that
// there is one bound for all, and half of it stays for the others.
func (b *Budget) Share() *Budget {
	if b == nil || b.bytes == nil {
		return &Budget{}
	}
	share := NewBudget(max(b.size/2, 1))
	share.whole = b
	return share
}

// Size returns the number of bytes; 0 means no bound.
func (b *Budget) Size() int64 {
	if b == nil {
		return 0
	}
	return b.size
}

// acquire takes bytes, from the whole after the share: those who wait for the share hold nothing of the whole.
func (b *Budget) acquire(ctx context.Context, n int64) error {
	if err := b.bytes.Acquire(ctx, n); err != nil || b.whole == nil {
		return err
	}
	err := b.whole.acquire(ctx, n)
	if err != nil {
		b.bytes.Release(n)
	}
	return err
}

func (b *Budget) release(n int64) {
	b.bytes.Release(n)
	if b.whole != nil {
		b.whole.release(n)
	}
}

// Buffer returns an empty buffer that takes what it holds from the budget. Release gives it back.
func (b *Budget) Buffer(ctx context.Context) *Buffer { return &Buffer{ctx: ctx, budget: b} }

// Buffer collects one body. It is not safe for concurrent use.
type Buffer struct {
	ctx    context.Context // of the one request that fills the buffer
	budget *Budget
	held   int64
	body   bytes.Buffer
}

// Grow makes sure that n more bytes fit. It waits for memory, at most 5 s and as long as the request lives, and then
// fails with ErrUnavailable.
func (b *Buffer) Grow(n int) error {
	if err := b.reserve(n); err != nil {
		return err
	}
	b.body.Grow(n)
	return nil
}

// reserve waits until the budget has room for n more bytes.
func (b *Buffer) reserve(n int) error {
	need := int64(b.body.Len() + n)
	if b.budget == nil || b.budget.bytes == nil || need <= b.held {
		return nil
	}
	return b.acquire(need)
}

func (b *Buffer) acquire(need int64) error {
	if need > b.budget.size {
		if b.budget.whole != nil {
			return Errorf(ErrTooLarge, "body is larger than the %d bytes that all pushes by this way may take together (half of --push.max-inflight-bytes)", b.budget.size)
		}
		return Errorf(ErrTooLarge, "body is larger than the %d bytes that all pushes together may take (--push.max-inflight-bytes)", b.budget.size)
	}
	// bytes.Buffer doubles; asking for the same keeps the account above what is allocated without asking per write.
	more := min(max(need-b.held, b.held, budgetStep), b.budget.size-b.held)
	ctx, cancel := context.WithTimeout(b.ctx, budgetWait)
	defer cancel()
	if b.budget.acquire(ctx, more) != nil {
		return &Error{Kind: ErrUnavailable, Message: "too many bytes of pushes are being read at once, try again", RetryAfter: time.Second}
	}
	b.held += more
	return nil
}

// Write appends p, waiting for memory as Grow does.
func (b *Buffer) Write(p []byte) (int, error) {
	if err := b.Grow(len(p)); err != nil {
		return 0, err
	}
	return b.body.Write(p)
}

// Take is Write for bytes that nobody else uses from then on: a body that comes in one piece is not copied.
func (b *Buffer) Take(p []byte) error {
	if b.body.Len() > 0 {
		_, err := b.Write(p)
		return err
	}
	if err := b.reserve(len(p)); err != nil {
		return err
	}
	b.body = *bytes.NewBuffer(p)
	return nil
}

// Bytes returns what was written; it aliases the buffer until Release.
func (b *Buffer) Bytes() []byte { return b.body.Bytes() }

// Len returns the number of bytes written.
func (b *Buffer) Len() int { return b.body.Len() }

// Release gives the memory back to the budget. The bytes must not be used any more. Calling it again does nothing.
func (b *Buffer) Release() {
	if b.held > 0 {
		b.budget.release(b.held)
	}
	b.held = 0
	b.body = bytes.Buffer{}
}
