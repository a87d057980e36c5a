package scrape

import (
	"mime"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
)

// ErrorHeader carries the [Reason] of an answer that is not the target's own.
const ErrorHeader = "X-Relay-Error"

// TimeoutHeader is how Prometheus says how long it will wait, in seconds.
const TimeoutHeader = "X-Prometheus-Scrape-Timeout-Seconds"

// hopByHop are the headers that concern one connection only (RFC 9110, section 7.6.1, and what proxies made of it).
// Content-Length is one of them here because it travels beside the headers.
var hopByHop = []string{
	"Connection", "Content-Length", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection", "Te",
	"Trailer", "Transfer-Encoding", "Upgrade",
}

// requestOnly are further headers of a scraper's request that its target must not see: credentials, which are for the
// relay, since the agent has those of its targets in its own configuration; and Id, by which other tunnels correlate.
var requestOnly = []string{"Authorization", "Cookie", "Expect", "Id", TimeoutHeader}

// answered are the headers of a target's answer that reach the scraper. An answer is data of somebody whom the relay does not know,
// below the relay's own address: cookies, places, links, policies and whatever else a browser or a client acts on would speak for
// the relay.
var answered = []string{"Cache-Control", "Content-Encoding", "Content-Type", "Etag", "Last-Modified", "Retry-After", "Vary"}

// maxAnsweredBytes bounds the values of one header of an answer. No honest one is near it; a longer one is left out.
const maxAnsweredBytes = 1 << 10

// expositionTypes are the media types that reach the scraper as they are.
var expositionTypes = []string{"text/plain", "application/openmetrics-text", "application/vnd.google.protobuf"}

// RequestHeader returns a copy of what a scraper sent, without all that must not reach the target.
func RequestHeader(h http.Header) http.Header {
	out := h.Clone()
	if out == nil {
		out = http.Header{}
	}
	for _, name := range hopByHop {
		delete(out, name)
	}
	for _, name := range requestOnly {
		delete(out, name)
	}
	deleteNamed(out, h)
	return out
}

// ResponseHeader returns those headers of a target's answer that reach the scraper. A Content-Type that is no exposition's, or that nobody
// can read, becomes text/plain; without one there is none.
func ResponseHeader(h http.Header) http.Header {
	out := make(http.Header, len(answered))
	for _, name := range answered {
		if values := h[name]; len(values) > 0 && sizeOf(values) <= maxAnsweredBytes {
			out[name] = slices.Clone(values)
		}
	}
	deleteNamed(out, h)
	if len(h["Content-Type"]) > 0 && !isExposition(out["Content-Type"]) {
		out["Content-Type"] = []string{"text/plain"}
	}
	return out
}

// deleteNamed takes the headers out that concern one connection because the sender said so.
func deleteNamed(out, sent http.Header) {
	for _, field := range sent["Connection"] {
		for name := range strings.SplitSeq(field, ",") {
			delete(out, textproto.CanonicalMIMEHeaderKey(textproto.TrimString(name)))
		}
	}
}

// sizeOf returns the bytes that the values of a header take, with what separates them.
func sizeOf(values []string) int {
	size := 0
	for _, v := range values {
		size += len(v) + len(", ")
	}
	return size
}

// isExposition reports whether the one Content-Type of an answer is that of an exposition.
func isExposition(types []string) bool {
	if len(types) != 1 {
		return false
	}
	mediaType, _, err := mime.ParseMediaType(types[0])
	return err == nil && slices.Contains(expositionTypes, mediaType)
}

// bodyPolicy lets a browser show an answer, and do nothing else with it.
const bodyPolicy = "sandbox; default-src 'none'; frame-ancestors 'none'"

// disarm sees to it that a browser takes an answer for nothing but data, whatever is in it.
func disarm(h http.Header) {
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", bodyPolicy)
}
