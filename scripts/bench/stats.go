package main

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// Samples are the figures of one measurement, one for each round.
type samples []float64

// spread is what is reported of samples.
type spread struct {
	Median float64 `json:"median"`
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
}

// spread returns the median and the extremes; zeros for no samples.
func (s samples) spread() spread {
	if len(s) == 0 {
		return spread{}
	}
	sorted := slices.Sorted(slices.Values(s))
	middle := sorted[len(sorted)/2]
	if len(sorted)%2 == 0 {
		middle = (middle + sorted[len(sorted)/2-1]) / 2
	}
	return spread{Median: middle, Low: sorted[0], High: sorted[len(sorted)-1]}
}

// pairwise compares what was measured in the same round, so that a slow round of the machine counts on both sides.
func (s samples) pairwise(other samples, compare func(a, b float64) float64) samples {
	n := min(len(s), len(other))
	compared := make(samples, n)
	for i := range n {
		compared[i] = compare(s[i], other[i])
	}
	return compared
}

func ratio(a, b float64) float64      { return a / b }
func difference(a, b float64) float64 { return a - b }

// An arm is one of several measurements that are compared.
type arm struct {
	name    string
	measure func(context.Context) (float64, error)
}

// interleave measures the arms in turn: one round that does not count, then the others, every second one backwards, so that
// no arm always follows the same other one. It returns the samples of each arm by its name.
func interleave(ctx context.Context, rounds int, arms []arm) (map[string]samples, error) {
	measured := make(map[string]samples, len(arms))
	for round := -1; round < rounds; round++ {
		for i := range arms {
			a := arms[i]
			if round%2 != 0 {
				a = arms[len(arms)-1-i]
			}
			figure, err := a.measure(ctx)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", a.name, err)
			}
			if round >= 0 {
				measured[a.name] = append(measured[a.name], figure)
			}
		}
	}
	return measured, nil
}

// median returns the one in the middle.
func median(durations []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(durations))
	return sorted[len(sorted)/2]
}
