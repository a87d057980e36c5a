package tunnel

import (
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/target"
)

// partBytes keeps a part of a set below [MaxMessageBytes], with all that goes around its texts.
const partBytes = MaxMessageBytes / 2

// TargetSets splits a set into the parts in which it travels; at least one part.
func TargetSets(set target.Set) []*relayv1.TargetSet {
	part := &relayv1.TargetSet{Complete: completenessToProto(set.Completeness)}
	parts, bytes := []*relayv1.TargetSet{part}, 0
	for i := range set.Targets {
		t := &set.Targets[i]
		if bytes += t.Bytes(); len(part.Targets) == TargetsPerMessage || bytes > partBytes && len(part.Targets) > 0 {
			part.More = true
			part = &relayv1.TargetSet{Complete: completenessToProto(set.Completeness)}
			parts, bytes = append(parts, part), t.Bytes()
		}
		part.Targets = append(part.Targets, targetToProto(t))
	}
	return parts
}

// A TargetCollector takes the parts of a set. Nothing is kept of what passes the bounds of a set, nor of the parts after it. The zero
// value has no parts.
type TargetCollector struct {
	targets []target.Target
	count   target.Count
	clamped int
	err     error
}

// Add takes a part.
func (c *TargetCollector) Add(part *relayv1.TargetSet) {
	for _, p := range part.GetTargets() {
		if c.err != nil {
			return
		}
		if c.err = c.count.Add(bytesOf(p), len(p.GetLabels())); c.err != nil {
			c.targets = nil
			return
		}
		c.targets = append(c.targets, c.convert(p))
	}
}

// Take returns the set of which this is the last part, with the times of clamped targets brought within bounds, and forgets all parts.
// The error says which bound the set passes; the targets are not validated otherwise.
func (c *TargetCollector) Take(last *relayv1.TargetSet) (set target.Set, clamped int, err error) {
	c.Add(last)
	set, clamped, err = target.Set{Targets: c.targets, Completeness: completenessFromProto(last)}, c.clamped, c.err
	*c = TargetCollector{}
	return set, clamped, err
}

func (c *TargetCollector) convert(p *relayv1.Target) target.Target {
	t := targetFromProto(p)
	interval, timeout := target.ClampTimes(t.ScrapeInterval, t.ScrapeTimeout)
	if interval != t.ScrapeInterval || timeout != t.ScrapeTimeout {
		c.clamped++
	}
	t.ScrapeInterval, t.ScrapeTimeout = interval, timeout
	return t
}

// bytesOf is [target.Target.Bytes] before anything is made of what came.
func bytesOf(p *relayv1.Target) int {
	bytes := len(p.GetName()) + len(p.GetJob()) + len(p.GetInstance()) + len(p.GetAddress()) + len(p.GetScheme()) + len(p.GetMetricsPath())
	for _, l := range p.GetLabels() {
		bytes += len(l.GetName()) + len(l.GetValue())
	}
	return bytes
}

func completenessToProto(c target.Completeness) *bool {
	if c == target.Unsaid {
		return nil
	}
	complete := c == target.Complete
	return &complete
}

// completenessFromProto returns what the last part of a set says of the whole.
func completenessFromProto(last *relayv1.TargetSet) target.Completeness {
	switch {
	case last == nil || last.Complete == nil:
		return target.Unsaid
	case last.GetComplete():
		return target.Complete
	default:
		return target.Incomplete
	}
}

func targetToProto(t *target.Target) *relayv1.Target {
	p := &relayv1.Target{
		Name: t.Name, Job: t.Job, Instance: t.Instance, Address: t.Address, Scheme: t.Scheme, MetricsPath: t.MetricsPath,
		ScrapeInterval: durationToProto(t.ScrapeInterval), ScrapeTimeout: durationToProto(t.ScrapeTimeout),
	}
	for _, l := range t.Labels {
		p.Labels = append(p.Labels, &relayv1.Label{Name: l.Name, Value: l.Value})
	}
	return p
}

func targetFromProto(p *relayv1.Target) target.Target {
	t := target.Target{
		Name: p.GetName(), Job: p.GetJob(), Instance: p.GetInstance(), Address: p.GetAddress(), Scheme: p.GetScheme(),
		MetricsPath: p.GetMetricsPath(), ScrapeInterval: p.GetScrapeInterval().AsDuration(), ScrapeTimeout: p.GetScrapeTimeout().AsDuration(),
	}
	if n := len(p.GetLabels()); n > 0 {
		t.Labels = make([]target.Label, 0, n)
	}
	for _, l := range p.GetLabels() {
		t.Labels = append(t.Labels, target.Label{Name: l.GetName(), Value: l.GetValue()})
	}
	return t
}

// durationToProto leaves a duration that is not set unset.
func durationToProto(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}
