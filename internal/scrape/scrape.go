// Package scrape is the verb of long-lived services: what a scrape is, who carries one out, the HTTP route by which one
// arrives at the relay, and the HTTP request by which it ends at the target.
//
// Bodies are streamed and never kept, and a body that ends early is an error all the way: see [Response]. The package
// knows neither agents nor tunnels. Start reading at [Request] and [Scraper].
package scrape

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// Request is one scrape.
type Request struct {
	// Agent is the identity of the agent that has the target. On the agent itself it is empty.
	Agent string
	// Target is the name of the target.
	Target string
	// Method is GET or HEAD.
	Method string
	// Header holds end-to-end headers only, without credentials; see [RequestHeader].
	Header http.Header
	// MaxBodyBytes bounds the body as the target sends it; 0 means no bound.
	MaxBodyBytes int64
	// Path and RawQuery, percent-encoded, replace the target's own path and parameters where Path is set. Without a Path,
	// RawQuery is what the scraper asked with, and has to be among the target's own parameters.
	Path, RawQuery string
}

// Response is the answer of a target.
type Response struct {
	// Status is the target's own, 200 to 599 and no redirect: see [CheckHead].
	Status int
	// Header holds what [ResponseHeader] lets pass.
	Header http.Header
	// ContentLength is what the target announced, -1 if nothing.
	ContentLength int64
	// Body streams the bytes exactly as the target sends them. Read returns io.EOF only at the end of a complete body;
	// any other end is another error, an [*Error] where the reason is known. The caller closes it. It is never nil.
	Body io.ReadCloser
}

// Scraper carries out scrapes.
//
// Scrape returns when the head of the target's answer is there. The context bounds the whole scrape, the body included;
// when it ends, the scrape is given up at every hop. It may be called concurrently. An error is an [*Error] if the reason
// has a name.
type Scraper interface {
	Scrape(ctx context.Context, r *Request) (*Response, error)
}

// Reason says why a scrape has no answer of its target. Its text is the X-Relay-Error header.
type Reason string

// The reasons, with the status of each in [Reason.Status].
const (
	AgentUnknown      Reason = "agent_unknown"
	AgentOffline      Reason = "agent_offline"
	AgentBusy         Reason = "agent_busy"
	TargetUnknown     Reason = "target_unknown"
	TargetAmbiguous   Reason = "target_ambiguous"
	TargetGone        Reason = "target_gone"
	TargetUnreachable Reason = "target_unreachable"
	TargetRedirects   Reason = "target_redirects"
	ParamsUnknown     Reason = "params_unknown"
	BodyTooLarge      Reason = "body_too_large"
	Timeout           Reason = "scrape_timeout"
	Draining          Reason = "draining"
	Denied            Reason = "denied"

	// BadStatus is why a scrape whose answer came whole, and is passed on as it is, was no success: see [Observe].
	BadStatus Reason = "bad_status"
)

var statuses = map[Reason]int{
	AgentUnknown:      http.StatusNotFound,
	TargetUnknown:     http.StatusNotFound,
	TargetGone:        http.StatusGone,
	ParamsUnknown:     http.StatusBadRequest,
	AgentOffline:      http.StatusServiceUnavailable,
	AgentBusy:         http.StatusServiceUnavailable,
	Draining:          http.StatusServiceUnavailable,
	TargetUnreachable: http.StatusBadGateway,
	TargetRedirects:   http.StatusBadGateway,
	BodyTooLarge:      http.StatusBadGateway,
	Timeout:           http.StatusGatewayTimeout,
	TargetAmbiguous:   http.StatusConflict,
	Denied:            http.StatusForbidden,
}

// Status returns the HTTP status of the reason.
func (r Reason) Status() int {
	if status, ok := statuses[r]; ok {
		return status
	}
	return http.StatusBadGateway
}

// Error is a scrape without an answer of its target.
type Error struct {
	Reason Reason
	// Message says in one line what happened, without credentials.
	Message string
}

// Error returns the reason and the message.
func (e *Error) Error() string { return string(e.Reason) + ": " + e.Message }

// Errorf returns an [*Error] with a formatted message.
func Errorf(reason Reason, format string, args ...any) *Error {
	return &Error{Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// AsError returns err as an [*Error]: as it is if it is one, as a timeout if the scrape's context ended, as unreachable
// otherwise.
func AsError(ctx context.Context, err error) *Error {
	if named, ok := errors.AsType[*Error](err); ok {
		return named
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return Errorf(Timeout, "the scrape's time was over")
	}
	if ctx.Err() != nil {
		return Errorf(Timeout, "the scraper went away")
	}
	return Errorf(TargetUnreachable, "%v", err)
}
