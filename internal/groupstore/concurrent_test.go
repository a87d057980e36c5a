package groupstore_test

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"testing"

	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	"pushrelay/internal/groupstore"
)

// TestConcurrent pushes and scrapes at once. Every scrape shows each group's families of one push.
func TestConcurrent(t *testing.T) {
	const pushers, scrapers, pushes = 4, 4, 150
	s := newTester(t, groupstore.Config{})
	var pushing, scraping sync.WaitGroup
	for p := range pushers {
		pushing.Go(func() {
			for i := range pushes {
				k := key(t, "job", strconv.Itoa(p), "instance", strconv.Itoa(i%7))
				text := fmt.Sprintf("a_x{i=\"%d\"} %d\nb_x{i=\"%d\"} %d\nc%d_x{i=\"%d\"} 1\n", i%3, i, i%3, i, i%5, i%2)
				if _, err := s.push([]change.Operation{put, post}[i%2], k, text); err != nil {
					t.Error(err)
				}
				if i%11 == 0 {
					s.delete(k)
				}
				if p == 0 && i%13 == 0 {
					if err := wipe(t.Context(), s.store); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	done := make(chan struct{})
	for i := range scrapers {
		scraping.Go(func() {
			format := []exposition.Format{exposition.Text004, exposition.ProtobufDelimited, exposition.OpenMetrics100}[i%3]
			for {
				select {
				case <-done:
					return
				default:
				}
				v := s.store.Snapshot()
				checkTorn(t, v)
				if err := v.Write(io.Discard, groupstore.Form{Format: format}, nil); err != nil {
					t.Error(err)
				}
				s.store.Stats()
			}
		})
	}
	pushing.Wait()
	close(done)
	scraping.Wait()
}

// checkTorn looks for a group whose two families are not of one push.
func checkTorn(t *testing.T, v *groupstore.View) {
	var b strings.Builder
	if err := v.Write(&b, groupstore.Form{}, nil); err != nil {
		t.Error(err)
	}
	a := map[string]bool{}
	for line := range strings.Lines(b.String()) {
		if rest, ok := strings.CutPrefix(line, "a_x{"); ok {
			a[rest] = true
		}
		if rest, ok := strings.CutPrefix(line, "b_x{"); ok && !a[rest] {
			t.Errorf("b_x{%s stands without a_x", strings.TrimSpace(rest))
		}
	}
}
