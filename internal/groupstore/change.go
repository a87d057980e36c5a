package groupstore

import (
	"context"
	"strconv"

	"pushrelay/internal/grouping"
)

// Operation says what a push or a change does.
type Operation uint8

// The operations. The zero value is none of them, so that an operation that is not understood is never taken for another.
const (
	// Replace makes the families all that the group has.
	Replace Operation = iota + 1
	// Merge replaces the families of the same names and keeps the others.
	Merge
	// Delete removes the group.
	Delete
	// Fail only notes that a push to the group was rejected.
	Fail
	// Wipe removes all groups.
	Wipe
	// Mark moves the mark of a source in a group, which need not be there, and does nothing else.
	Mark
	// Forget drops the marks of a source up to a sequence from the groups that are not there.
	Forget
)

// String returns the operation's name.
func (o Operation) String() string {
	switch o {
	case Replace:
		return "replace"
	case Merge:
		return "merge"
	case Delete:
		return "delete"
	case Fail:
		return "fail"
	case Wipe:
		return "wipe"
	case Mark:
		return "mark"
	case Forget:
		return "forget"
	default:
		return "operation " + strconv.Itoa(int(o))
	}
}

// Change is a decided push: what became of one group, or of all for Wipe and Forget (S1, S2). It is a value: it holds no reference to
// anything that changes, and applying it takes no clock, no limit and no setting.
type Change struct {
	Operation Operation
	// Tenant is whose store the group is in (S3). It is empty, and a change of another tenant is refused.
	Tenant string
	// Key is the group; zero for Wipe and Forget.
	Key grouping.Key
	// Seen is the group's version when the change was decided: the position of the last change of it, 0 for none.
	Seen uint64
	// PushedAt and FailedAt are the group's two times after the change, in nanoseconds since the epoch, 0 for never.
	PushedAt, FailedAt int64
	// Reason says why the push at FailedAt was rejected; it may be empty.
	Reason string

	marks     []mark // the group's after the change, also if it is not there then; for Forget the one that is passed
	hidden    string // why the whole group is not exposed
	parts     []part // all of them for Replace, the ones that differ for Merge
	lines     int    // of the parts
	valueSize int    // of the string that the parts' values are cut from
}

// Log makes changes durable. A nil Log is a store in memory.
type Log interface {
	// Append takes the change at its position, which is one more than that of the call before. It is called under the
	// store's lock, in the order in which changes take effect, so it must not block; the change and what it refers to are
	// immutable and may be kept. An error refuses the change, and then nothing of it happens. The function that is
	// returned waits until the change is durable or ctx ends; it may be left uncalled.
	Append(position uint64, c Change) (wait func(ctx context.Context) error, err error)
}
