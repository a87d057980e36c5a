package tunnel_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"pushrelay/internal/authority"
	"pushrelay/internal/change"
	"pushrelay/internal/grouping"
	"pushrelay/internal/scrape"
)

func TestScrapeCrossesTheTunnel(t *testing.T) {
	h := newHouse(t, pusherFunc(noPushes))
	want := bytes.Repeat([]byte("metric 1\n"), 100_000)
	var seen scrape.Request
	h.attach("site", scraperFunc(func(_ context.Context, r *scrape.Request) (*scrape.Response, error) {
		seen = *r
		header := http.Header{"Vary": {"a", "b"}, "Connection": {"X-Hop"}, "X-Hop": {"1"}, "Content-Type": {"text/plain"}}
		return &scrape.Response{Status: 203, Header: header, ContentLength: int64(len(want)), Body: io.NopCloser(bytes.NewReader(want))}, nil
	}))
	ctx := timeout(t, 10*time.Second)
	resp, err := h.registry.Scrape(ctx, &scrape.Request{
		Agent: "site", Target: "t", Method: http.MethodGet, Header: http.Header{"Accept": {"x", "y"}}, MaxBodyBytes: 1 << 20,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || !bytes.Equal(body, want) {
		t.Fatalf("body has %d bytes and error %v, want %d and none", len(body), err, len(want))
	}
	if resp.Status != 203 || resp.ContentLength != int64(len(want)) || len(resp.Header["Vary"]) != 2 || resp.Header.Get("X-Hop") != "" {
		t.Errorf("head = %d, %d, %v", resp.Status, resp.ContentLength, resp.Header)
	}
	if seen.Target != "t" || seen.Method != http.MethodGet || len(seen.Header["Accept"]) != 2 || seen.MaxBodyBytes != 1<<20 {
		t.Errorf("the agent was asked %+v", seen)
	}
}

// broken is a body that ends with an error.
type broken struct{ io.Reader }

func (b broken) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func (broken) Close() error { return nil }

func TestBodyThatEndsEarlyIsNeverWhole(t *testing.T) {
	h := newHouse(t, pusherFunc(noPushes))
	h.attach("site", answer(broken{strings.NewReader("metric 1\n")}))
	_, body, err := h.scrape(timeout(t, 10*time.Second), "site")
	if err == nil {
		t.Fatalf("a body that the target cut off was read as whole: %q", body)
	}
	if got := scrape.AsError(t.Context(), err).Reason; got != scrape.TargetUnreachable {
		t.Errorf("reason = %s, want %s", got, scrape.TargetUnreachable)
	}
}

// stuck is a body that brings its first bytes and then nothing until it is closed.
type stuck struct {
	first  io.Reader
	closed chan struct{}
	once   sync.Once
}

func newStuck() *stuck {
	return &stuck{first: strings.NewReader("metric 1\n"), closed: make(chan struct{})}
}

func (s *stuck) Read(p []byte) (int, error) {
	if n, _ := s.first.Read(p); n > 0 {
		return n, nil
	}
	<-s.closed
	return 0, errors.New("closed")
}

func (s *stuck) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}

func TestAgentThatDiesMidBodyAbortsTheScrape(t *testing.T) {
	h := newHouse(t, pusherFunc(noPushes))
	body := newStuck()
	_, stop := h.attach("site", scraperFunc(func(ctx context.Context, r *scrape.Request) (*scrape.Response, error) {
		context.AfterFunc(ctx, func() { body.Close() })
		return answer(body)(ctx, r)
	}))
	ctx := timeout(t, 10*time.Second)
	resp, err := h.registry.Scrape(ctx, &scrape.Request{Agent: "site", Target: "t", Method: http.MethodGet})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	first := make([]byte, 9)
	if _, err := io.ReadFull(resp.Body, first); err != nil {
		t.Fatal(err)
	}
	stop()
	rest, err := io.ReadAll(resp.Body)
	if err == nil {
		t.Fatalf("the body ended as if it were whole, with %q", rest)
	}
	if got := scrape.AsError(ctx, err).Reason; got != scrape.AgentOffline {
		t.Errorf("the body ended with %v, want %s", err, scrape.AgentOffline)
	}
	_, _, err = h.scrape(ctx, "site")
	if got := scrape.AsError(ctx, err).Reason; got != scrape.AgentOffline {
		t.Errorf("a scrape of an agent that is gone: %v, want %s", err, scrape.AgentOffline)
	}
}

func TestScrapeThatNobodyWaitsForEndsAtTheTarget(t *testing.T) {
	for _, when := range []string{"before the head", "in the body", "in the body of a later one"} {
		t.Run(when, func(t *testing.T) {
			h := newHouse(t, pusherFunc(noPushes))
			asked, ended := make(chan struct{}), make(chan struct{})
			body := newStuck()
			earlier := make(chan struct{}, 1)
			h.attach("site", scraperFunc(func(ctx context.Context, r *scrape.Request) (*scrape.Response, error) {
				select {
				case <-earlier:
					return answer(io.NopCloser(strings.NewReader("metric 1\n")))(ctx, r)
				default:
				}
				context.AfterFunc(ctx, func() { body.Close(); close(ended) })
				close(asked)
				if when == "before the head" {
					<-ctx.Done()
					return nil, ctx.Err()
				}
				return answer(body)(ctx, r)
			}))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if when == "in the body of a later one" {
				earlier <- struct{}{}
				if _, _, err := h.scrape(ctx, "site"); err != nil {
					t.Fatal(err)
				}
			}
			var scraping sync.WaitGroup
			inBody := make(chan struct{})
			scraping.Go(func() {
				resp, err := h.registry.Scrape(ctx, &scrape.Request{Agent: "site", Target: "t", Method: http.MethodGet, Header: http.Header{}})
				if err != nil {
					return
				}
				defer resp.Body.Close()
				if _, err := resp.Body.Read(make([]byte, 1)); err == nil {
					close(inBody)
				}
				io.Copy(io.Discard, resp.Body)
			})
			<-asked
			if when != "before the head" {
				<-inBody
			}
			cancel()
			scraping.Wait()
			select {
			case <-ended:
			case <-time.After(10 * time.Second):
				t.Error("the agent still asks the target")
			}
		})
	}
}

func TestScrapeFailuresHaveReasons(t *testing.T) {
	h := newHouse(t, pusherFunc(noPushes))
	fail := make(chan error, 1)
	h.attach("site", scraperFunc(func(ctx context.Context, _ *scrape.Request) (*scrape.Response, error) {
		if err := <-fail; err != nil {
			return nil, err
		}
		<-ctx.Done()
		return nil, ctx.Err()
	}))
	for _, tt := range []struct {
		name          string
		agent, target string
		agentSays     error
		timeout       time.Duration
		want          scrape.Reason
	}{
		{name: "unknown agent", agent: "nobody", target: "t", want: scrape.AgentUnknown},
		{name: "unknown target", agent: "site", target: "u", want: scrape.TargetUnknown},
		{name: "refused connection", agent: "site", target: "t", agentSays: errors.New("connection refused"), want: scrape.TargetUnreachable},
		{name: "too large", agent: "site", target: "t", agentSays: scrape.Errorf(scrape.BodyTooLarge, "x"), want: scrape.BodyTooLarge},
		{name: "denied", agent: "site", target: "t", agentSays: scrape.Errorf(scrape.Denied, "x"), want: scrape.Denied},
		{name: "timeout", agent: "site", target: "t", timeout: 50 * time.Millisecond, want: scrape.Timeout},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.agent == "site" && tt.target == "t" {
				fail <- tt.agentSays
			}
			if tt.timeout == 0 {
				tt.timeout = 10 * time.Second
			}
			ctx := timeout(t, tt.timeout)
			_, err := h.registry.Scrape(ctx, &scrape.Request{Agent: tt.agent, Target: tt.target, Method: http.MethodGet})
			if got := scrape.AsError(ctx, err).Reason; got != tt.want {
				t.Errorf("Scrape() = %v, want %s", err, tt.want)
			}
		})
	}
}

