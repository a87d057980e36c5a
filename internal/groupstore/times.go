package groupstore

import (
	"slices"

	"github.com/prometheus/common/model"

	"pushrelay/internal/exposition"
	"pushrelay/internal/metric"
)

// The two families that every group has. They are made from two numbers per group when they are asked for, and a pushed
// family of one of these names is ignored.
const (
	PushTimeFamily    = "push_time_seconds"
	FailureTimeFamily = "push_failure_time_seconds"

	pushTimeHelp    = "Last Unix time when changing this group in the Pushgateway succeeded."
	failureTimeHelp = "Last Unix time when changing this group in the Pushgateway failed."
)

// timeSkeleton returns the skeleton of one of these families for groups with these label names: one gauge with the
// grouping labels, and an empty instance if there is none among them.
func timeSkeleton(name, help string, names []string, h hasher) *skeleton {
	e := encoder{}
	e.family(metric.Gauge, name, help, "", hasHelp, names, 1)
	slots := make([]slot, 0, len(names)+1)
	for i, n := range names {
		slots = append(slots, slot{name: []byte(n), hole: i})
	}
	if i, ok := slices.BinarySearch(names, model.InstanceLabel); !ok {
		slots = slices.Insert(slots, i, slot{name: []byte(model.InstanceLabel), hole: -1})
	}
	e.metric(slots, nil, false)
	k := newSkeleton(newHeading(string(e.out[:e.headed])), string(e.out[e.headed:]), h)
	k.refs.Store(2) // it is in no table, and many groups use it: its pieces are kept
	return k
}

// isTimeFamily says whether a family of that name is the store's own to make.
func isTimeFamily(name []byte) bool {
	return string(name) == PushTimeFamily || string(name) == FailureTimeFamily
}

// appendSeconds appends a time in nanoseconds since the epoch as the value of a time family.
func appendSeconds(dst []byte, nanoseconds int64) []byte {
	return exposition.AppendFloat(dst, float64(nanoseconds)/1e9)
}
