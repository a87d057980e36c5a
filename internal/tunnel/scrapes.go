package tunnel

import (
	"maps"
	"net/http"
	"slices"

	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/scrape"
)

// HeadersToProto returns headers as they travel, sorted by name so that equal headers are equal bytes.
func HeadersToProto(h http.Header) []*relayv1.Header {
	var out []*relayv1.Header
	for _, name := range slices.Sorted(maps.Keys(h)) {
		for _, value := range h[name] {
			out = append(out, &relayv1.Header{Name: name, Value: []byte(value)})
		}
	}
	return out
}

// HeadersFromProto returns headers as net/http has them. Names are made canonical, since the other side may not have.
func HeadersFromProto(headers []*relayv1.Header) http.Header {
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

// MethodToProto returns the number of an HTTP method; unspecified for one that is no scrape's.
func MethodToProto(method string) relayv1.ScrapeMethod { return methods[method] }

// MethodFromProto returns the HTTP method; empty for one that is not known.
func MethodFromProto(method relayv1.ScrapeMethod) string {
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