func TestSlowScrapeHoldsBackNoOther(t *testing.T) {
	h := newHouse(t, pusherFunc(noPushes))
	slow := newStuck()
	t.Cleanup(func() { slow.Close() })
	first := make(chan struct{}, 1)
	first <- struct{}{}
	h.attach("site", scraperFunc(func(ctx context.Context, r *scrape.Request) (*scrape.Response, error) {
		select {
		case <-first:
			context.AfterFunc(ctx, func() { slow.Close() })
			return answer(slow)(ctx, r)
		default:
			return answer(io.NopCloser(strings.NewReader("fast 1\n")))(ctx, r)
		}
	}))
	ctx := timeout(t, 20*time.Second)
	held, err := h.registry.Scrape(ctx, &scrape.Request{Agent: "site", Target: "t", Method: http.MethodGet})
	if err != nil {
		t.Fatal(err)
	}
	defer held.Body.Close()
	for range 20 {
		if _, body, err := h.scrape(ctx, "site"); err != nil || string(body) != "fast 1\n" {
			t.Fatalf("scrape beside a slow one = %q, %v", body, err)
		}
	}
}

func TestPushCrossesTheTunnel(t *testing.T) {
	var mu sync.Mutex
	bodies := map[string]string{}
	h := newHouse(t, pusherFunc(func(_ context.Context, r *change.Change) (change.Outcome, error) {
		if r.Key.Job() == "bad" {
			return change.Outcome{}, change.Refuse(change.Inconsistent, "does not fit")
		}
		if r.Refused != nil {
			return change.Outcome{}, r.Refused
		}
		mu.Lock()
		defer mu.Unlock()
		bodies[r.Agent+"/"+r.Operation.String()+"/"+r.Key.Job()] = string(r.Body)
		return change.Outcome{Kind: change.Applied}, nil
	}))
	link, _ := h.attach("site", scraperFunc(nil))
	key := func(job string) grouping.Key {
		return must[grouping.Key](t)(grouping.New(grouping.Label{Name: "job", Value: job}))
	}
	large := "# HELP m " + strings.Repeat("x", 200_000) + "\nm 1\n"
	for _, r := range []*change.Change{
		{Operation: change.Replace, Key: key("a"), Body: []byte("m 1\n"), At: time.Now()},
		{Operation: change.Merge, Key: key("b"), Body: []byte(large), At: time.Now()},
		{Operation: change.Delete, Key: key("c"), At: time.Now()},
	} {
		result, err := outcome(link.spool.Apply(timeout(t, 10*time.Second), r))
		if err != nil || result.Kind != change.Applied {
			t.Errorf("Push(%s %s) = %v, %v", r.Operation, r.Key, result, err)
		}
	}
	if bodies["site/replace/a"] != "m 1\n" || bodies["site/merge/b"] != large {
		t.Error("bodies did not arrive as they were pushed")
	}
	if _, ok := bodies["site/delete/c"]; !ok {
		t.Error("the delete did not arrive")
	}
	err := link.spool.Apply(timeout(t, 10*time.Second), &change.Change{Operation: change.Replace, Key: key("bad"), At: time.Now()}).Err()
	if !errors.Is(err, change.Inconsistent) || err.Error() != "does not fit" {
		t.Errorf("a refused push = %v, want the relay's own words and kind", err)
	}
	err = link.spool.Apply(timeout(t, 10*time.Second), &change.Change{Operation: change.Replace, Key: key("huge"), Body: make([]byte, 2<<20), At: time.Now()}).Err()
	if !errors.Is(err, change.TooLarge) {
		t.Errorf("a push over the limit = %v, want %v", err, change.TooLarge)
	}
	if err := link.spool.Apply(timeout(t, 10*time.Second), &change.Change{Operation: change.Replace, Key: key("after"), At: time.Now()}).Err(); err != nil {
		t.Errorf("a push after refused ones = %v", err)
	}
}

