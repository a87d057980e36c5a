package push

import (
	"bytes"
	"time"

	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
)

// Grow makes sure that n more bytes fit. It waits for memory, at most 5 s and as long as the request lives, and then
// fails with change.Unavailable.
func (b *Buffer) Grow(n int) error {
	if err := b.reserve(n); err != nil {
		return err
	}
	b.body.Grow(n)
	return nil
}

// bounded says whether anything is counted.
func (b *Buffer) bounded() bool { return b.budget != nil && b.budget.pool != nil }

// reserve waits until the budget has room for n more bytes.
func (b *Buffer) reserve(n int) error {
	if !b.bounded() {
		return nil
	}
	if b.ended.Load() {
		return errEnded()
	}
	b.move()
	// What the buffer has beyond its bytes is memory as well.
	if need := int64(max(b.body.Len()+n, b.body.Cap())); need > b.held {
		return b.acquire(need)
	}
	return nil
}

// move notes now and then that the body has come further.
func (b *Buffer) move() {
	if b.body.Len()-b.marked < progressBytes {
		return
	}
	b.marked = b.body.Len()
	b.budget.pool.mu.Lock()
	b.movedAt = time.Now()
	b.budget.pool.mu.Unlock()
}

func (b *Buffer) acquire(need int64) error {
	size := b.budget.size
	if need > size {
		if b.budget != b.budget.pool.whole {
			return change.Refuse(change.TooLarge, "body is larger than the %d bytes that all pushes by this way may take together (half of --push.max-inflight-bytes)", size)
		}
		return change.Refuse(change.TooLarge, "body is larger than the %d bytes that all pushes together may take (--push.max-inflight-bytes)", size)
	}
	// bytes.Buffer doubles; asking for the same keeps the account above what is allocated without asking per write.
	return b.budget.pool.acquire(&waiter{buffer: b, bytes: min(max(need-b.held, b.held, budgetStep), size-b.held)})
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

// Expand puts in the place of what was written what decode makes of it, into a buffer of just that many bytes. It waits for memory as Grow does.
func (b *Buffer) Expand(size int, decode func(dst, src []byte) ([]byte, error)) error {
	if err := b.reserve(size); err != nil {
		return err
	}
	expanded, err := decode(make([]byte, size), b.body.Bytes())
	if err != nil {
		return err
	}
	b.body = *bytes.NewBuffer(expanded)
	return nil
}

// What parsing a body takes beside it: for each line, for each of its labels, and for a protobuf body times its length.
const (
	parsedLineBytes  = 400
	parsedLabelBytes = 110
	parsedProtobuf   = 6
)

// Complete says that all of the body has come: it is not ended for lack of progress any more. It waits for the memory that parsing takes,
// as Grow does; a body whose parsing takes more than there is waits for all that is left of the budget.
func (b *Buffer) Complete(format exposition.Format) error {
	if !b.bounded() {
		return nil
	}
	p := b.budget.pool
	p.mu.Lock()
	b.whole = true
	p.mu.Unlock()
	body := b.body.Bytes()
	switch {
	case b.ended.Load():
		return errEnded()
	case len(body) == 0:
		return nil
	}
	parsed := int64(len(body)) * parsedProtobuf
	if format != exposition.ProtobufDelimited {
		parsed = int64(bytes.Count(body, []byte{'\n'})+1)*parsedLineBytes + int64(bytes.Count(body, []byte{'='}))*parsedLabelBytes
	}
	more := min(int64(b.body.Cap())+parsed, b.budget.size) - b.held
	if more <= 0 {
		return nil
	}
	return p.acquire(&waiter{buffer: b, bytes: more, parses: true})
}

// Bytes returns what was written; it aliases the buffer until Release.
func (b *Buffer) Bytes() []byte { return b.body.Bytes() }

// Len returns the number of bytes written.
func (b *Buffer) Len() int { return b.body.Len() }

// Release gives the memory back to the budget. The bytes must not be used any more. Calling it again does nothing.
func (b *Buffer) Release() {
	b.body = bytes.Buffer{}
	if !b.bounded() {
		return
	}
	p := b.budget.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, b)
	if b.held == 0 {
		return
	}
	p.give(b, -b.held)
	if b.parses {
		b.parses = false
		p.parsing--
	}
	p.serve()
}
