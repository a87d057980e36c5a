//go:build linux

package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"pushrelay/internal/e2e/client"
)

// The load is pushers that know what each of their groups may hold, and scrapers that remember what they saw.

// A groupState is what a group holds: series of families that pushers write, by name; nil for a group that is not there.
type groupState map[string]float64

func (g groupState) key() string {
	if g == nil {
		return "none"
	}
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(g)) {
		fmt.Fprintf(&b, "%s=%g ", name, g[name])
	}
	return b.String()
}

// An operation is a push, by what it makes of a group.
type operation struct {
	method, header, body string
	once                 bool // with a key by which it happens once
	becomes              func(before groupState) groupState
}

// operations are those of pushers; n rises with each push.
func operations(n int) []operation {
	value := float64(n)
	with := func(before groupState, name string, value float64) groupState {
		after := groupState{}
		maps.Copy(after, before)
		after[name] = value
		return after
	}
	return []operation{
		{method: http.MethodPut, body: fmt.Sprintf("a %d\n", n), becomes: func(groupState) groupState { return groupState{"a": value} }},
		{method: http.MethodPost, body: fmt.Sprintf("b %d\n", n), becomes: func(g groupState) groupState { return with(g, "b", value) }},
		{method: http.MethodDelete, becomes: func(groupState) groupState { return nil }},
		{
			method: http.MethodPost, header: "add", once: true, body: "# TYPE c counter\nc 1\n",
			becomes: func(g groupState) groupState { return with(g, "c", g["c"]+1) },
		},
	}
}

// A load is all pushers and scrapers of a cluster.
type load struct {
	t       *testing.T
	members []*member
	agents  []*agent
	client  *http.Client
	pause   time.Duration // between the pushes of one pusher
	through *member       // a balancer that is pushed to as well; nil for none

	stopPushing, stopScraping context.CancelFunc
	pushing, scraping         sync.WaitGroup

	acked, doubtful, refused, scrapes, scrapesFailed, tunnelled atomic.Int64

	mu         sync.Mutex
	groups     map[string]map[string]groupState // guarded by mu; what each group may hold, by the group's name and the states' keys
	doubts     []string                         // guarded by mu; what relays said of pushes that are in doubt
	unanswered string                           // guarded by mu; why the last scrape failed that did
	rising     map[string]int                   // guarded by mu; the last value of each group that only rises which was acknowledged
	added      map[string]int                   // guarded by mu; how often each agent has taken one more
	twice      map[string]bool                  // guarded by mu; the agents of whom something was counted twice
	waits      map[string]time.Duration         // guarded by mu; the longest that somebody pushed at each member until that was acknowledged, by its name
	away       time.Duration                    // guarded by mu; the longest time for which no relay answered a scrape through an agent
}

// startLoad begins to push at each member and agent, and to scrape through a balancer over all.
func startLoad(t *testing.T, members []*member, agents []*agent, seed uint64) *load {
	t.Helper()
	return (&load{t: t, members: members, agents: agents, pause: heavily}).start(seed)
}

// startLightLoad is startLoad for tests that run beside others.
func startLightLoad(t *testing.T, members []*member, agents []*agent) *load {
	t.Helper()
	return (&load{t: t, members: members, agents: agents, pause: 60 * time.Millisecond}).start(1)
}

// heavily is the pause of a load that finds out what is wrong under load.
const heavily = 5 * time.Millisecond

