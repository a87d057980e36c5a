package target

import "fmt"

// Bounds of what one agent may announce: the registry of many agents, its file and /sd/targets, which everybody reads, stay small. Bytes
// are those of the texts: name, job, instance, address, scheme, path and labels.
const (
	// MaxTargets bounds the targets of a set.
	MaxTargets = 20000
	// MaxTargetBytes bounds one target.
	MaxTargetBytes = 16 << 10
	// MaxSetBytes bounds all targets of a set.
	MaxSetBytes = 4 << 20
)

// Count counts a set while it is collected. The zero value is an empty set.
type Count struct{ targets, bytes int }

// Add adds a target of so many bytes and labels, and returns an error that says which bound is passed.
func (c *Count) Add(bytes, labels int) error {
	switch {
	case labels > maxLabels:
		return fmt.Errorf("a target has %d labels, at most %d are allowed", labels, maxLabels)
	case bytes > MaxTargetBytes:
		return fmt.Errorf("a target has %d bytes of texts and labels, at most %d are allowed", bytes, MaxTargetBytes)
	}
	c.targets++
	c.bytes += bytes
	switch {
	case c.targets > MaxTargets:
		return fmt.Errorf("there are more than %d targets", MaxTargets)
	case c.bytes > MaxSetBytes:
		return fmt.Errorf("the targets have more than %d bytes of texts and labels", MaxSetBytes)
	}
	return nil
}

// Bytes returns how much of the bounds the target takes.
func (t *Target) Bytes() int {
	bytes := len(t.Name) + len(t.Job) + len(t.Instance) + len(t.Address) + len(t.Scheme) + len(t.MetricsPath)
	for _, l := range t.Labels {
		bytes += len(l.Name) + len(l.Value)
	}
	return bytes
}
