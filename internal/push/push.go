// Package push is the verb of short-lived jobs: what a push is, who takes one, and the HTTP routes by which one arrives.
//
// The relay and the agent mount the same [Handler]; only the [Pusher] behind it differs: on the relay it stores, on the
// agent it passes on. The package knows neither stores nor tunnels. Start reading at [Request] and [Pusher].
package push

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"time"

	"pushrelay/internal/exposition"
	"pushrelay/internal/grouping"
	"pushrelay/internal/history"
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
	// Fail only notes in the group that a push to it was rejected, by an agent that saw it (T19). It has no body.
	Fail
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
	case Fail:
		return "fail"
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
	// Origin is where the push comes from, so that it is applied exactly once; nil for a push that nobody sends twice.
	Origin *Origin
	// Refused is why whoever carried the push refuses it for good; nil for a push that is to be judged. Of a refused one
	// only the origin is kept: the pusher returns this error once that is durable.
	Refused error
	// Waited says that the agent took the push before the session that carried it began. Another process of its identity, or
	// another copy of its data dir, may have been at work meanwhile: only such a push can be superseded.
	Waited bool
	// Current says whether what carried the push may still change groups (T3); nil for always. The pusher asks again when
	// the push takes effect, under a lock of its own, so the function must neither block nor call the pusher.
	Current func() bool
}

// Origin identifies a push together with the agent's identity, for exactly once (T11, T12).
type Origin struct {
	// Journal is the agent's journal.
	Journal [16]byte
	// Sequence rises strictly within the journal, from 1, with gaps.
	Sequence uint64
	// Digest tells two pushes apart that have the same number, because a journal was copied or restored. It is opaque.
	Digest Digest
}

// Digest stands for a push: what it does, to which group, with which body.
type Digest [16]byte

// DigestOf returns the digest of a push: the first 16 bytes of the SHA-256 of operation, grouping key and body.
func DigestOf(r *Request) Digest {
	h := sha256.New()
	key := r.Key.Canonical()
	h.Write([]byte{byte(r.Operation)})
	h.Write(binary.AppendUvarint(nil, uint64(len(key))))
	h.Write([]byte(key))
	h.Write(r.Body)
	return Digest(h.Sum(nil)[:16])
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
	// Detail says in one line why a push was spooled, or what of one that was taken is not exposed; empty otherwise.
	Detail string
	// Duplicate says that the push had been decided before, and was recognised by its origin; also if that was a refusal, and
	// it is refused again.
	Duplicate bool
	// Decided is the change in the history of the relay's store by which the push was decided, also if it was refused; zero if that
	// is not known. All up to it is durable. The relay's [Pusher] knows the position alone.
	Decided history.Point
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
	// MaxLabels counts the labels of one series, and those of a grouping key.
	MaxLabels int
	// MaxLabelLength is the size in bytes of one label value, and of a name in a grouping key.
	MaxLabelLength int
}

// DefaultLimits returns the limits of relays and agents that were given no others.
func DefaultLimits() Limits {
	return Limits{
		MaxBodyBytes:         16 << 20,
		MaxDecompressedBytes: 64 << 20,
		MaxInflightBytes:     256 << 20,
		MaxSeries:            100_000,
		MaxLabels:            64,
		MaxLabelLength:       16 << 10,
	}
}

// CheckKey refuses a grouping key with more or longer labels than a series may have, before anything is kept of it. What is stored under
// such a key can be deleted all the same: it is not for deletions.
func (l Limits) CheckKey(key grouping.Key) error {
	labels := key.Labels()
	if l.MaxLabels > 0 && len(labels) > l.MaxLabels {
		return Errorf(ErrInvalid, "the grouping key has %d labels, and %d are allowed (--push.max-labels)", len(labels), l.MaxLabels)
	}
	for _, label := range labels {
		if n := max(len(label.Name), len(label.Value)); l.MaxLabelLength > 0 && n > l.MaxLabelLength {
			return Errorf(ErrInvalid, "the label %.64q of the grouping key has %d bytes, and %d are allowed (--push.max-label-length)", label.Name, n, l.MaxLabelLength)
		}
	}
	return nil
}

// Exposition returns the limits that the scanner of bodies applies.
func (l Limits) Exposition() exposition.Limits {
	return exposition.Limits{MaxSeries: l.MaxSeries, MaxLabels: l.MaxLabels, MaxLabelLength: l.MaxLabelLength}
}
