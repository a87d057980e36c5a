package scrape_test

import (
	"net/http"
	"testing"

	"pushrelay/internal/scrape"
)

// TestRequestHeaderKeepsTargetsOut: a target learns of a scrape how to answer it, and what the scraper's owner adds for it; nothing of the way, of
// credentials, or that would make another request of it.
func TestRequestHeaderKeepsTargetsOut(t *testing.T) {
	for name, passes := range map[string]bool{
		"Accept": true, "Accept-Encoding": true, "Accept-Language": true, "Cache-Control": true, "If-None-Match": true, "Range": true, "User-Agent": true,
		"Traceparent": true, "X-Foo": true, "X-Scope-Orgid": true, "Originator": true, "X-Forward": true,

		"Connection": false, "Keep-Alive": false, "Te": false, "Trailer": false, "Transfer-Encoding": false, "Upgrade": false, "Http2-Settings": false, "X-Named": false,
		"Proxy-Authorization": false, "Proxy-Connection": false, "Content-Length": false, "Expect": false, "Id": false,
		"X-Prometheus-Scrape-Timeout-Seconds": false, // told anew

		"Forwarded": false, "Via": false, "X-Forwarded-For": false, "X-Forwarded-Proto": false, "X-Forwarded-User": false, "X-Forwarded-Host": false, "X-Forwarded-Prefix": false,
		"X-Real-Ip": false, "True-Client-Ip": false, "Client-Ip": false, "X-Client-Ip": false, "X-Cluster-Client-Ip": false, "Cf-Connecting-Ip": false, "X-Originating-Ip": false,
		"X-Remote-User": false, "Remote-User": false, "Remote-Groups": false, "X-Client-Cert": false, "Ssl-Client-Cert": false, "X-Ssl-Client-Dn": false, "X-Envoy-External-Address": false,

		"Authorization": false, "Cookie": false, "Cookie2": false, "X-Api-Key": false, "Apikey": false, "X-Auth-Request-User": false, "X-Auth-Token": false, "X-Access-Token": false,
		"X-Amz-Security-Token": false, "Cf-Access-Jwt-Assertion": false, "X-Goog-Iap-Jwt-Assertion": false, "X-Csrf-Token": false, "X-Password": false, "Session": false,

		"X-Original-Url": false, "X-Rewrite-Url": false, "X-Http-Method-Override": false, "X-Http-Method": false, "X-Method-Override": false,
		"X_forwarded_for": false, "X_foo": false, "AUTHORIZATION": false, "x-forwarded-for": false,
	} {
		sent := http.Header{"Connection": {"x-named"}}
		sent[name] = []string{"value"}
		got := scrape.RequestHeader(sent)
		if values := got[name]; (len(values) == 1) != passes {
			t.Errorf("%s: %q, want it passed on: %v", name, values, passes)
		}
		if sent[name] == nil {
			t.Errorf("%s was taken from the scraper's own", name)
		}
	}
}