// start begins with what l says.
func (l *load) start(seed uint64) *load {
	l.t.Helper()
	l.groups, l.rising, l.added, l.twice, l.waits = map[string]map[string]groupState{}, map[string]int{}, map[string]int{}, map[string]bool{}, map[string]time.Duration{}
	l.client = &http.Client{Timeout: 15 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Second}}
	var pushing, scraping context.Context
	pushing, l.stopPushing = context.WithCancel(context.Background())
	scraping, l.stopScraping = context.WithCancel(context.Background())
	for i, m := range l.members {
		for j := range 2 {
			l.pushing.Go(func() {
				l.pushMixed(pushing, m, fmt.Sprintf("mixed-%s-%d", m.name, j), rand.New(rand.NewPCG(seed, uint64(i*10+j))))
			})
			l.pushing.Go(func() { l.pushRising(pushing, m, fmt.Sprintf("rising-%s-%d", m.name, j)) })
		}
	}
	if l.through != nil {
		l.pushing.Go(func() { l.pushRising(pushing, l.through, "rising-"+l.through.name) })
	}
	for i := range 2 {
		l.scraping.Go(func() { l.scrape(scraping, i) })
	}
	for _, a := range l.agents {
		l.pushing.Go(func() { l.pushThrough(pushing, a) })
		l.scraping.Go(func() { l.scrapeThrough(scraping, a) })
	}
	l.t.Cleanup(func() {
		l.stopPushing()
		l.stopScraping()
		l.pushing.Wait()
		l.scraping.Wait()
	})
	return l
}

// ask sends a push. What is 503 or gets no answer is in doubt, unless the relay says that it was not taken.
func (l *load) ask(ctx context.Context, m *member, op operation, group string, n int) (acked, doubtful bool) {
	r, err := http.NewRequestWithContext(ctx, op.method, m.url+"/metrics/job/"+group, strings.NewReader(op.body))
	if err != nil {
		l.t.Error(err)
		return false, false
	}
	if op.header != "" {
		r.Header.Set("Push-Operation", op.header)
	}
	if op.once {
		r.Header.Set("Idempotency-Key", fmt.Sprint(group, " ", n))
		r.GetBody = nil // net/http would try again by itself, and say only why the last try failed
	}
	resp, err := l.client.Do(r)
	if err != nil {
		return false, !errors.Is(err, syscall.ECONNREFUSED)
	}
	answer, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil {
		return false, true
	}
	switch resp.StatusCode {
	case http.StatusOK, http.StatusAccepted:
		l.acked.Add(1)
		return true, false
	case http.StatusServiceUnavailable:
		doubtful = resp.Header.Get("Retry-After") == ""
		if doubtful {
			l.mu.Lock()
			l.doubts = append(l.doubts, fmt.Sprintf("%s at %s: %s", m.name, time.Now().Format(clock), answer))
			l.mu.Unlock()
		}
		return false, doubtful
	default:
		l.t.Errorf("%s %s at %s: %s", op.method, group, m.name, resp.Status)
		return false, true
	}
}

// pushMixed pushes all kinds of operations. A push in doubt may take effect at any time later: its group is left alone from then on, and another one begun.
func (l *load) pushMixed(ctx context.Context, m *member, name string, u *rand.Rand) {
	states := map[string]groupState{"none": nil}
	group := name + "-0"
	for n := 1; ctx.Err() == nil; n++ {
		all := operations(n)
		op := all[u.IntN(len(all))]
		acked, doubtful := l.ask(context.WithoutCancel(ctx), m, op, group, n)
		if acked || doubtful {
			next := map[string]groupState{}
			if doubtful {
				maps.Copy(next, states)
			}
			for _, before := range states {
				after := op.becomes(before)
				next[after.key()] = after
			}
			states = next
			l.mu.Lock()
			l.groups[group] = states
			l.mu.Unlock()
		}
		switch {
		case doubtful:
			l.doubtful.Add(1)
			states, group = map[string]groupState{"none": nil}, fmt.Sprintf("%s-%d", name, n)
		case !acked:
			l.refused.Add(1)
			client.Pause(ctx, 50*time.Millisecond)
		}
		client.Pause(ctx, l.pause)
	}
}

// pushRising pushes values that rise. What is in doubt, or not taken, is pushed again with a higher one.
func (l *load) pushRising(ctx context.Context, m *member, group string) {
	for n := 1; ctx.Err() == nil; client.Pause(ctx, l.pause) {
		for begun, acked := time.Now(), false; !acked && ctx.Err() == nil; n++ {
			op := operation{method: http.MethodPut, body: fmt.Sprintf("rising %d\n", n)}
			if acked, _ = l.ask(context.WithoutCancel(ctx), m, op, group, n); !acked {
				client.Pause(ctx, 50*time.Millisecond)
				continue
			}
			l.mu.Lock()
			l.rising[group] = n
			l.waits[m.name] = max(l.waits[m.name], time.Since(begun))
			l.mu.Unlock()
		}
	}
}

