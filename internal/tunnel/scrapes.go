package tunnel

import (
	"context"
	"io"
	"maps"
	"net/http"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/scrape"
)

// RequestToProto returns a scrape as it travels, but for its number: the one who is asked gives up after timeout.
func RequestToProto(r *scrape.Request, timeout time.Duration) *relayv1.ScrapeRequest {
	return &relayv1.ScrapeRequest{
		Target:       r.Target,
		Method:       methods[r.Method],
		Headers:      headersToProto(r.Header),
		Timeout:      durationpb.New(timeout),
		MaxBodyBytes: uint64(r.MaxBodyBytes),
		Path:         r.Path,
		RawQuery:     r.RawQuery,
	}
}

// RequestFromProto returns a scrape, but for the agent. Its method is empty if it is not known.
func RequestFromProto(p *relayv1.ScrapeRequest) *scrape.Request {
	return &scrape.Request{
		Target:       p.GetTarget(),
		Method:       methodFromProto(p.GetMethod()),
		Header:       headersFromProto(p.GetHeaders()),
		MaxBodyBytes: int64(p.GetMaxBodyBytes()),
		Path:         p.GetPath(),
		RawQuery:     p.GetRawQuery(),
	}
}

// returnMargin is what the one who is asked gives up earlier than the reason would arrive in the very last moment.
const returnMargin = 20 * time.Millisecond

// ScrapeTimeout is what is left of a scrape's time, less the round trip and a little but not below three quarters of it (T28), so that the one who is asked gives up
// first and the reason still arrives.
func ScrapeTimeout(ctx context.Context, roundTrip time.Duration) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return MaxScrapeTime // never: the handler sets one
	}
	left := time.Until(deadline)
	return max(left-roundTrip-returnMargin, left*3/4, time.Millisecond)
}

// HeadToProto returns the head of an answer as it travels.
func HeadToProto(resp *scrape.Response) *relayv1.ScrapeHead {
	head := &relayv1.ScrapeHead{Status: uint32(resp.Status), Headers: headersToProto(resp.Header)}
	if resp.ContentLength >= 0 {
		length := uint64(resp.ContentLength)
		head.ContentLength = &length
	}
	return head
}

// ResponseFromProto returns an answer by its head. The error says why it is not passed on; the body is then not closed.
func ResponseFromProto(head *relayv1.ScrapeHead, body io.ReadCloser) (*scrape.Response, error) {
	header := headersFromProto(head.GetHeaders())
	if err := scrape.CheckHead(int(head.GetStatus()), header); err != nil {
		return nil, err
	}
	resp := &scrape.Response{Status: int(head.GetStatus()), Header: scrape.ResponseHeader(header), ContentLength: -1, Body: body}
	if head.ContentLength != nil {
		resp.ContentLength = int64(head.GetContentLength())
	}
	return resp, nil
}

// headersToProto returns headers as they travel, sorted by name so that equal headers are equal bytes.
func headersToProto(h http.Header) []*relayv1.Header {
	var out []*relayv1.Header
	for _, name := range slices.Sorted(maps.Keys(h)) {
		for _, value := range h[name] {
			out = append(out, &relayv1.Header{Name: name, Value: []byte(value)})
		}
	}
	return out
}

// headersFromProto returns headers as net/http has them. Names are made canonical, since the other side may not have.
func headersFromProto(headers []*relayv1.Header) http.Header {
	h := make(http.Header, len(headers))
	for _, p := range headers {
		h.Add(p.GetName(), string(p.GetValue()))
	}
	return h
}

// methods pairs the methods of a scrape with their numbers.
var methods = map[string]relayv1.ScrapeMethod{
	http.MethodGet:  relayv1.ScrapeMethod_SCRAPE_METHOD_GET,
	http.MethodHead: relayv1.ScrapeMethod_SCRAPE_METHOD_HEAD,
}

// methodFromProto returns the HTTP method; empty for one that is not known.
func methodFromProto(method relayv1.ScrapeMethod) string {
	for name, m := range methods {
		if m == method {
			return name
		}
	}
	return ""
}

// failures pairs the reasons that an agent gives with their numbers.
var failures = map[scrape.Reason]relayv1.ScrapeFailureReason{
	scrape.TargetUnknown:     relayv1.ScrapeFailureReason_SCRAPE_FAILURE_REASON_TARGET_UNKNOWN,
	scrape.TargetUnreachable: relayv1.ScrapeFailureReason_SCRAPE_FAILURE_REASON_TARGET_UNREACHABLE,
	scrape.TargetRedirects:   relayv1.ScrapeFailureReason_SCRAPE_FAILURE_REASON_TARGET_REDIRECTS,
	scrape.Timeout:           relayv1.ScrapeFailureReason_SCRAPE_FAILURE_REASON_TIMEOUT,
	scrape.BodyTooLarge:      relayv1.ScrapeFailureReason_SCRAPE_FAILURE_REASON_BODY_TOO_LARGE,
	scrape.AgentBusy:         relayv1.ScrapeFailureReason_SCRAPE_FAILURE_REASON_BUSY,
	scrape.Denied:            relayv1.ScrapeFailureReason_SCRAPE_FAILURE_REASON_DENIED,
	scrape.ParamsUnknown:     relayv1.ScrapeFailureReason_SCRAPE_FAILURE_REASON_PARAMS,
}

// FailureToProto returns a failed scrape as it travels.
func FailureToProto(err *scrape.Error) *relayv1.ScrapeFailure {
	return &relayv1.ScrapeFailure{Reason: failures[err.Reason], Message: err.Message}
}

// FailureFromProto returns a failed scrape. A reason that is not known counts as unreachable.
func FailureFromProto(p *relayv1.ScrapeFailure) *scrape.Error {
	for reason, number := range failures {
		if number == p.GetReason() {
			return &scrape.Error{Reason: reason, Message: Text(p.GetMessage())}
		}
	}
	return &scrape.Error{Reason: scrape.TargetUnreachable, Message: Text(p.GetMessage())}
}
