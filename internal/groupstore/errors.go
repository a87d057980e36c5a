package groupstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"pushrelay/internal/change"
)

// refusal is the outcome of a push that contradicts itself, what other groups hold, or the relay's own metrics. The reason names the
// series or the family, in words that the clients of a Pushgateway know. With the check off nobody is refused for that.
func (c Check) refusal(reason string) *change.Outcome {
	if c != CheckEnforced {
		return &change.Outcome{Kind: change.Unchecked, Detail: reason}
	}
	return change.Contradiction(reason)
}

// superseded is the outcome of a push that waited and is older than what another numbering of its author did to the group since. It is final.
func superseded() *change.Outcome {
	return change.Refuse(change.Superseded, "superseded: a newer push of the same agent has taken effect in the group since")
}

// notCurrent is the outcome of a push whose carrier may not change groups any more.
func notCurrent() *change.Outcome {
	return change.Refuse(change.NotCurrent, "what carried the push may not change groups any more")
}

// A limited is what there may be no more of, with the flag that bounds it for all.
type limited struct{ what, flag string }

var (
	groupsLimit = limited{"groups", " (--store.max-groups)"}
	seriesLimit = limited{"series", " (--store.max-series)"}
	// tracesLimit is about what agents leave in groups that are not there, as long as they may still send to them.
	tracesLimit = limited{what: "deleted groups that may still be sent to"}
)

// noRoom is the outcome of a push for which a limit of the whole store leaves no room. The same push may be taken once something else has left.
func noRoom(limit int, of limited) *change.Outcome {
	return change.Refuse(change.Full, "the store is full: it takes no more than %d %s%s", limit, of.what, of.flag)
}

// noRoomFor is noRoom for the limit of an account, which something sets; empty if nobody can. An agent that is full need not ask every second.
func noRoomFor(account string, limit int, what, by string) *change.Outcome {
	if by != "" {
		by = " (" + by + ")"
	}
	o := change.Refuse(change.Full, "the store takes no more than %d %s of %q%s", limit, what, account, by)
	o.RetryAfter = retryFullAgent
	return o
}

const (
	// retryFullAgent is when an agent that has all that it may have may try again.
	retryFullAgent = 30 * time.Second
	// retryAfter is when a push may be tried again that was not taken for lack of a writable disk.
	retryAfter = 10 * time.Second
)

// notWritable is the outcome of a change that the log does not take.
func notWritable(detail string) change.Outcome {
	return change.Outcome{Kind: change.NotWritable, Detail: detail, RetryAfter: retryAfter}
}

// inDoubt is the outcome of a change that is applied but not known to be durable: it is visible, and may or may not outlive a crash.
func inDoubt(err error, v *verdict) change.Outcome {
	err = fmt.Errorf("the push is in doubt: waiting until it is durable: %w", err)
	o := notWritable(err.Error())
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		o = change.OutcomeOf(err) // the handler has words for its own timeout
	}
	o.Duplicate, o.Decided.Position = v.duplicate, v.position
	return o
}

// Quarantined is a family that does not fit.
type Quarantined struct{ Family, Reason string }

// detailOf says in one line what of a push is not exposed.
func detailOf(quarantined []Quarantined) string {
	switch n := len(quarantined); n {
	case 0:
		return ""
	case 1:
		return fmt.Sprintf("not exposed: %s", quarantined[0].Reason)
	default:
		return fmt.Sprintf("%d metric families are not exposed, the first: %s", n, quarantined[0].Reason)
	}
}

// keptBytes is how much of a reason is kept: every group whose push was rejected has one.
const keptBytes = 8 << 10
