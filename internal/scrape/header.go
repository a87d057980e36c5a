package scrape

import (
	"maps"
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

// wayNames and wayPrefixes begin the names of headers by which those on a request's way tell who asked and for what. Most are added by proxies,
// and anybody can send them: a target that believes the agent would believe them, and those that replace method or path would get around what
// the agent's file lists.
var (
	wayNames = []string{
		"client-ip", "forwarded", "front-end-https", "http2-settings", "true-client-ip", "via", "x-host", "x-method-override", "x-originating-ip", "x-scheme", "x-url-scheme",
	}
	wayPrefixes = []string{
		"cf-", "proxy-", "remote-", "ssl-", "x-client-", "x-cluster-client-", "x-envoy-", "x-forwarded-", "x-http-method", "x-original-", "x-real-", "x-remote-", "x-rewrite-", "x-ssl-",
	}
)

// secretParts are in the names of headers that hold credentials, whatever they are called where: those that a proxy adds for the relay
// are no more a target's business than the relay's password is.
var secretParts = []string{
	"access-key", "api-key", "apikey", "assertion", "auth", "cookie", "credential", "csrf", "jwt", "passw", "secret", "session", "signature", "token", "xsrf",
}

// isPrivate reports whether a header of a scraper's request is between it, the relay and those between them. So is one whose name has an underscore:
// to many targets it is the same as one with a hyphen, and nginx lets none through either.
func isPrivate(name string) bool {
	name = strings.ToLower(name)
	return strings.Contains(name, "_") || slices.Contains(wayNames, name) ||
		slices.ContainsFunc(wayPrefixes, func(prefix string) bool { return strings.HasPrefix(name, prefix) }) ||
		slices.ContainsFunc(secretParts, func(part string) bool { return strings.Contains(name, part) })
}

// requestOnly are further headers of a scraper's request that its target must not see, such as Id, by which other tunnels correlate.
var requestOnly = []string{"Expect", "Id", TimeoutHeader}

// answered are the headers of a target's answer that reach the scraper. An answer is data of somebody whom the relay does not know,
// below the relay's own address: cookies, places, links, policies and whatever else a browser or a client acts on would speak for
// the relay.
var answered = []string{"Cache-Control", "Content-Encoding", "Content-Type", "Etag", "Last-Modified", "Retry-After", "Vary"}

// maxAnsweredBytes bounds the values of one header of an answer. No honest one is near it; a longer one is left out.
const maxAnsweredBytes = 1 << 10

// expositionTypes are the media types that reach the scraper as they are.
var expositionTypes = []string{"text/plain", "application/openmetrics-text", "application/vnd.google.protobuf"}

// RequestHeader returns a copy of what a scraper sent, without all that must not reach the target: what concerns one connection, what proxies add,
// and credentials, which are for the relay, since the agent has those of its targets in its own configuration.
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
	maps.DeleteFunc(out, func(name string, _ []string) bool { return isPrivate(name) })
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
