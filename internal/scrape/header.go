package scrape

import (
	"net/http"
	"net/textproto"
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

// responseOnly are further headers of a target's answer that the scraper must not see: the target cannot speak for the
// relay.
var responseOnly = []string{http.CanonicalHeaderKey(ErrorHeader), "X-Prometheus-Scrape-Timeout"}

// RequestHeader returns a copy of what a scraper sent, without all that must not reach the target.
func RequestHeader(h http.Header) http.Header { return endToEnd(h, requestOnly) }

// ResponseHeader returns a copy of what a target answered, without all that must not reach the scraper.
func ResponseHeader(h http.Header) http.Header { return endToEnd(h, responseOnly) }

func endToEnd(h http.Header, further []string) http.Header {
	out := h.Clone()
	if out == nil {
		out = http.Header{}
	}
	for _, field := range h["Connection"] {
		for name := range strings.SplitSeq(field, ",") {
			delete(out, textproto.CanonicalMIMEHeaderKey(textproto.TrimString(name)))
		}
	}
	for _, name := range hopByHop {
		delete(out, name)
	}
	for _, name := range further {
		delete(out, name)
	}
	return out
}
