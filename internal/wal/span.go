package wal

import "time"

// A span is the time in which something was appended that is missing: after what was kept before it, and before what was
// kept behind it. Either is zero if there is nothing, or no time.
type span struct{ after, before time.Time }

// spans are those of the gaps of a log that is read.
type spans struct {
	all  []span
	open bool // nothing was read behind the last one
}

// begin notes that something is missing here.
func (s *spans) begin(sink *Replay) {
	s.all = append(s.all, span{after: sink.newest()})
	s.open = true
}

// follow notes that something was read.
func (s *spans) follow(sink *Replay) {
	if s.open {
		s.all[len(s.all)-1].before = sink.newest()
		s.open = false
	}
}

// newest returns the time of what was handed over last.
func (r *Replay) newest() time.Time {
	if r.Newest == nil {
		return time.Time{}
	}
	return r.Newest()
}

// missing says that something is missing here.
func (r *Replay) missing() {
	if r.Missing != nil {
		r.Missing()
	}
}
