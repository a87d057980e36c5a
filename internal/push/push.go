// Package push is the verb of short-lived jobs: what a push is, who takes one, and the HTTP routes by which one arrives.
//
// The relay and the agent mount the same [Handler]; only the [Pusher] behind it differs: on the relay it stores, on the
// agent it passes on. The package knows neither stores nor tunnels. Start reading at [Request] and [Pusher].
package push

import (
	"context"
	"time"

	"pushrelay/internal/exposition"
	"pushrelay/internal/grouping"
)

// Operation is what a push does with its group.
type Operation uint8

// The operations. The zero value is none of them, so that a forgotten operation is never taken for another.
const (
	// Replace makes the pushed metric families all that the group has (PUT).
	Replace Operation = iota + 1
	// Merge replaces the metric families of the same names and keeps the others (POST).
	Merge
	// Delete removes the group (DELETE).
	Delete
)

// String returns the operation's name for logs and metric labels.
func (o Operation) String() string {
	switch o {
	case Replace:
		return "replace"
	case Merge:
		return "merge"
	case Delete:
		return "delete"
	default:
		return "unknown"
	}
}

// Request is one push.
type Request struct {
	Operation Operation
	// Key is the grouping key as it was pushed, without the agent label.
	Key grouping.Key
	// Format is the exposition format of Body.
	Format exposition.Format
	// Body is the exposition with its content encoding removed; empty for Delete. It is the pusher's to read until Push
	// returns, and never to be changed.
	Body []byte
	// ReceivedAt is when the push arrived: what push_time_seconds will say.
	ReceivedAt time.Time
	// Agent is the identity of the agent that the push came through; empty for a direct push.
	Agent string
}

// Outcome says how a push ended well.
type Outcome uint8

// The outcomes. The zero value is none of them.
const (
	// Applied means that the push is in the relay's store, as durable as that is.
	Applied Outcome = iota + 1
	// Unchecked means applied without the consistency check.
	Unchecked
	// Spooled means that the agent keeps the push until a relay takes it.
	Spooled
)

// Result is the answer to a push that was taken.
type Result struct {
	Outcome Outcome
	// Detail says in one line why a push was spooled; empty otherwise.
	Detail string
}

// Pusher takes pushes.
//
// Push returns when the push's fate is known or ctx ends. It may be called concurrently; calls for one group take effect
// in the order in which they return. An error is an [*Error] if the push was refused for a reason that the pusher can
// name; any other error counts as unavailable. A refused push has changed no metric of any group.
type Pusher interface {
	Push(ctx context.Context, r *Request) (Result, error)
}

// Limits bound what one push, and all pushes together, may cost. A zero means no limit.
type Limits struct {
	// MaxBodyBytes is the size of a body as it travels.
	MaxBodyBytes int64
	// MaxDecompressedBytes is the size of a body with its content encoding removed.
	MaxDecompressedBytes int64
	// MaxInflightBytes is the sum of all decompressed bodies held at once.
	MaxInflightBytes int64
	// MaxSeries counts the exposition lines of one push.
	MaxSeries int
	// MaxLabels counts the labels of one series.
	MaxLabels int
	// MaxLabelLength is the size of one label value in bytes.
	MaxLabelLength int
}

// Exposition returns the limits that the scanner of bodies applies.
func (l Limits) Exposition() exposition.Limits {
	return exposition.Limits{MaxSeries: l.MaxSeries, MaxLabels: l.MaxLabels, MaxLabelLength: l.MaxLabelLength}
}
