package web

import (
	"sync"
	"time"

	"pushrelay/internal/groupstore"
)

// To count looks at every group, and pages that are open ask again whenever something changes.
const (
	// summaryAge is how long counts are good for if nothing was changed: some groups are late meanwhile.
	summaryAge = time.Second
	// summaryWeight is how many times as long as it took to count they are good for if something was.
	summaryWeight = 10
)

// A groupSummary is how many groups there are, and in which states. It is immutable.
type groupSummary struct {
	at        time.Time
	took      time.Duration
	position  uint64 // of the store, when it was counted
	groups    int
	series    int
	expecting int // groups whose next push is expected
	inState   []stateSummary
}

// A stateSummary is of one of the groupStates.
type stateSummary struct {
	groups int
	jobs   []string // of the first of them
}

// summaries has the last summary for who sees all groups. The zero value has none.
type summaries struct {
	mu   sync.Mutex
	last *groupSummary // guarded by mu
}

// summaryFor counts the groups that somebody sees.
func (h *Handler) summaryFor(rights *Rights, now time.Time) *groupSummary {
	if rights.SeesGroup != nil {
		return h.summarize(rights, now)
	}
	h.summaries.mu.Lock() // also while it is counted: whoever comes meanwhile takes what is found
	defer h.summaries.mu.Unlock()
	if last := h.summaries.last; last == nil || !last.isGood(now, h.cfg.Store.Position()) {
		h.summaries.last = h.summarize(rights, now)
	}
	return h.summaries.last
}

func (s *groupSummary) isGood(now time.Time, position uint64) bool {
	age := now.Sub(s.at)
	if position != s.position {
		return age >= 0 && age < summaryWeight*s.took
	}
	return age >= 0 && age < summaryAge
}

func (h *Handler) summarize(rights *Rights, now time.Time) *groupSummary {
	sum := &groupSummary{at: now, position: h.cfg.Store.Position(), inState: make([]stateSummary, len(groupStates))}
	anyQuarantined := h.cfg.Store.Stats().Quarantined > 0
	for g := range h.cfg.Store.Snapshot().Groups() {
		if !rights.seesGroup(g.Key()) {
			continue
		}
		sum.groups++
		sum.series += g.Series()
		if !g.Due().IsZero() {
			sum.expecting++
		}
		if !anyQuarantined && g.State() == groupstore.StateOK {
			continue // nearly all are, and are in none of the states
		}
		for i, s := range groupStates {
			if s.isIn(g) {
				sum.inState[i].add(g)
			}
		}
	}
	sum.took = time.Since(now)
	return sum
}

func (s *stateSummary) add(g groupstore.Group) {
	s.groups++
	if len(s.jobs) <= manyNames {
		s.jobs = append(s.jobs, g.Key().Job())
	}
}
