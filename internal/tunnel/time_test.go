package tunnel_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pushrelay/internal/scrape"
)

// What the rules promise of time, in the time of a bubble: nothing here waits for anything.
const (
	noticedWithin = 45 * time.Second // T4: by both sides
	backWithin    = 15 * time.Second // T6: of the network's return
)

// inBubble runs a test with a relay behind a network, in a bubble of synctest.
func inBubble(t *testing.T, latency time.Duration, test func(t *testing.T, h *house, n *network)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(latency)
		t.Cleanup(n.pumps.Wait)
		t.Cleanup(func() { n.Close() }) // after the relay has stopped
		h := newHouseAt(t, pusherFunc(noPushes), n)
		h.dial = n.Dial
		test(t, h, n)
	})
}

func (h *house) connected(name string) bool {
	for _, a := range h.registry.Agents() {
		if a.Name == name {
			return a.Connected
		}
	}
	return false
}

// waitFor sleeps until something is so and returns how long that took.
func waitFor(t *testing.T, what string, atMost time.Duration, ok func() bool) time.Duration {
	t.Helper()
	begun := time.Now()
	for !ok() {
		if time.Since(begun) > atMost {
			t.Errorf("%s: not within %v", what, atMost)
			break
		}
		time.Sleep(10 * time.Millisecond)
		synctest.Wait()
	}
	return time.Since(begun)
}

// TestSilenceIsNoticedInTime: a network that swallows everything is noticed on both sides, whenever it begins.
func TestSilenceIsNoticedInTime(t *testing.T) {
	for _, after := range []time.Duration{0, 3 * time.Second, 19 * time.Second, 40 * time.Second} {
		inBubble(t, 10*time.Millisecond, func(t *testing.T, h *house, n *network) {
			link, _ := h.start(h.authority, "site", scraperFunc(nil))
			waitFor(t, "attached", 5*time.Second, func() bool { return link.Status().Connected && h.connected("site") })
			time.Sleep(after)
			n.set(swallowing)
			begun := time.Now()
			waitFor(t, "noticed by the agent", noticedWithin, func() bool { return !link.Status().Connected })
			waitFor(t, "noticed by the relay", noticedWithin-time.Since(begun), func() bool { return !h.connected("site") })
		})
	}
}

// TestAgentIsBackInTime: however long the network was away, and whether it swallowed everything or refused, the agent is
// back in time.
func TestAgentIsBackInTime(t *testing.T) {
	for _, away := range []mode{swallowing, refusing} {
		inBubble(t, 100*time.Millisecond, func(t *testing.T, h *house, n *network) {
			link, _ := h.start(h.authority, "site", scraperFunc(nil))
			isBack := func() bool { return link.Status().Connected && h.connected("site") }
			waitFor(t, "attached", 5*time.Second, isBack)
			const outages = 30
			var longest time.Duration
			for range outages {
				n.set(swallowing)
				waitFor(t, "noticed", noticedWithin+time.Second, func() bool { return !link.Status().Connected && !h.connected("site") })
				n.set(away)
				time.Sleep(time.Duration(rand.Int64N(int64(2 * time.Minute))))
				n.set(carrying)
				longest = max(longest, waitFor(t, "back", backWithin, isBack))
			}
			t.Logf("the longest of %d times until the agent was back: %v", outages, longest)
		})
	}
}

// TestStormIsSpread: agents that lost the relay together do not come back together, neither to one that refuses them nor
// to one that does not answer.
func TestStormIsSpread(t *testing.T) {
	const storm = 60
	for _, away := range []mode{swallowing, refusing} {
		inBubble(t, 0, func(t *testing.T, h *house, n *network) {
			n.set(away)
			for i := range storm {
				h.start(h.authority, fmt.Sprintf("site-%d", i), scraperFunc(nil))
			}
			time.Sleep(2 * time.Minute)
			n.dialled()
			begun := time.Now()
			time.Sleep(time.Minute)
			perSecond := make([]int, 60)
			dials := n.dialled()
			for _, at := range dials {
				perSecond[int(at.Sub(begun).Seconds())%60]++
			}
			// Each dials every 6.5 s on the average if it is refused, and every 11.5 s if it is not answered.
			if len(dials) < storm*60/13 || len(dials) > storm*60/5 {
				t.Errorf("%d agents dialled %d times in a minute", storm, len(dials))
			}
			for second, count := range perSecond {
				if count > storm/2 {
					t.Errorf("second %d: %d of %d agents dialled", second, count, storm)
				}
			}
		})
	}
}