// wantOnce wants that nothing was counted twice that agents were given: one more than they have taken may be on its way.
func (l *load) wantOnce(m *member, series map[string]float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for agent, n := range l.added {
		if got := series[addedBy(agent)]; got > float64(n+1) && !l.twice[agent] {
			l.t.Errorf("%s counts %v at %v, and %s has taken %d", m.name, got, time.Now().Format(clock), agent, n)
			l.twice[agent] = true
		}
	}
}

// views is what each relay says now of a series and of itself, to find out why one showed something else.
func (l *load) views(name string) string {
	var all strings.Builder
	for _, m := range l.members {
		page, err := l.page(m)
		series, _ := client.SeriesOf(page)
		own, _ := m.ownSeries()
		fmt.Fprintf(&all, "\n  %s at %v: %f, %v; leads %v, lag %v, quorum %v", m.name, time.Now().Format(clock), series[name], err,
			own["relay_cluster_leader"], own["relay_cluster_lag_seconds"], own["relay_cluster_has_quorum"])
	}
	return all.String()
}

// clock is how moments are told that are to be found in logs.
const clock = "15:04:05.000"

// A sighting is a value, and who showed it when.
type sighting struct {
	value float64
	by    string
	at    time.Time
}

// scrape scrapes one relay after the other, as through a balancer, and wants that nothing that only rises ever goes back, and that what was acknowledged
// before a scrape is in it.
func (l *load) scrape(ctx context.Context, turn int) {
	seen := map[string]sighting{}
	for ctx.Err() == nil {
		client.Pause(ctx, 4*l.pause)
		m := l.members[turn%len(l.members)]
		turn++
		l.mu.Lock()
		acked := maps.Clone(l.rising)
		l.mu.Unlock()
		page, err := l.page(m)
		if err != nil {
			l.scrapesFailed.Add(1)
			l.mu.Lock()
			l.unanswered = fmt.Sprintf("%s at %s: %v", m.name, time.Now().Format(clock), err)
			l.mu.Unlock()
			continue
		}
		l.scrapes.Add(1)
		series, err := client.SeriesOf(page)
		if err != nil {
			l.t.Errorf("the exposition of %s: %v", m.name, err)
			return
		}
		for name, value := range series {
			if !strings.HasPrefix(name, "rising{") && !strings.HasPrefix(name, "push_time_seconds{") {
				continue
			}
			if before := seen[name]; value < before.value && !strings.Contains(name, `job="mixed-`) {
				l.t.Errorf("%s shows %s %f at %v, and %s showed %f %v before%s", m.name, name, value, time.Now().Format(clock), before.by, before.value, time.Since(before.at), l.views(name))
			}
			seen[name] = sighting{value, m.name, time.Now()}
		}
		l.wantOnce(m, series)
		for group, value := range acked {
			if got := series[fmt.Sprintf(`rising{instance="", job=%q}`, group)]; got < float64(value) {
				l.lagged(m, group, got, value)
			}
		}
	}
}

// lagged is told of a scrape that does not show what was acknowledged before. Without a majority a relay shows what it has: see quorum.
func (l *load) lagged(m *member, group string, got float64, acked int) {
	l.t.Errorf("%s shows %v of %s, and %d was acknowledged before the scrape began", m.name, got, group, acked)
}

func (l *load) page(m *member) (string, error) {
	r, err := client.Fetch(http.MethodGet, m.url+"/metrics", nil)
	if err != nil {
		return "", err
	}
	if r.Status != http.StatusOK {
		return "", fmt.Errorf("%w: %d %s", client.ErrStatus, r.Status, r.Body)
	}
	return r.Body, nil
}

// wantService waits until each member takes a push, and each shows it.
func (l *load) wantService() {
	l.t.Helper()
	l.wantServiceOf(l.members)
}

