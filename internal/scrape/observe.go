package scrape

import (
	"context"
	"errors"
	"io"
)

// Observe calls done once when the response's body has ended or is closed: with nil if it came whole, else with why not.
// ctx is the scrape's.
func Observe(ctx context.Context, resp *Response, done func(*Error)) {
	resp.Body = &observedBody{ReadCloser: resp.Body, ctx: ctx, done: done}
}

type observedBody struct {
	io.ReadCloser
	ctx  context.Context // of the scrape; tells a timeout from another end
	done func(*Error)    // nil once called
}

func (b *observedBody) end(err *Error) {
	if b.done != nil {
		b.done(err)
		b.done = nil
	}
}

// Read reads the body. Its first error is the scrape's.
func (b *observedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		b.end(nil)
	} else if err != nil {
		b.end(AsError(b.ctx, err))
	}
	return n, err
}

// Close closes the body. If it had not ended, whoever reads it has lost interest.
func (b *observedBody) Close() error {
	err := b.ReadCloser.Close()
	b.end(Errorf(Timeout, "the scraper went away before the end of the body"))
	return err
}
