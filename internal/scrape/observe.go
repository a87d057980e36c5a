package scrape

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// Observe calls done once when the response's body has ended or is closed: with nil if it came whole and is a success, else
// with why not. ctx is the scrape's.
func Observe(ctx context.Context, resp *Response, done func(bytes int64, err *Error)) {
	resp.Body = &observedBody{ReadCloser: resp.Body, ctx: ctx, whole: judge(resp.Status), done: done}
}

// judge returns what Prometheus makes of an answer that came whole: 200 alone is a success.
func judge(status int) *Error {
	if status == http.StatusOK {
		return nil
	}
	return Errorf(BadStatus, "the target answered %s, and only 200 OK counts as up", strings.TrimSpace(fmt.Sprintf("%d %s", status, http.StatusText(status))))
}

type observedBody struct {
	io.ReadCloser
	ctx   context.Context     // of the scrape; tells a timeout from another end
	whole *Error              // what the scrape is worth if the body comes whole
	done  func(int64, *Error) // nil once called
	bytes int64               // that were read
}

func (b *observedBody) end(err *Error) {
	if b.done != nil {
		b.done(b.bytes, err)
		b.done = nil
	}
}

// Read reads the body. Its first error is the scrape's.
func (b *observedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.bytes += int64(n)
	if errors.Is(err, io.EOF) {
		b.end(b.whole)
	} else if err != nil {
		b.end(AsError(b.ctx, err))
	}
	return n, err
}

// Close closes the body. If it had not ended, whoever reads it has lost interest: for a body that is no exposition anyway
// its status is reason enough.
func (b *observedBody) Close() error {
	err := b.ReadCloser.Close()
	if b.whole != nil {
		b.end(b.whole)
	}
	b.end(Errorf(Timeout, "the scraper went away before the end of the body"))
	return err
}
