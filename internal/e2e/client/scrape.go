package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A ScrapeRequest is what a scraper asks a relay.
type ScrapeRequest struct {
	Method  string // GET if empty
	URL     string
	Header  http.Header
	Timeout time.Duration // of the scraper, told in the header; 10 s if zero
	// proxy is the relay if it is asked as an HTTP proxy.
	Proxy string
}

// Open asks and returns the answer with its body unread. Whoever calls closes the body.
func (q ScrapeRequest) Open(ctx context.Context) (*http.Response, error) {
	if q.Method == "" {
		q.Method = http.MethodGet
	}
	if q.Timeout == 0 {
		q.Timeout = 10 * time.Second
	}
	req, err := http.NewRequestWithContext(ctx, q.Method, q.URL, nil)
	if err != nil {
		return nil, err
	}
	req.Header = q.Header.Clone()
	if req.Header == nil {
		req.Header = http.Header{}
	}
	if _, set := req.Header[TimeoutHeader]; !set {
		req.Header.Set(TimeoutHeader, strconv.FormatFloat(q.Timeout.Seconds(), 'f', -1, 64))
	}
	transport := &http.Transport{DisableKeepAlives: true, DisableCompression: true}
	if q.Proxy != "" {
		proxy, err := req.URL.Parse(q.Proxy)
		if err != nil {
			return nil, err
		}
		transport.Proxy = http.ProxyURL(proxy)
	}
	return transport.RoundTrip(req) // follows no redirect
}

// TimeoutHeader is how a scraper tells its timeout.
const TimeoutHeader = "X-Prometheus-Scrape-Timeout-Seconds"

// Do asks and reads the whole answer. The error says that there was none, or that it was broken off.
func (q ScrapeRequest) Do() (Response, error) {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	resp, err := q.Open(ctx)
	if err != nil {
		return Response{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return Response{Status: resp.StatusCode, Header: resp.Header, Body: string(body)}, err
}

// Scrape scrapes a URL of a relay within the scraper's default timeout.
func Scrape(url string) (Response, error) { return ScrapeRequest{URL: url}.Do() }

// ErrScrape is that a scrape was answered in another way than it should.
var ErrScrape = errors.New("scrape")

// WantScraped waits until a scrape brings a body.
func WantScraped(t testing.TB, within time.Duration, url, body string) {
	t.Helper()
	Eventually(t, within, "scrape of "+url, func() error { return ScrapedAs(url, body) })
}

// ScrapedAs scrapes once and says what is not as it should be.
func ScrapedAs(url, body string) error {
	got, err := Scrape(url)
	if err == nil && (got.Status != http.StatusOK || got.Body != body) {
		err = fmt.Errorf("%w: %d %s %s", ErrScrape, got.Status, got.Header.Get("X-Relay-Error"), Clip(got.Body))
	}
	return err
}

// WantReason checks that a scrape failed with a reason of the relay's.
func WantReason(t testing.TB, got Response, err error, status int, reason string) {
	t.Helper()
	if err != nil || got.Status != status || got.Header.Get("X-Relay-Error") != reason {
		t.Errorf("scrape = %d %q %s, %v, want %d with X-Relay-Error: %s",
			got.Status, got.Header.Get("X-Relay-Error"), Clip(got.Body), err, status, reason)
	}
	if strings.Count(strings.TrimSpace(got.Body), "\n") != 0 || got.Body == "" {
		t.Errorf("the reason is not one line: %q", Clip(got.Body))
	}
}

// WantAborted checks that an answer began and cannot be taken for whole.
func WantAborted(t testing.TB, got Response, err error) {
	t.Helper()
	if err == nil {
		t.Errorf("scrape = %d with a whole body of %d bytes, want the connection broken off", got.Status, len(got.Body))
	}
}

// Clip returns the beginning of a long text.
func Clip(s string) string { return s[:min(len(s), 200)] }
