//go:build linux

package hostile_test

import (
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	relayv1 "pushrelay/internal/gen/relay/v1"
)

// welcomeOf is a welcome that takes pushes, with these limits.
func welcomeOf(limits *relayv1.Limits) *relayv1.Welcome {
	return &relayv1.Welcome{
		Session: 1, StoreId: make([]byte, 16), Limits: limits,
		Capabilities: []relayv1.Capability{relayv1.Capability_CAPABILITY_PUSH, relayv1.Capability_CAPABILITY_PUSH_ORIGIN, relayv1.Capability_CAPABILITY_SCRAPE},
	}
}

func endOf(after *durationpb.Duration) *relayv1.AttachResponse {
	return &relayv1.AttachResponse{Event: &relayv1.AttachResponse_End{End: &relayv1.SessionEnd{RetryAfter: after, Message: strings.Repeat("x", 10<<10)}}}
}

// push pushes at the agent, as a program on its machine does.
func (a *realAgent) push(job, body string) (status int, text string) {
	a.t.Helper()
	resp, err := client.Post(a.url+"/metrics/job/"+job, "text/plain", strings.NewReader(body))
	if err != nil {
		a.t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	return resp.StatusCode, string(answer)
}

// TestRelayThatSendsAgentsAway: a relay whose delays overflow does not have the agent dial all the time, nor fill its log; and its limits end
// with its session.
func TestRelayThatSendsAgentsAway(t *testing.T) {
	e := startEvil(t)
	e.welcome, e.after = welcomeOf(&relayv1.Limits{MaxSeries: 1}), []*relayv1.AttachResponse{endOf(&durationpb.Duration{Seconds: -math.MaxInt32})}
	a := startAgent(t, e.address, e.agent, "scrape_configs: []")
	const watched = 12 * time.Second
	begun := time.Now()
	for pushes := 0; time.Since(begun) < watched; pushes++ {
		status, text := a.push(fmt.Sprint("j", pushes%3), "m 1\nn 1\n")
		if status != http.StatusAccepted && !strings.Contains(text, "more than 1 series") { // in the moment of a session
			t.Errorf("a push between sessions is answered %d %q", status, text)
		}
		<-time.After(100 * time.Millisecond)
	}
	var attached int
	e.do(func() { attached = e.attached })
	if attached < 2 || attached > 12 {
		t.Errorf("the agent attached %d times in %s", attached, watched)
	}
	log, err := os.Stat(a.log)
	if err != nil {
		t.Fatal(err)
	}
	if log.Size() > 64<<10 || strings.Count(a.logged(), "breaks the protocol") != 1 {
		t.Errorf("the agent's log has %d bytes:\n%s", log.Size(), tail(a.logged()))
	}
	t.Logf("attached %d times, %d bytes of log", attached, log.Size())

	// It stays now, and wants everything later at once.
	e.do(func() {
		e.welcome, e.after, e.changes = welcomeOf(nil), nil, 0
		e.later = &relayv1.Later{RetryAfter: durationpb.New(1)}
	})
	eventually(t, "changes came", func() (came bool) {
		e.do(func() { came = e.changes > 10 }) // of an earlier session a few may come as well
		return came
	})
	var before, after int
	e.do(func() { before = e.changes })
	<-time.After(3 * time.Second)
	e.do(func() { after = e.changes })
	if sent := after - before; sent == 0 || sent > 3*3*11 { // three groups, ten times a second each
		t.Errorf("the agent sent %d changes in 3 s", sent)
	}
	if status, text := a.push("late", "m 1\n"); status != http.StatusAccepted || !strings.Contains(text, "later") {
		t.Errorf("a push that the relay wants later is answered %d %q", status, text)
	}
}

// TestRelayThatAsksForMore: a relay gets of targets what the agent's file lists, whatever it asks for.
func TestRelayThatAsksForMore(t *testing.T) {
	e := startEvil(t)
	h := newHouse(t)
	target := "locked-" + h.address()
	e.welcome = welcomeOf(nil)
	var scrapes uint64
	ask := func(r *relayv1.ScrapeRequest) {
		scrapes++
		r.Scrape, r.Target = scrapes, target
		if r.Timeout == nil {
			r.Timeout = durationpb.New(5 * time.Second)
		}
		e.after = append(e.after, &relayv1.AttachResponse{Event: &relayv1.AttachResponse_Scrape{Scrape: r}})
	}
	const get = relayv1.ScrapeMethod_SCRAPE_METHOD_GET
	for _, path := range []string{"/admin", "/metrics/../admin", "//metrics", "/%6detrics", "/metrics/", "http://127.0.0.1:1/", "@127.0.0.1:1/metrics", "admin", "/metrics?x=1", "/metrics\r\nX: y"} {
		ask(&relayv1.ScrapeRequest{Method: get, Path: path})
	}
	ask(&relayv1.ScrapeRequest{Method: get, Path: "/metrics", RawQuery: "delete=all"})
	ask(&relayv1.ScrapeRequest{Method: get, RawQuery: "delete=all"})
	ask(&relayv1.ScrapeRequest{Method: 77})
	refused := int(scrapes)
	ask(&relayv1.ScrapeRequest{Method: get})
	startAgent(t, e.address, e.agent, fmt.Sprintf("scrape_configs: [{job_name: locked, basic_auth: {username: u, password: stored}, static_configs: [{targets: [%q]}]}]", h.address())).attached()
	eventually(t, "all scrapes are answered", func() (all bool) {
		e.do(func() { all = len(e.failures) == refused && e.scraped == 1 })
		return all
	})
	e.do(func() {
		for _, failure := range e.failures {
			if reason := failure.GetReason(); reason != relayv1.ScrapeFailureReason_SCRAPE_FAILURE_REASON_DENIED && reason != relayv1.ScrapeFailureReason_SCRAPE_FAILURE_REASON_PARAMS {
				t.Errorf("a scrape fails with %v", failure)
			}
		}
	})
	if asked := h.take(); len(asked) != 1 || asked["/metrics"] != "stored" {
		t.Errorf("the target was asked for %v", asked)
	}
}
