// Package push is the verb of short-lived jobs: the HTTP routes by which one arrives, and who takes it.
//
// The relay and the agent mount the same [Handler]; only the [Applier] behind it differs: on the relay it stores, on the
// agent it passes on. The package knows neither stores nor tunnels. Start reading at [Handler] and [Applier].
package push

import (
	"context"

	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	"pushrelay/internal/grouping"
)

// Applier takes pushes.
//
// Apply returns when the fate of a push is known or ctx ends. It may be called concurrently; calls for one group take effect
// in the order in which they return. What was not taken has changed no metric of any group.
type Applier interface {
	Apply(ctx context.Context, c *change.Change) change.Outcome
}

// CheckKey refuses a grouping key with more or longer labels than a series may have, before anything is kept of it. What is stored under
// such a key can be deleted all the same: it is not for deletions.
func CheckKey(key grouping.Key, l exposition.Limits) error {
	labels := key.Labels()
	if l.MaxLabels > 0 && len(labels) > l.MaxLabels {
		return change.Refuse(change.Invalid, "the grouping key has %d labels, and %d are allowed (--push.max-labels)", len(labels), l.MaxLabels)
	}
	for _, label := range labels {
		if n := max(len(label.Name), len(label.Value)); l.MaxLabelLength > 0 && n > l.MaxLabelLength {
			return change.Refuse(change.Invalid, "the label %.64q of the grouping key has %d bytes, and %d are allowed (--push.max-label-length)", label.Name, n, l.MaxLabelLength)
		}
	}
	return nil
}
