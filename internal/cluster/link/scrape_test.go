package link_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"pushrelay/internal/faultproxy"
	"pushrelay/internal/scrape"
)

func scrapeOf() *scrape.Request {
	return &scrape.Request{Agent: "site", Target: "t", Method: http.MethodGet, Header: http.Header{"Accept": {"text/plain"}}, MaxBodyBytes: 16 << 20, RawQuery: "a=b"}
}

// answer returns a scraper that answers with a body.
func answer(body io.Reader, length int64) func(context.Context, *scrape.Request) (*scrape.Response, error) {
	return func(context.Context, *scrape.Request) (*scrape.Response, error) {
		return &scrape.Response{Status: http.StatusOK, Header: http.Header{"Content-Type": {"text/plain; version=0.0.4"}}, ContentLength: length, Body: io.NopCloser(body)}, nil
	}
}

func refuse(reason scrape.Reason, message string) func(context.Context, *scrape.Request) (*scrape.Response, error) {
	return func(context.Context, *scrape.Request) (*scrape.Response, error) {
		return nil, &scrape.Error{Reason: reason, Message: message}
	}
}

// at makes a member ask others for the agent, in that order.
func (m *member) at(places ...string) *member {
	m.places.Store(&places)
	return m
}

func wantReason(t *testing.T, what string, err error, reason scrape.Reason, message string) {
	t.Helper()
	named, ok := errors.AsType[*scrape.Error](err)
	if !ok || named.Reason != reason || !strings.Contains(named.Message, message) {
		t.Errorf("%s: %v, want %s: %s", what, err, reason, message)
	}
}

// TestScrapeOverAnotherRelay: the request and the answer travel as they are, and so does why there is none.
func TestScrapeOverAnotherRelay(t *testing.T) {
	c := newCluster(t, "a", "b")
	a, b := c.members["a"], c.members["b"].at("a")
	body := bytes.Repeat([]byte("metric 1\n"), 600<<10)
	var got *scrape.Request
	a.local.scrape = func(ctx context.Context, r *scrape.Request) (*scrape.Response, error) {
		got = r
		return answer(bytes.NewReader(body), int64(len(body)))(ctx, r)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	resp, err := b.Scraper.Scrape(ctx, scrapeOf())
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(resp.Body); err != nil || !bytes.Equal(text, body) || resp.Status != 200 || resp.ContentLength != int64(len(body)) || resp.Header.Get("Content-Type") == "" {
		t.Errorf("%d bytes of %d, %v, status %d, length %d, %v", len(text), len(body), err, resp.Status, resp.ContentLength, resp.Header)
	}
	resp.Body.Close()
	if got.Agent != "site" || got.Target != "t" || got.Method != "GET" || got.Header.Get("Accept") != "text/plain" || got.RawQuery != "a=b" || got.MaxBodyBytes != 16<<20 {
		t.Errorf("the other relay is asked for %+v", got)
	}
	for _, reason := range []scrape.Reason{
		scrape.AgentOffline, scrape.AgentUnknown, scrape.AgentBusy, scrape.TargetUnknown, scrape.TargetGone, scrape.TargetUnreachable, scrape.TargetRedirects, scrape.ParamsUnknown,
		scrape.BodyTooLarge, scrape.Timeout, scrape.Draining, scrape.Denied,
	} {
		a.local.scrape = refuse(reason, "as the other one says")
		_, err := b.Scraper.Scrape(ctx, scrapeOf())
		wantReason(t, "refused", err, reason, "as the other one says")
	}
	r := scrapeOf()
	r.MaxBodyBytes = 10
	a.local.scrape = answer(strings.NewReader("more than ten bytes"), -1)
	if resp, err = b.Scraper.Scrape(ctx, r); err != nil {
		t.Fatal(err)
	}
	_, err = io.ReadAll(resp.Body)
	wantReason(t, "a larger body", err, scrape.BodyTooLarge, "larger than 10 bytes")
	resp.Body.Close()
	a.local.scrape = answer(io.MultiReader(strings.NewReader("begun"), broken{}), -1)
	if resp, err = b.Scraper.Scrape(ctx, scrapeOf()); err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	wantReason(t, "a body that breaks off", err, scrape.TargetUnreachable, "it broke")
	if string(text) != "begun" {
		t.Errorf("of it came %q", text)
	}
	resp.Body.Close()
}

// broken is a body that breaks off.
type broken struct{}

func (broken) Read([]byte) (int, error) {
	return 0, scrape.Errorf(scrape.TargetUnreachable, "it broke")
}

// TestScrapeStreams: no more of a body is held than flow control lets through, what comes first is there before the rest, and who gives up ends it at the
// other relay.
func TestScrapeStreams(t *testing.T) {
	c := newCluster(t, "a", "b")
	a, b := c.members["a"], c.members["b"].at("a")
	reader, writer := io.Pipe()
	ended := make(chan error, 1)
	a.local.scrape = func(ctx context.Context, r *scrape.Request) (*scrape.Response, error) {
		context.AfterFunc(ctx, func() { ended <- context.Cause(ctx); reader.CloseWithError(ctx.Err()) })
		return answer(reader, -1)(ctx, r)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	resp, err := b.Scraper.Scrape(ctx, scrapeOf())
	if err != nil {
		t.Fatal(err)
	}
	go writer.Write([]byte("first"))
	first := make([]byte, 5)
	if _, err := io.ReadFull(resp.Body, first); err != nil || string(first) != "first" {
		t.Errorf("before the rest comes: %q, %v", first, err)
	}
	resp.Body.Close()
	if err := <-ended; err == nil {
		t.Error("the scrape at the other relay does not end")
	}
	if _, err := resp.Body.Read(first); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("after Close: %v", err)
	}
}

// TestOtherRelaysTimeout: the other relay gives up first, and says why, unless a busy machine takes longer for that than the time that is left. It is a timeout either way.
func TestOtherRelaysTimeout(t *testing.T) {
	c := newCluster(t, "a", "b")
	c.members["a"].local.scrape = func(ctx context.Context, _ *scrape.Request) (*scrape.Response, error) {
		<-ctx.Done()
		return nil, scrape.Errorf(scrape.Timeout, "the target took too long, says a")
	}
	for range 20 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		_, err := c.members["b"].at("a").Scraper.Scrape(ctx, scrapeOf())
		cancel()
		wantReason(t, "too slow", err, scrape.Timeout, "")
		if err != nil && strings.Contains(err.Error(), "says a") {
			return
		}
	}
	t.Error("the other relay never says why there is no answer")
}

