package series

import (
	"strconv"

	"pushrelay/internal/exposition"
	"pushrelay/internal/metric"
)

// OtherType says that a family of the relay itself has another type than a pushed one of that name.
func OtherType(name string, pushed, own metric.Type) string {
	return "gathered metric family " + exposition.Shown(name) + " has type " + pushed.Protobuf() + " but should have " + own.Protobuf()
}

// SuffixClash finds a family whose series have names that one of this name and type would have, or whose names the series of this one would have,
// because histograms and summaries are exposed with suffixes. It returns the other family and what is wrong, or nothing. typeOf is as in
// [SuffixedBy].
func SuffixClash(name string, typ metric.Type, typeOf func(name string) (metric.Type, bool)) (other, fault string) {
	if base, of, ok := SuffixedBy(name, typeOf); ok {
		return base, Clash(name, base, of)
	}
	if typ.Simple() {
		return "", ""
	}
	for _, role := range [...]metric.Role{metric.CountLine, metric.SumLine, metric.BoundLine} {
		suffix := typ.Suffix(role)
		if suffix == "" {
			continue
		}
		if _, ok := typeOf(name + suffix); ok {
			return name + suffix, "collected histogram or summary named " + strconv.Quote(exposition.Shown(name)) +
				" collides with previously collected metric named " + strconv.Quote(exposition.Shown(name)+suffix)
		}
	}
	return "", ""
}
