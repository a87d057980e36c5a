package push

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// The kinds of refusal. Every [*Error] is one of them under errors.Is.
var (
	// ErrInvalid means that the push is malformed, or breaks a limit on its shape.
	ErrInvalid = errors.New("push is invalid")
	// ErrInconsistent means that the push contradicts itself or what other groups hold.
	ErrInconsistent = errors.New("push is inconsistent")
	// ErrForbidden means that whoever pushes may not write this group.
	ErrForbidden = errors.New("push is forbidden")
	// ErrTooLarge means that the body is larger than the limit.
	ErrTooLarge = errors.New("push is too large")
	// ErrSuperseded means that the push waited, and that a newer one of the same agent has taken effect in the group since.
	ErrSuperseded = errors.New("push is superseded")
	// ErrFull means that a limit of the whole store is reached.
	ErrFull = errors.New("store is full")
	// ErrUnavailable means that the same push may be taken later.
	ErrUnavailable = errors.New("push is not possible now")
	// ErrNotWritable is the kind of ErrUnavailable that ends when the store can be written again.
	ErrNotWritable = fmt.Errorf("%w: the store cannot be written", ErrUnavailable)
	// ErrStalled is the kind of ErrUnavailable that a body causes which stops arriving.
	ErrStalled = fmt.Errorf("%w: its body stopped arriving", ErrUnavailable)
	// ErrNotCurrent is the kind of ErrUnavailable that [Request.Current] causes. Nothing was changed.
	ErrNotCurrent = fmt.Errorf("%w: what carried it may not change groups any more", ErrUnavailable)
)

// Error is a refused push.
type Error struct {
	// Kind is one of the sentinels above.
	Kind error
	// Message is for the person who pushed, without a final newline; it is the body of the HTTP answer.
	Message string
	// RetryAfter is when the same push may be taken; 0 says nothing.
	RetryAfter time.Duration
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }

// Unwrap returns the kind.
func (e *Error) Unwrap() error { return e.Kind }

// Errorf returns an [*Error] of the given kind with a formatted message.
func Errorf(kind error, format string, args ...any) *Error {
	return &Error{Kind: kind, Message: fmt.Sprintf(format, args...)}
}

// Inconsistent returns the [*Error] of a push that contradicts itself or what other groups hold, in the words of the
// Pushgateway.
func Inconsistent(reason string) *Error {
	return Errorf(ErrInconsistent, "pushed metrics are invalid or inconsistent with existing metrics: %s", reason)
}

// statuses is the one place where a refusal becomes an HTTP status.
var statuses = []struct {
	kind   error
	status int
}{
	{ErrInvalid, http.StatusBadRequest},
	{ErrInconsistent, http.StatusBadRequest},
	{ErrForbidden, http.StatusForbidden},
	{ErrTooLarge, http.StatusRequestEntityTooLarge},
	{ErrSuperseded, http.StatusConflict},
	{ErrFull, http.StatusTooManyRequests},
	{ErrStalled, http.StatusRequestTimeout},
	{ErrUnavailable, http.StatusServiceUnavailable},
	// The push timeout, and the end of the server.
	{context.DeadlineExceeded, http.StatusServiceUnavailable},
	{context.Canceled, http.StatusServiceUnavailable},
}

// StatusOf returns the HTTP status that stands for the error of a Pusher: 503 for one that it cannot name, since the
// push may go through later.
func StatusOf(err error) int {
	for _, s := range statuses {
		if errors.Is(err, s.kind) {
			return s.status
		}
	}
	return http.StatusServiceUnavailable
}

// IsFinal says whether the error of a Pusher is a judgement on the push: the same push will never be taken.
func IsFinal(err error) bool {
	for _, kind := range []error{ErrInvalid, ErrInconsistent, ErrForbidden, ErrTooLarge, ErrSuperseded} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}