func TestPushesOfOneGroupKeepTheirOrder(t *testing.T) {
	var mu sync.Mutex
	var order []string
	h := newHouse(t, pusherFunc(func(_ context.Context, r *change.Change) (change.Outcome, error) {
		mu.Lock()
		defer mu.Unlock()
		order = append(order, string(r.Body))
		return change.Outcome{Kind: change.Applied}, nil
	}))
	link, _ := h.attach("site", scraperFunc(nil))
	key := must[grouping.Key](t)(grouping.New(grouping.Label{Name: "job", Value: "j"}))
	for i := range 200 {
		if err := link.spool.Apply(timeout(t, 10*time.Second), &change.Change{Operation: change.Replace, Key: key, Body: fmt.Appendf(nil, "m %d\n", i), At: time.Now()}).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for i, body := range order {
		if body != fmt.Sprintf("m %d\n", i) {
			t.Fatalf("push %d took effect as number %d", i, i)
		}
	}
}

func TestNewestSessionWins(t *testing.T) {
	h := newHouse(t, pusherFunc(noPushes))
	old, _ := h.attach("site", answer(io.NopCloser(strings.NewReader("old\n"))))
	h.attach("site", answer(io.NopCloser(strings.NewReader("new\n"))))
	eventually(t, "the old session ends", func() bool { return !old.Status().Connected })
	if !strings.Contains(old.Status().LastError, "same identity attached again") {
		t.Errorf("the old agent was told %q", old.Status().LastError)
	}
	if _, body, err := h.scrape(timeout(t, 10*time.Second), "site"); err != nil || string(body) != "new\n" {
		t.Errorf("scrape = %q, %v, want that of the newest session", body, err)
	}
}

func TestDrainLetsScrapesFinish(t *testing.T) {
	h := newHouse(t, pusherFunc(noPushes))
	reader, writer := io.Pipe()
	link, _ := h.attach("site", answer(reader))
	ctx := timeout(t, 20*time.Second)
	var body []byte
	var scrapeErr error
	var scraping sync.WaitGroup
	scraping.Go(func() { _, body, scrapeErr = h.scrape(ctx, "site") })
	writer.Write([]byte("half "))
	h.registry.Drain()
	var draining sync.WaitGroup
	draining.Go(func() { h.server.Drain(ctx) })
	_, _, err := h.scrape(ctx, "site")
	if got := scrape.AsError(ctx, err).Reason; got != scrape.Draining {
		t.Errorf("a new scrape while draining = %v, want %s", err, scrape.Draining)
	}
	writer.Write([]byte("whole\n"))
	writer.Close()
	scraping.Wait()
	if scrapeErr != nil || string(body) != "half whole\n" {
		t.Errorf("the scrape in flight = %q, %v", body, scrapeErr)
	}
	draining.Wait()
	eventually(t, "the agent knows", func() bool { return strings.Contains(link.Status().LastError, "relay is stopping") })
}

// An agent whose certificate the relay refuses learns it with the first read, after its own handshake is done.
func TestRefusedAgentIsToldWhy(t *testing.T) {
	h := newHouse(t, pusherFunc(noPushes))
	other := must[*authority.Authority](t)(authority.Create(filepath.Join(t.TempDir(), "other"), authority.Config{TrustDomain: "elsewhere"}))
	link, _ := h.start(other, "site", scraperFunc(nil))
	eventually(t, "the agent knows", func() bool { return link.Status().LastError != "" })
	if got := link.Status().LastError; !strings.Contains(got, "relay refused this agent") {
		t.Errorf("the agent says %q", got)
	}
	if known := h.registry.Agents(); len(known) != 0 {
		t.Errorf("the relay knows %+v", known)
	}
}
