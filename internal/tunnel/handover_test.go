package tunnel_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"pushrelay/internal/authority"
	"pushrelay/internal/change"
	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/grouping"
	"pushrelay/internal/scrape"
	"pushrelay/internal/tunnel"
)

// decidingStore is a push.Applier that decides as a store does: not for a session that is over, and each change of an origin once.
type decidingStore struct {
	journals *journals
	took     time.Duration // of a decision

	mu      sync.Mutex
	applied map[string]int         // guarded by mu; how often each body took effect
	decided map[change.Origin]bool // guarded by mu
}

func (s *decidingStore) Apply(_ context.Context, r *change.Change) change.Outcome {
	time.Sleep(s.took)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !r.Current() {
		return *change.Refuse(change.NotCurrent, "the session is over")
	}
	if s.decided[*r.Origin] {
		return change.Outcome{Kind: change.Applied, Duplicate: true}
	}
	s.decided[*r.Origin] = true
	s.applied[string(r.Body)]++
	s.journals.mu.Lock()
	defer s.journals.mu.Unlock()
	if known := s.journals.decided["site"]; r.Origin.Sequence > known.Decided {
		s.journals.decided["site"] = tunnel.JournalState{Journal: r.Origin.Journal, Decided: r.Origin.Sequence, Digest: r.Origin.Digest}
	}
	return change.Outcome{Kind: change.Applied}
}

// renew replaces the agent's certificate by another one.
func (h *house) renew(name string, link *dialled) {
	h.t.Helper()
	issued := must[authority.Issued](h.t)(h.authority.IssueAgent(name))
	err := os.WriteFile(filepath.Join(link.dir, "agent.key"), issued.KeyPEM, 0o600)
	if err = errors.Join(err, os.WriteFile(filepath.Join(link.dir, "agent.crt"), issued.CertPEM, 0o600)); err != nil {
		h.t.Fatal(err)
	}
}

// serial is that of the certificate with which the agent's current session was opened.
func (h *house) serial(name string) string {
	for _, a := range h.registry.Agents() {
		if a.Name == name {
			return a.CertificateSerial
		}
	}
	return ""
}

// TestHandOvers: over many certificates no scrape fails, however many are under way, no push is lost or applied twice, each is answered well, and nobody is told
// of a conflict.
func TestHandOvers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(10 * time.Millisecond)
		t.Cleanup(n.pumps.Wait)
		t.Cleanup(func() { n.Close() })
		store := &decidingStore{took: 2 * time.Millisecond, applied: map[string]int{}, decided: map[change.Origin]bool{}}
		h := newHouseAt(t, store, n)
		store.journals, h.dial, h.agentLog = h.journals, n.Dial, &logLines{}
		body := bytes.Repeat([]byte("metric 1\n"), 3000)
		link, _ := h.start(h.authority, "site", scraperFunc(func(ctx context.Context, _ *scrape.Request) (*scrape.Response, error) {
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-time.After(rand.N(300 * time.Millisecond)):
			}
			return &scrape.Response{Status: 200, Header: http.Header{}, ContentLength: -1, Body: io.NopCloser(bytes.NewReader(body))}, nil
		}))
		waitFor(t, "attached", 5*time.Second, func() bool { return link.Status().Connected && h.connected("site") })

		ctx, cancel := context.WithCancel(t.Context())
		var busy sync.WaitGroup
		var mu sync.Mutex
		scrapes, pushes := 0, 0
		for range 3 {
			busy.Go(func() {
				for ctx.Err() == nil {
					resp, got, err := h.scrape(timeout(t, 10*time.Second), "site")
					if err != nil || resp.Status != 200 || !bytes.Equal(got, body) {
						t.Errorf("at %v: a scrape failed: %d bytes, %v", time.Now(), len(got), err)
						return
					}
					mu.Lock()
					scrapes++
					mu.Unlock()
					time.Sleep(rand.N(20 * time.Millisecond))
				}
			})
		}
		for i := range 3 {
			key := must[grouping.Key](t)(grouping.New(grouping.Label{Name: "job", Value: fmt.Sprint(i)}))
			busy.Go(func() {
				for number := 0; ctx.Err() == nil; number++ {
					text := fmt.Sprintf("m{job=%q} %d\n", fmt.Sprint(i), number)
					o := link.spool.Apply(t.Context(), &change.Change{Operation: change.Replace, Key: key, Body: []byte(text), At: time.Now()})
					if o.Kind != change.Applied {
						t.Errorf("at %v: a push is answered %v: %s", time.Now(), o.Kind, o.Detail)
					}
					store.mu.Lock()
					if times := store.applied[text]; times != 1 {
						t.Errorf("at %v: a push was applied %d times", time.Now(), times)
					}
					store.mu.Unlock()
					mu.Lock()
					pushes++
					mu.Unlock()
					time.Sleep(rand.N(200 * time.Millisecond))
				}
			})
		}
		const renewals = 4
		since := link.Status().Since
		for range renewals {
			before := h.serial("site")
			h.renew("site", link)
			waitFor(t, "handed over", 3*time.Minute, func() bool { return h.serial("site") != before })
		}
		cancel()
		busy.Wait()
		time.Sleep(3 * time.Minute) // whatever lingers is over
		if st := link.Status(); !st.Connected || !st.Since.Equal(since) {
			t.Errorf("the link was away: %+v", st)
		}
		if got := h.endedFor("superseded"); got != renewals {
			t.Errorf("%v sessions were superseded, want %d", got, renewals)
		}
		if lines := h.agentLog.with("session goes on with another certificate"); len(lines) != renewals {
			t.Errorf("the agent's log: %q", lines)
		}
		for _, told := range [][]string{h.log.with("taken over"), h.agentLog.with("level=WARN")} {
			if len(told) > 0 {
				t.Errorf("a log says %q", told)
			}
		}
		if h.registry.Agents()[0].Conflict {
			t.Error("the relay sees a conflict")
		}
		t.Logf("%d scrapes and %d pushes over %d hand-overs", scrapes, pushes, renewals)
	})
}

