package series

import (
	"cmp"
	"slices"
	"strconv"

	"pushrelay/internal/exposition"
	"pushrelay/internal/metric"
)

// CheckOwn returns what is wrong with a body, for people, because of the metric families that the relay itself exposes, whose types own has by
// name (S17); empty if nothing is. As [Check] it tells of ten families.
//
// The body is one that [Check] found no fault in.
func CheckOwn(b *exposition.Body, own map[string]metric.Type) (fault string) {
	if len(own) == 0 {
		return ""
	}
	typeOf := func(name string) (metric.Type, bool) {
		t, ok := own[name]
		return t, ok
	}
	type found struct{ name, fault string }
	var all []found
	for i := range b.Families {
		f := &b.Families[i]
		should, isOwn := own[string(f.Name)]
		_, _, hasSuffix := metric.CutSuffix(f.Name)
		if !isOwn && !hasSuffix && f.Type.Simple() || isTimeFamily(f.Name) {
			continue // nearly all
		}
		name := string(f.Name)
		_, fault := SuffixClash(name, f.Type, typeOf)
		if isOwn && should != f.Type {
			fault = OtherType(name, f.Type, should)
		}
		if fault != "" {
			all = append(all, found{name, fault})
		}
	}
	slices.SortFunc(all, func(a, b found) int { return cmp.Compare(a.name, b.name) })
	var faults exposition.Faults
	for _, of := range all {
		faults.Add(of.fault)
	}
	return faults.String()
}

// OtherType says that a family of the relay itself has another type than a pushed one of that name.
func OtherType(name string, pushed, own metric.Type) string {
	return "gathered metric family " + exposition.Shown(name) + " has type " + pushed.Protobuf() + " but should have " + own.Protobuf()
}

// SuffixClash finds a family whose series have names that one of this name and type would have, or whose names the series of this one would have,
// because histograms and summaries are exposed with suffixes. It returns the other family and what is wrong, or nothing. typeOf is as in
// [suffixedBy].
func SuffixClash(name string, typ metric.Type, typeOf func(name string) (metric.Type, bool)) (other, fault string) {
	if base, of, ok := suffixedBy(name, typeOf); ok {
		return base, clash(name, base, of)
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
