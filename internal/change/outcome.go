package change

import (
	"context"
	"errors"
	"fmt"
	"time"

	"pushrelay/internal/grouping"
	"pushrelay/internal/history"
)

// Outcome is how a change ended. A pointer to one is an error: that of a change that was refused or put off.
type Outcome struct {
	Kind Kind
	// Detail is for the person who pushed, without a final newline: why a push was refused or spooled, or what of one that was taken is not
	// exposed; empty if there is nothing to say.
	Detail string
	// RetryAfter is when the same push may be taken; 0 says nothing.
	RetryAfter time.Duration
	// Duplicate says that the push had been decided before, and was recognised by its origin; also if that was a refusal, and
	// it is refused again.
	Duplicate bool
	// MayCountTwice says of a push that is in doubt that it may be added twice if it is pushed again.
	MayCountTwice bool
	// Decided is the change in the history of the relay's store by which the push was decided, also if it was refused; zero if that
	// is not known. All up to it is durable. A store knows the position alone.
	Decided history.Point
}

// Refuse returns the outcome of a change that was not taken, as an error.
func Refuse(k Kind, format string, args ...any) *Outcome {
	return &Outcome{Kind: k, Detail: fmt.Sprintf(format, args...)}
}

// Contradiction returns the outcome of a push that contradicts itself or what other groups hold, in the words of the Pushgateway.
func Contradiction(reason string) *Outcome {
	return Refuse(Inconsistent, "pushed metrics are invalid or inconsistent with existing metrics: %s", reason)
}

// OwnAgentLabel returns the outcome of a push through an agent whose key has the agent label already (T20).
func OwnAgentLabel(key grouping.Key, label string) *Outcome {
	return Refuse(Invalid, "grouping key %v has the label %q, which the relay adds by itself to what comes through an agent", key, label)
}

// OutcomeOf returns the outcome that an error stands for; that of nil is Applied. An error that is no outcome is Unavailable, since the push
// may go through later.
func OutcomeOf(err error) Outcome {
	refused, isOutcome := errors.AsType[*Outcome](err)
	switch {
	case err == nil:
		return Outcome{Kind: Applied}
	case isOutcome:
		o := *refused
		o.Detail = err.Error() // with what was said around it
		return o
	case errors.Is(err, context.DeadlineExceeded):
		return Outcome{Kind: TimedOut, Detail: err.Error()}
	case errors.Is(err, context.Canceled):
		return Outcome{Kind: Canceled, Detail: err.Error()}
	default:
		return Outcome{Kind: Unavailable, Detail: err.Error()}
	}
}

// Err returns nil for a change that was taken, and else the outcome.
func (o Outcome) Err() error {
	if o.IsTaken() {
		return nil
	}
	return &o
}

// IsTaken says that the change is the store's, or the spool's.
func (o Outcome) IsTaken() bool { return kinds[o.Kind].verdict == Taken }

// IsFinal says that nothing else will become of the change: it was taken by a relay, or the same change will never be.
func (o Outcome) IsFinal() bool { return kinds[o.Kind].verdict != Later }

// Error returns the detail.
func (o *Outcome) Error() string { return o.Detail }

// Unwrap returns the kind.
func (o *Outcome) Unwrap() error { return o.Kind }
