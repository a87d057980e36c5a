package exporter

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"pushrelay/internal/e2e/client"
)

// A Stage is how far a scrape is when something happens to it.
type Stage string

// The stages of a scrape.
const (
	Idle      Stage = "idle"      // no scrape at all
	Requested Stage = "requested" // the target was asked and has said nothing
	InBody    Stage = "body"      // the scraper has read the first bytes
	AtEnd     Stage = "end"       // the target has sent all of the body, but not that it is all
)

// A Staged is a target whose scrapes stay where they are: at /requested before the head, at /body behind the first
// lines, which go on slowly; at /end behind the last; at /metrics they end, at /flood they never do.
type Staged struct {
	asked    chan struct{} // one for each scrape at /requested
	Released chan struct{} // one for each scrape at /flood whose agent gave it up
}

// StagedBody is what [Staged] serves whole.
const StagedBody = "staged 1\n"

// NewStaged returns a target that nobody has asked yet.
func NewStaged() *Staged {
	return &Staged{asked: make(chan struct{}, 100), Released: make(chan struct{}, 100)}
}

func (s *Staged) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/requested":
		s.asked <- struct{}{}
		<-r.Context().Done()
	case "/body":
		Trickle(w, r)
	case "/end":
		io.WriteString(w, strings.Repeat(StagedBody, 8<<10))
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	case "/flood":
		for text := strings.Repeat("flood 1\n", 8<<10); ; {
			if _, err := io.WriteString(w, text); err != nil {
				s.Released <- struct{}{}
				return
			}
		}
	default:
		io.WriteString(w, StagedBody)
	}
}

// StagedPaths are the jobs of an agent that has a staged target.
var StagedPaths = []string{"metrics", "requested", "body", "end", "flood"}

// bytesOf is how much of a body its scraper has read at a stage. The rest of /end is in the relay's buffer.
var bytesOf = map[Stage]int64{InBody: 5, AtEnd: 64 << 10}

// A Pending scrape is one that was brought to its stage. Its outcome comes when it ends.
type Pending struct {
	outcome chan error // nil if it ended as if it were whole
}

// Begin brings a scrape to a stage and returns when it is there.
func (s *Staged) Begin(t testing.TB, url func(path string) string, at Stage, timeout time.Duration) *Pending {
	t.Helper()
	p := &Pending{outcome: make(chan error, 1)}
	begun := make(chan struct{})
	switch at {
	case Idle:
		p.outcome <- client.ErrScrape
		return p
	case Requested:
		begun = s.asked
	case InBody, AtEnd:
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout+client.Patience)
	go func() {
		defer cancel()
		resp, err := client.ScrapeRequest{URL: url(string(at)), Timeout: timeout}.Open(ctx)
		if err != nil {
			p.outcome <- err
			return
		}
		defer resp.Body.Close()
		if at != Requested {
			if _, err := io.CopyN(io.Discard, resp.Body, bytesOf[at]); err == nil {
				close(begun)
			}
		}
		_, err = io.Copy(io.Discard, resp.Body)
		if err == nil && resp.StatusCode != http.StatusOK {
			err = fmt.Errorf("%w: %d %s", client.ErrScrape, resp.StatusCode, resp.Header.Get("X-Relay-Error"))
		}
		p.outcome <- err
	}()
	select {
	case <-begun:
	case err := <-p.outcome:
		t.Fatalf("the scrape did not get as far as %s: %v", at, err)
	case <-time.After(client.Patience):
		t.Fatalf("the scrape never got as far as %s", at)
	}
	return p
}

// WantFailed waits until the scrape has ended, and not as if it were whole.
func (p *Pending) WantFailed(t testing.TB, what string, until time.Time) {
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
