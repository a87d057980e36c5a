package client

import (
	"context"
	"io"
	"net/http"
	"testing"
	"time"
)

// A RunningScrape is one whose scraper has read some of its body and may read on.
type RunningScrape struct {
	Resp *http.Response
}

// BeginBody scrapes a body without end and reads some of it.
func BeginBody(t testing.TB, url string, timeout time.Duration) *RunningScrape {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout+Patience)
	t.Cleanup(cancel)
	resp, err := ScrapeRequest{URL: url, Timeout: timeout}.Open(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("scrape = %d %s", resp.StatusCode, resp.Header.Get("X-Relay-Error"))
	}
	s := &RunningScrape{resp}
	s.WantMore(t)
	return s
}

// WantMore reads more than what may be on its way.
func (s *RunningScrape) WantMore(t testing.TB) {
	t.Helper()
	if _, err := io.CopyN(io.Discard, s.Resp.Body, 16<<10); err != nil {
		t.Fatalf("reading on: %v", err)
	}
}

// WantBroken reads to the end, which must not be that of a whole body.
func (s *RunningScrape) WantBroken(t testing.TB, what string) {
	t.Helper()
	if n, err := io.Copy(io.Discard, s.Resp.Body); err == nil {
		t.Errorf("%s: the scrape ended as if it were whole, %d bytes later", what, n)
	}
}
