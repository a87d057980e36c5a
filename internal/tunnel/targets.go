package tunnel

import (
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/target"
)

// TargetSets splits a set into the parts in which it travels; at least one part.
func TargetSets(set target.Set) []*relayv1.TargetSet {
	var parts []*relayv1.TargetSet
	targets := set.Targets
	for {
		n := min(len(targets), TargetsPerMessage)
		part := &relayv1.TargetSet{More: n < len(targets), Complete: completenessToProto(set.Completeness)}
		for _, t := range targets[:n] {
			part.Targets = append(part.Targets, targetToProto(t))
		}
		parts = append(parts, part)
		if targets = targets[n:]; len(targets) == 0 {
			return parts
		}
	}
}

// Targets returns the targets of one part. They are not validated.
func Targets(part *relayv1.TargetSet) []target.Target {
	out := make([]target.Target, 0, len(part.GetTargets()))
	for _, p := range part.GetTargets() {
		out = append(out, targetFromProto(p))
	}
	return out
}

func completenessToProto(c target.Completeness) *bool {
	if c == target.Unsaid {
		return nil
	}
	complete := c == target.Complete
	return &complete
}

// Completeness returns what the last part of a set says of the whole.
func Completeness(last *relayv1.TargetSet) target.Completeness {
	switch {
	case last == nil || last.Complete == nil:
		return target.Unsaid
	case last.GetComplete():
		return target.Complete
	default:
		return target.Incomplete
	}
}

func targetToProto(t target.Target) *relayv1.Target {
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