func (l *load) wantServiceOf(members []*member) {
	l.t.Helper()
	for _, m := range members {
		m.pushUntil(l.t, 60*time.Second, "/job/service-"+m.name, int(l.acked.Load()), http.StatusOK)
	}
	for _, m := range members {
		client.Eventually(l.t, 60*time.Second, m.name+" shows pushes", func() error { _, err := l.page(m); return err })
	}
}

// inDoubt returns what relays have said until now of pushes that are in doubt.
func (l *load) inDoubt() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.doubts)
}

// whyUnanswered returns why the last scrape failed that did.
func (l *load) whyUnanswered() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.unanswered
}

func (l *load) tally() string {
	return fmt.Sprintf("%d pushes acknowledged, %d in doubt, %d refused; %d scrapes, %d without an answer",
		l.acked.Load(), l.doubtful.Load(), l.refused.Load(), l.scrapes.Load(), l.scrapesFailed.Load())
}

// end stops the pushers, and looks at what all members hold then.
func (l *load) end() {
	l.t.Helper()
	l.stop()
	l.wantAgreement()
}

func (l *load) stop() {
	l.stopPushing()
	l.pushing.Wait()
	time.Sleep(5 * time.Second) // longer than a push may take: what is in doubt is decided by then
	l.stopScraping()
	l.scraping.Wait()
}

// wantAgreement wants all members to show what their groups may hold. The load is stopped.
func (l *load) wantAgreement() {
	t := l.t
	t.Helper()
	l.wantAdded()
	pages := map[string]map[string]float64{}
	for _, m := range l.members {
		var series map[string]float64
		client.Eventually(t, 60*time.Second, m.name+" answers", func() error {
			page, err := l.page(m)
			if err != nil {
				return err
			}
			series, err = client.SeriesOf(page)
			return err
		})
		pages[m.name] = series
	}
	first := l.members[0].name
	for name, series := range pages {
		if !maps.Equal(series, pages[first]) {
			t.Errorf("%s and %s show different things:%s", name, first, difference(series, pages[first]))
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	held := statesIn(pages[first])
	for group, possible := range l.groups {
		if _, ok := possible[held[group].key()]; !ok {
			t.Errorf("%s holds %s, and may hold %v", group, held[group].key(), slices.Sorted(maps.Keys(possible)))
		}
	}
	for group, value := range l.rising {
		if got := pages[first][fmt.Sprintf(`rising{instance="", job=%q}`, group)]; got < float64(value) {
			t.Errorf("%s is %v in the end, and %d was acknowledged", group, got, value)
		}
	}
	if len(l.added) > 0 && l.tunnelled.Load() == 0 {
		t.Error("no scrape through an agent was answered at all")
	}
	t.Logf("%s; %d groups; %d scrapes through agents, none of which was answered for %v at most", l.tally(), len(l.groups), l.tunnelled.Load(), l.away)
}

// statesIn reads what the groups of mixed pushes hold from a page.
func statesIn(series map[string]float64) map[string]groupState {
	held := map[string]groupState{}
	for name, value := range series {
		family, rest, _ := strings.Cut(name, "{")
		_, group, _ := strings.Cut(rest, `job="`)
		group = strings.TrimSuffix(group, `"}`)
		if !strings.HasPrefix(group, "mixed-") || len(family) != 1 {
			continue
		}
		if held[group] == nil {
			held[group] = groupState{}
		}
		held[group][family] = value
	}
	return held
}

func difference(a, b map[string]float64) string {
	var d strings.Builder
	n := 0
	for name, value := range a {
		if other, ok := b[name]; !ok || other != value {
			if n++; n <= 20 {
				fmt.Fprintf(&d, "\n%s: %v and %v (there: %v)", name, value, other, ok)
			}
		}
	}
	for name := range b {
		if _, ok := a[name]; !ok {
			if n++; n <= 20 {
				fmt.Fprintf(&d, "\n%s is missing in the first", name)
			}
		}
	}
	return d.String()
}