// TestHandOverThatFails: the session goes on with the earlier certificate, and hands over when that is possible; one that ends before is followed by another.
func TestHandOverThatFails(t *testing.T) {
	inBubble(t, 10*time.Millisecond, func(t *testing.T, h *house, n *network) {
		h.agentLog = &logLines{}
		link, _ := h.start(h.authority, "site", answer(io.NopCloser(bytes.NewReader(nil))))
		waitFor(t, "attached", 5*time.Second, func() bool { return h.connected("site") })
		before := h.serial("site")
		h.renew("site", link)
		n.set(refusing)
		time.Sleep(10 * time.Minute)
		if !link.Status().Connected || h.serial("site") != before {
			t.Error("the session has ended")
		}
		if lines := h.agentLog.with("the session goes on with the earlier certificate"); len(lines) < 2 || len(lines) > 5 {
			t.Errorf("the log says %q", lines)
		}
		n.set(carrying)
		waitFor(t, "handed over", 20*time.Minute, func() bool { return h.serial("site") != before })
	})
}

// TestEarlierRelayEndsAtOnce: one that supersedes a session whatever it was asked for gets the new one in a moment in which it asks nothing.
func TestEarlierRelayEndsAtOnce(t *testing.T) {
	e := &supersedingRelay{}
	under(t, e, func(t *testing.T, agent *dialled, _ *logLines) {
		waitFor(t, "attached", 5*time.Second, func() bool { return agent.Status().Connected })
		const renewals = 10
		for range renewals {
			e.house.renew("site", agent)
			time.Sleep(3 * time.Minute)
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		if len(e.attached) != 1+renewals || e.broken > 0 || e.answered == 0 {
			t.Errorf("%d sessions, %d scrapes answered, %d not", len(e.attached), e.answered, e.broken)
		}
		if !agent.Status().Connected {
			t.Errorf("the link: %+v", agent.Status())
		}
	})
}

// supersedingRelay ends the earlier session with everything that is in flight, as earlier releases do, and scrapes for half of every ten seconds.
type supersedingRelay struct {
	relayv1.UnimplementedRelayServiceServer

	house *house

	mu       sync.Mutex
	attached []chan struct{} // guarded by mu; each is closed when the next one attaches
	asked    int             // guarded by mu
	answered int             // guarded by mu
	broken   int             // guarded by mu; those without an answer when their session ended
}

func (e *supersedingRelay) Attach(stream relayv1.RelayService_AttachServer) error {
	if _, err := stream.Recv(); err != nil {
		return err
	}
	ended := make(chan struct{})
	e.mu.Lock()
	if len(e.attached) > 0 {
		close(e.attached[len(e.attached)-1])
	}
	e.attached = append(e.attached, ended)
	number := uint64(len(e.attached))
	e.mu.Unlock()
	if err := stream.Send(&relayv1.AttachResponse{Event: &relayv1.AttachResponse_Welcome{Welcome: &relayv1.Welcome{Session: number, StoreId: make([]byte, 16)}}}); err != nil {
		return err
	}
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for scrapes := uint64(1); ; scrapes++ {
		select {
		case <-stream.Context().Done():
			return nil
		case <-ended:
			e.mu.Lock()
			e.broken += e.asked - e.answered
			e.asked = e.answered
			e.mu.Unlock()
			end := &relayv1.SessionEnd{Reason: relayv1.SessionEndReason_SESSION_END_REASON_SUPERSEDED}
			return stream.Send(&relayv1.AttachResponse{Event: &relayv1.AttachResponse_End{End: end}})
		case <-tick.C:
			e.mu.Lock()
			e.asked++
			e.mu.Unlock()
			events := []*relayv1.AttachResponse{
				{Event: &relayv1.AttachResponse_Heartbeat{Heartbeat: &relayv1.Heartbeat{}}},
				{Event: &relayv1.AttachResponse_Scrape{Scrape: &relayv1.ScrapeRequest{Scrape: scrapes, Target: "t", Timeout: durationpb.New(10 * time.Second)}}},
			}
			for _, event := range events {
				if err := stream.Send(event); err != nil {
					return err
				}
			}
		}
	}
}

func (e *supersedingRelay) DeliverScrape(stream relayv1.RelayService_DeliverScrapeServer) error {
	for {
		part, err := stream.Recv()
		if err != nil {
			return err
		}
		if part.GetEnd() != nil || part.GetFailure() != nil {
			e.mu.Lock()
			e.answered++
			e.mu.Unlock()
			return stream.SendAndClose(&relayv1.DeliverScrapeResponse{})
		}
	}
}

// slow is a scraper whose target takes its time.
func slow(takes time.Duration) scraperFunc {
	return func(ctx context.Context, _ *scrape.Request) (*scrape.Response, error) {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(takes):
			return &scrape.Response{Status: 200, Header: http.Header{}, ContentLength: -1, Body: io.NopCloser(bytes.NewReader([]byte("m 1\n")))}, nil
		}
	}
}