// TestNextPlace: where the agent is not, or nobody can be asked, the next relay is asked; and never by another relay than the one that was asked first.
func TestNextPlace(t *testing.T) {
	c := newCluster(t, "a", "b", "c", "dead", "d", "e")
	c.members["dead"].proxy.Set(faultproxy.Conditions{Refuse: true})
	a, b, third := c.members["a"], c.members["b"], c.members["c"]
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	good := answer(strings.NewReader(""), 0)
	a.at("c") // which it must not ask for others
	third.local.scrape = good
	for _, tt := range []struct {
		what   string
		here   func(context.Context, *scrape.Request) (*scrape.Response, error)
		places []string
		reason scrape.Reason // empty for an answer
		says   string
		asked  [3]int64 // a, b, c
	}{
		{"stale", nil, []string{"a", "c"}, "", "", [3]int64{1, 0, 1}},
		{"no connection", nil, []string{"dead", "c"}, "", "", [3]int64{0, 0, 1}},
		{"not a member any more", nil, []string{"nobody", "c"}, "", "", [3]int64{0, 0, 1}},
		{"too many are stale", nil, []string{"a", "d", "e", "c"}, scrape.AgentOffline, "is not here", [3]int64{1, 0, 0}},
		{"all are stale", nil, []string{"a"}, scrape.AgentOffline, "is not here", [3]int64{1, 0, 0}},
		{"nobody to be asked", nil, []string{"dead"}, scrape.AgentOffline, `has its session with member "dead", which cannot be asked`, [3]int64{0, 0, 0}},
		{"itself", nil, []string{"b"}, scrape.AgentOffline, "is not here", [3]int64{0, 1, 0}},
		{"nowhere", nil, nil, scrape.AgentOffline, "is not here", [3]int64{0, 1, 0}},
		{"here", good, []string{"c"}, "", "", [3]int64{0, 1, 0}},
		{"just gone from here", refuse(scrape.AgentOffline, "went away"), []string{"c"}, "", "", [3]int64{0, 1, 1}},
		{"the target says no", refuse(scrape.TargetUnreachable, "refused"), []string{"c"}, scrape.TargetUnreachable, "refused", [3]int64{0, 1, 0}},
	} {
		b.at(tt.places...)
		b.local.here.Store(tt.here != nil)
		b.local.scrape = tt.here
		for _, m := range c.members {
			m.local.asked.Store(0)
		}
		resp, err := b.Scraper.Scrape(ctx, scrapeOf())
		switch {
		case tt.reason != "":
			wantReason(t, tt.what, err, tt.reason, tt.says)
		case err != nil:
			t.Errorf("%s: %v", tt.what, err)
		default:
			resp.Body.Close()
		}
		if asked := [3]int64{a.local.asked.Load(), b.local.asked.Load(), third.local.asked.Load()}; asked != tt.asked {
			t.Errorf("%s: asked are %v, want %v", tt.what, asked, tt.asked)
		}
	}
}

// TestBrokenScrape: before an answer began it is tried over the other relay, and never after.
func TestBrokenScrape(t *testing.T) {
	c := newCluster(t, "a", "b", "c")
	a, b := c.members["a"], c.members["b"].at("a", "c")
	c.members["c"].local.scrape = answer(strings.NewReader("other"), -1)
	arrived := make(chan struct{}, 1)
	a.local.scrape = func(ctx context.Context, _ *scrape.Request) (*scrape.Response, error) {
		arrived <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	}
	go func() {
		<-arrived
		a.proxy.Cut(faultproxy.Reset)
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	resp, err := b.Scraper.Scrape(ctx, scrapeOf())
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(resp.Body); err != nil || string(text) != "other" {
		t.Errorf("%q, %v", text, err)
	}
	resp.Body.Close()
	reader, writer := io.Pipe()
	a.local.scrape = answer(reader, -1)
	if resp, err = b.Scraper.Scrape(ctx, scrapeOf()); err != nil {
		t.Fatal(err)
	}
	go writer.Write([]byte("x"))
	if _, err := io.ReadFull(resp.Body, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	a.proxy.Cut(faultproxy.Reset)
	_, err = io.ReadAll(resp.Body)
	wantReason(t, "in the midst", err, scrape.AgentOffline, `member "a" went away in the midst of the answer`)
	resp.Body.Close()
	writer.Close()
}
