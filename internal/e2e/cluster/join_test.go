//go:build linux

package cluster_test

import (
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"pushrelay/internal/e2e/client"
)

// TestJoinOfALargeStore: two relays join a cluster that holds many series, while it is pushed to and scraped. $PUSHRELAY_JOIN_SERIES says how many.
func TestJoinOfALargeStore(t *testing.T) {
	t.Parallel()
	groups := 200
	if text := os.Getenv("PUSHRELAY_JOIN_SERIES"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		groups = n / seriesOfLarge
	}
	s := &site{}
	for _, name := range []string{"a", "b", "c"} {
		s.members = append(s.members, newMember(t, name, "", ""))
	}
	first := s.members[0]
	first.start(t)
	fill(t, first, groups)
	first.begin(t)
	l := startLightLoad(t, s.members[:1], nil)
	l.wantService()
	for _, m := range s.members[1:] {
		began := time.Now()
		m.join(t, first)
		t.Logf("%s is ready %.1f s after it began to join %d series; %s", m.name, time.Since(began).Seconds(), groups*seriesOfLarge, l.tally())
	}
	s.wantVoters(t)
	if n := l.doubtful.Load() + l.refused.Load() + l.scrapesFailed.Load(); n > 0 {
		t.Errorf("not everything went on while relays joined: %s %q; the last scrape that failed: %s", l.tally(), l.inDoubt(), l.whyUnanswered())
	}
	l.stop()
	l.members = s.members
	l.wantAgreement()
	for _, m := range s.members {
		for _, group := range []int{0, groups / 2, groups - 1} {
			client.WantSeries(t, m.url, fmt.Sprintf("large_%d{instance=\"\", job=\"large-%d\"}", seriesOfLarge-1, group), float64(group))
		}
	}
}

// seriesOfLarge is how many series each group of a large store has.
const seriesOfLarge = 100

// fill fills a relay with groups.
func fill(t *testing.T, m *member, groups int) {
	t.Helper()
	todo := make(chan int)
	var pushing sync.WaitGroup
	for range 8 {
		pushing.Go(func() {
			for group := range todo {
				var body strings.Builder
				for i := range seriesOfLarge {
					fmt.Fprintf(&body, "# TYPE large_%d gauge\nlarge_%d %d\n", i, i, group)
				}
				r, err := client.Fetch(http.MethodPut, fmt.Sprintf("%s/metrics/job/large-%d", m.url, group), strings.NewReader(body.String()))
				if err != nil || r.Status != http.StatusOK {
					t.Errorf("group %d: %d %q %v", group, r.Status, r.Body, err)
				}
			}
		})
	}
	for group := range groups {
		todo <- group
	}
	close(todo)
	pushing.Wait()
}
