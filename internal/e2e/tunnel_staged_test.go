//go:build linux

package e2e_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// A stage is how far a scrape is when something happens to it.
type stage string

const (
	idle      stage = "idle"      // no scrape at all
	requested stage = "requested" // the target was asked and has said nothing
	inBody    stage = "body"      // the scraper has read the first bytes
	atEnd     stage = "end"       // the target has sent all of the body, but not that it is all
)

// A stagedTarget is a target whose scrapes stay where they are: at /requested before the head, at /body behind the first
// lines, which go on slowly; at /end behind the last; at /metrics they end, at /flood they never do.
type stagedTarget struct {
	asked    chan struct{} // one for each scrape at /requested
	released chan struct{} // one for each scrape at /flood whose agent gave it up
}

const stagedBody = "staged 1\n"

func newStagedTarget() *stagedTarget {
	return &stagedTarget{asked: make(chan struct{}, 100), released: make(chan struct{}, 100)}
}

func (s *stagedTarget) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/requested":
		s.asked <- struct{}{}
		<-r.Context().Done()
	case "/body":
		trickle(w, r)
	case "/end":
		io.WriteString(w, strings.Repeat(stagedBody, 8<<10))
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	case "/flood":
		for text := strings.Repeat("flood 1\n", 8<<10); ; {
			if _, err := io.WriteString(w, text); err != nil {
				s.released <- struct{}{}
				return
			}
		}
	default:
		io.WriteString(w, stagedBody)
	}
}

// stagedPaths are the jobs of an agent that has a staged target.
var stagedPaths = []string{"metrics", "requested", "body", "end", "flood"}

// bytesOf is how much of a body its scraper has read at a stage. The rest of /end is in the relay's buffer.
var bytesOf = map[stage]int64{inBody: 5, atEnd: 64 << 10}

// A pending scrape is one that was brought to its stage. Its outcome comes when it ends.
type pending struct {
	outcome chan error // nil if it ended as if it were whole
}

// begin brings a scrape to a stage and returns when it is there.
func (s *stagedTarget) begin(t testing.TB, url func(path string) string, at stage, timeout time.Duration) *pending {
	t.Helper()
	p := &pending{outcome: make(chan error, 1)}
	begun := make(chan struct{})
	switch at {
	case idle:
		p.outcome <- errScrape
		return p
	case requested:
		begun = s.asked
	case inBody, atEnd:
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout+patience)
	go func() {
		defer cancel()
		resp, err := scrapeRequest{url: url(string(at)), timeout: timeout}.open(ctx)
		if err != nil {
			p.outcome <- err
			return
		}
		defer resp.Body.Close()
		if at != requested {
			if _, err := io.CopyN(io.Discard, resp.Body, bytesOf[at]); err == nil {
				close(begun)
			}
		}
		_, err = io.Copy(io.Discard, resp.Body)
		if err == nil && resp.StatusCode != http.StatusOK {
			err = fmt.Errorf("%w: %d %s", errScrape, resp.StatusCode, resp.Header.Get("X-Relay-Error"))
		}
		p.outcome <- err
	}()
	select {
	case <-begun:
	case err := <-p.outcome:
		t.Fatalf("the scrape did not get as far as %s: %v", at, err)
	case <-time.After(patience):
		t.Fatalf("the scrape never got as far as %s", at)
	}
	return p
}

// wantFailed waits until the scrape has ended, and not as if it were whole.
func (p *pending) wantFailed(t testing.TB, what string, until time.Time) {
	t.Helper()
	select {
	case err := <-p.outcome:
		if err == nil {
			t.Errorf("%s: the scrape ended as if it were whole", what)
		}
	case <-time.After(time.Until(until)):
		t.Errorf("%s: the scrape never ended", what)
	}
}
