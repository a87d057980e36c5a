package groupstore

import (
	"errors"
	"fmt"
	"strings"
)

// InconsistentError means that a push contradicts itself, what other groups hold, or the relay's own metrics. Its text
// names the series or the family, in words that the clients of a Pushgateway know.
type InconsistentError struct {
	// Family is the metric family at fault; empty if it is the push or the group as a whole.
	Family string
	reason string
}

// Error returns what is wrong.
func (e *InconsistentError) Error() string { return e.reason }

// FullError means that the push would take the store beyond one of its limits. Nothing was changed, and the same push may
// be taken once something else has left.
type FullError struct {
	What  Countable
	Limit int
	// Account is the one whose limit it is; empty for the whole store.
	Account string
}

// Countable is what there may be no more of.
type Countable string

// What a [FullError] is about.
const (
	Groups Countable = "groups"
	Series Countable = "series"
	// Traces are what agents leave in groups that are not there, as long as they may still send to them.
	Traces Countable = "deleted groups that may still be sent to"
)

// Error returns the limit that is reached.
func (e *FullError) Error() string {
	if e.Account != "" {
		return fmt.Sprintf("the store takes no more than %d %s of %q", e.Limit, e.What, e.Account)
	}
	return fmt.Sprintf("the store is full: it takes no more than %d %s", e.Limit, e.What)
}

// ErrSuperseded means that a push that waited is older than what another numbering of its author did to the group since. It is
// final: the mark of its origin has moved, and nothing else.
var ErrSuperseded = errors.New("a newer push of the same author has taken effect in the group since")

// ErrNotCurrent means that Push.Current said no: whoever carried the push may not change groups any more, and nothing was
// changed.
var ErrNotCurrent = errors.New("what carried the push may not change groups any more")

// InDoubtError means that a change was applied but is not known to be durable: it is visible, and may or may not outlive a
// crash.
type InDoubtError struct{ Err error }

// Error says what became of waiting.
func (e *InDoubtError) Error() string {
	return "the push is in doubt: waiting until it is durable: " + e.Err.Error()
}

// Unwrap returns what ended the wait.
func (e *InDoubtError) Unwrap() error { return e.Err }

// A series may have a megabyte of labels, and every group whose push was rejected keeps the reason. So of a name or of labels
// a reason tells shownBytes, and of a reason keptBytes are kept.
const (
	shownBytes = 1 << 10
	keptBytes  = 8 << 10
)

// brief cuts a text that is longer than the limit.
func brief(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	return strings.ToValidUTF8(text[:limit], "") + "…"
}
