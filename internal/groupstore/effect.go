package groupstore

import (
	"context"

	"pushrelay/internal/change"
	"pushrelay/internal/grouping"
	"pushrelay/internal/lifetime"
)

// Effect is what follows from a change that was decided: what became of one group, or of all for Wipe and Forget (S1, S2). It is a value: it
// holds no reference to anything that changes, and applying it takes no clock, no limit and no setting.
type Effect struct {
	Operation change.Operation
	// Key is the group; zero for Wipe and Forget, and for what is logged of a wipe that comes again.
	Key grouping.Key
	// Seen is the group's version when the change was decided: the position of the last change of it, 0 for none.
	Seen uint64
	// PushedAt and FailedAt are the group's two times after the change, in nanoseconds since the epoch, 0 for never.
	PushedAt, FailedAt int64
	// Reason says why the push at FailedAt was rejected; it may be empty.
	Reason string

	life      lifetime.Declaration // the group's after the change
	broken    string               // why the job failed that pushed last, by its own account; empty if it did not
	answer    *answer              // to be remembered; nil for none
	marks     []mark               // the group's after the change, also if it is not there then; for Forget the one that is passed, for Wipe its own
	hidden    string               // why the whole group is not exposed
	later     *laterFields         // fields of a later release about the group after the change, and about the parts; nil for none
	parts     []part               // all of them for Replace, the ones that differ for Merge
	lines     int                  // of the parts
	valueSize int                  // of the string that the parts' values are cut from
}

// An Appender commits changes: it makes them durable, or has others have them as well. What it has taken is applied, and may not be committed yet.
type Appender interface {
	// Append takes the effect at its position, which is one more than that of the call before. It is called under the
	// store's lock, in the order in which changes take effect, so it must not block; the effect and what it refers to are
	// immutable and may be kept. An error refuses the change, and then nothing of it happens. The function that is
	// returned waits until the change is committed or ctx ends; it may be left uncalled, and is nil for what is committed already.
	Append(position uint64, e Effect) (wait func(ctx context.Context) error, err error)
}

// inMemory commits whatever is applied.
type inMemory struct{}

// Append implements [Appender].
func (inMemory) Append(uint64, Effect) (wait func(context.Context) error, err error) { return nil, nil }
