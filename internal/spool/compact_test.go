package spool_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pushrelay/internal/change"
)

// What waits is bounded by the newest text of each family (T15).
func TestWhatWaitsIsCompact(t *testing.T) {
	for _, tt := range []struct {
		name string
		push func(h *house)
		took []string
	}{
		{
			name: "PUTs",
			push: func(h *house) {
				for i := range 100 {
					h.must(change.Spooled, change.Replace, "j", fmt.Sprintf("m %d\n", i))
				}
			},
			took: []string{"replace j m 99\n"},
		},
		{
			name: "POSTs of the same families",
			push: func(h *house) {
				for i := range 100 {
					h.must(change.Spooled, change.Merge, "j", fmt.Sprintf("m %d\nn %d\n", i, i))
				}
			},
			took: []string{"merge j m 99\nn 99\n"},
		},
		{
			name: "POSTs of some of the families",
			push: func(h *house) {
				h.must(change.Spooled, change.Replace, "j", "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 1\nm 1\nn 1\n")
				h.must(change.Spooled, change.Merge, "j", "m 2\no 2\n")
				h.must(change.Spooled, change.Merge, "j", "# TYPE h histogram\nh_bucket{le=\"1\"} 2\nh_bucket{le=\"+Inf\"} 2\nh_sum 2\nh_count 2\no 3\n")
			},
			took: []string{"replace j n 1\n", "merge j m 2\n", "merge j # TYPE h histogram\nh_bucket{le=\"1\"} 2\nh_bucket{le=\"+Inf\"} 2\nh_sum 2\nh_count 2\no 3\n"},
		},
		{
			name: "an empty POST says when it was pushed, until the next push does",
			push: func(h *house) {
				h.must(change.Spooled, change.Replace, "j", "m 1\n")
				h.must(change.Spooled, change.Merge, "j", "")
				h.must(change.Spooled, change.Merge, "j", "")
				h.must(change.Spooled, change.Replace, "k", "m 1\n")
				h.must(change.Spooled, change.Merge, "k", "")
				h.must(change.Spooled, change.Merge, "k", "n 1\n")
			},
			took: []string{"replace j m 1\n", "replace k m 1\n", "merge j ", "merge k n 1\n"},
		},
		{
			name: "DELETE",
			push: func(h *house) {
				h.must(change.Spooled, change.Replace, "j", "m 1\n")
				h.must(change.Spooled, change.Merge, "j", "n 1\n")
				h.must(change.Spooled, change.Delete, "j", "")
				h.must(change.Spooled, change.Delete, "k", "")
				h.must(change.Spooled, change.Merge, "k", "m 1\n")
			},
			took: []string{"delete j ", "delete k ", "merge k m 1\n"},
		},
		{
			name: "PUT after everything",
			push: func(h *house) {
				h.must(change.Spooled, change.Delete, "j", "")
				h.must(change.Spooled, change.Merge, "j", "n 1\n")
				h.must(change.Spooled, change.Replace, "j", "m 1\n")
			},
			took: []string{"replace j m 1\n"},
		},
	} {
		for _, restart := range []string{"", "after a kill", "after a snapshot"} {
			t.Run(tt.name+" "+restart, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					h := newHouse(t, "a:1")
					defer func() { h.close() }()
					tt.push(h)
					switch restart {
					case "after a kill":
						h.crash()
					case "after a snapshot":
						if err := h.Snapshot(t.Context()); err != nil {
							t.Fatal(err)
						}
						h.crash()
					}
					r := newRelay("a:1", 1)
					defer h.attach(r)()
					settle()
					if got := r.took(); !slices.Equal(got, tt.took) {
						t.Errorf("the relay took %q, want %q", got, tt.took)
					}
				})
			})
		}
	}
}

func TestTheTimeOfAPushIsThatAtTheAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, "a:1")
		defer func() { h.close() }()
		at := time.Now()
		h.must(change.Spooled, change.Replace, "j", "m 1\n")
		time.Sleep(time.Hour)
		h.crash()
		r := newRelay("a:1", 1)
		defer h.attach(r)()
		settle()
		if got := r.pushed[keyOf("j")]; !got.Equal(at) {
			t.Errorf("the push has the time %s, want %s", got, at)
		}
	})
}

// The age of a push that waits is that in the process, whatever the wall clock is set to meanwhile: its time has a monotonic
// reading, which those of a bubble have not.
func TestTheAgeOfAPushIsNoMatterOfTheClock(t *testing.T) {
	h := newHouse(t, "a:1")
	defer h.close()
	h.must(change.Spooled, change.Replace, "j", "m 1\n")
	feed := h.attachIdle(newRelay("a:1", 1))
	defer feed.Detach()
	c, err := feed.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got, err := feed.Request(c, nil, nil)
	if err != nil || got.At == got.At.Round(0) { //nolint:staticcheck // Whether there is a monotonic reading is the question.
		t.Errorf("the push that is sent came at %v, %v, by the wall clock alone", got.At, err)
	}
}

// What a newer push made pointless before it was sent is not sent after a kill either, when the relay has decided the newer one,
// and, as a relay does with a group that is gone, may have forgotten that it did.
func TestPointlessChangesStayUnsent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, "a:1")
		defer func() { h.close() }()
		r := newRelay("a:1", 1)
		feed := h.attachIdle(r)
		h.must(change.Spooled, change.Replace, "j", "m 1\n")
		h.must(change.Spooled, change.Merge, "j", "n 1\n")
		h.must(change.Spooled, change.Delete, "j", "")
		c, err := feed.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got, err := feed.Request(c, nil, nil); err != nil || got.Operation != change.Delete {
			t.Fatalf("the first change that is sent is %+v, %v, want the DELETE", got, err)
		}
		feed.Decide(c, change.Outcome{Kind: change.Applied})
		feed.State(t.Context()) // Only now may the relay forget.
		h.crash()
		defer h.attach(r)()
		settle()
		if got := r.took(); len(got) > 0 {
			t.Errorf("after the DELETE the relay got %q", got)
		}
		if n := h.pending(r.address); n != 0 {
			t.Errorf("%d changes wait", n)
		}
	})
}