// TestSupersededAgentWaits: whoever lost its session to another process of the same identity leaves it alone for one to
// two minutes.
func TestSupersededAgentWaits(t *testing.T) {
	inBubble(t, 0, func(t *testing.T, h *house, _ *network) {
		first, _ := h.start(h.authority, "site", scraperFunc(nil))
		waitFor(t, "the first is attached", 5*time.Second, func() bool { return first.Status().Connected })
		second, _ := h.start(h.authority, "site", scraperFunc(nil))
		waitFor(t, "the second is attached", 5*time.Second, func() bool { return second.Status().Connected && !first.Status().Connected })
		waited := waitFor(t, "the first is back", 2*time.Minute+time.Second, func() bool { return first.Status().Connected })
		if waited < time.Minute-time.Second {
			t.Errorf("the first came back after %v", waited)
		}
	})
}

// TestHeartbeatsMeasure: both ends know the round trip within a minute, and the relay how the agent's clock is.
func TestHeartbeatsMeasure(t *testing.T) {
	const latency = 150 * time.Millisecond
	inBubble(t, latency, func(t *testing.T, h *house, _ *network) {
		link, _ := h.start(h.authority, "site", scraperFunc(nil))
		time.Sleep(time.Minute)
		a := h.registry.Agents()[0]
		if got := link.Status().RoundTrip; a.RoundTrip == nil || *a.RoundTrip != 2*latency || got != 2*latency || *a.ClockSkew != 0 {
			t.Errorf("round trip %v at the relay and %v at the agent, clock skew %v, want %v and no skew", a.RoundTrip, got, a.ClockSkew, 2*latency)
		}
	})
}

// TestScrapeTakesOneRoundTrip: over a long way a scrape of 1 MiB takes one round trip, the first one as well: no window
// has to grow, and nothing has to be opened before.
func TestScrapeTakesOneRoundTrip(t *testing.T) {
	const roundTrip = 100 * time.Millisecond
	inBubble(t, roundTrip/2, func(t *testing.T, h *house, _ *network) {
		want := bytes.Repeat([]byte("metric 1\n"), (1<<20)/9)
		link, _ := h.start(h.authority, "site", scraperFunc(func(context.Context, *scrape.Request) (*scrape.Response, error) {
			return &scrape.Response{Status: 200, Header: http.Header{}, ContentLength: -1, Body: io.NopCloser(bytes.NewReader(want))}, nil
		}))
		waitFor(t, "attached", 5*time.Second, func() bool { return link.Status().Connected })
		for n := range 3 {
			begun := time.Now()
			_, body, err := h.scrape(timeout(t, 10*time.Second), "site")
			if err != nil || !bytes.Equal(body, want) {
				t.Fatalf("scrape %d: %d bytes, %v", n, len(body), err)
			}
			if took := time.Since(begun); took > roundTrip {
				t.Errorf("scrape %d took %v, want one round trip of %v", n, took, roundTrip)
			}
		}
	})
}

// TestSilentTargetEndsInTime: the deadline of a scrape is kept over a long way, and the agent's reason still arrives (T28).
func TestSilentTargetEndsInTime(t *testing.T) {
	const latency = 100 * time.Millisecond
	inBubble(t, latency, func(t *testing.T, h *house, _ *network) {
		h.start(h.authority, "site", scraperFunc(func(ctx context.Context, _ *scrape.Request) (*scrape.Response, error) {
			<-ctx.Done()
			return nil, scrape.Errorf(scrape.Timeout, "the agent's own words")
		}))
		time.Sleep(time.Minute) // the round trip is known
		begun := time.Now()
		ctx := timeout(t, 10*time.Second)
		_, _, err := h.scrape(ctx, "site")
		if took := time.Since(begun); took > 10*time.Second || took < 9*time.Second || !strings.Contains(fmt.Sprint(err), "the agent's own words") {
			t.Errorf("after %v: %v, want the agent's reason within 10 s", took, err)
		}
	})
}
