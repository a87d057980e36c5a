package groupstore

import (
	"pushrelay/internal/change"
	"pushrelay/internal/series"
)

// duplicate finds a group of another shape that exposes a series which the family would expose, too.
func (t *trial) duplicate(k *series.Set) *hiding {
	x := t.s.exposed.of(k.Name())
	if x == nil || t.others(x, k.Name()) <= 0 {
		return nil
	}
	if x.several == nil {
		return t.tryShape(k, x.shape)
	}
	index := x.several.index
	if index == nil {
		return t.tryShapes(k, x.several.counts)
	}
	for _, sum := range k.Sums() {
		t.s.probes++
		for _, owner := range index.owners(sum + t.g.sum) {
			if h := t.sharedWith(k, owner); h != nil {
				return h
			}
		}
	}
	return t.tryShapes(k, index.unmoved)
}

func (t *trial) tryShapes(k *series.Set, shapes []shapeCount) *hiding {
	for i := range shapes {
		if h := t.tryShape(k, shapes[i].shape); h != nil {
			return h
		}
	}
	return nil
}

// tryShape looks among the groups of one shape for the owner of a series of k.
//
// The labels that such an owner must have come from the key where it has them, and otherwise from the series; only if the
// series differ in them is there more than one group to look up.
func (t *trial) tryShape(k *series.Set, shape *shape) *hiding {
	if shape.equal(t.g.layout.shape) {
		return nil
	}
	t.s.probes++
	missing := false
	for _, name := range shape.names {
		if t.g.label(name) != "" {
			continue
		}
		if !mayHave(k, name) {
			return nil
		}
		missing = true
	}
	if !missing {
		return t.tryOwner(k, t.ownerKey(shape.names, nil))
	}
	last := ""
	for values := range k.LabelValues(shape.names) {
		key := t.ownerKey(shape.names, values)
		if key == "" || key == last {
			continue
		}
		if h := t.tryOwner(k, key); h != nil {
			return h
		}
		last = key
	}
	return nil
}

// mayHave says whether some series of the set has a pushed label of that name that is not empty.
func mayHave(k *series.Set, name string) bool {
	for range k.Labelled(name) {
		return true
	}
	return false
}

// ownerKey returns the normal key of the one group with labels of these names that could hold a series whose own labels have these values, or
// nothing if it lacks one of them. Without values all values come from the trial's own group.
func (t *trial) ownerKey(names, values []string) string {
	key := make([]byte, 0, 64)
	for i, name := range names {
		value := t.g.label(name)
		if value == "" && values != nil {
			value = values[i]
		}
		if value == "" {
			return ""
		}
		if len(key) > 0 {
			key = append(key, separator...)
		}
		key = append(append(append(key, name...), separator...), value...)
	}
	return string(key)
}

// tryOwner compares the family with that of the group with the given normal key, first by hashes.
func (t *trial) tryOwner(k *series.Set, normal string) *hiding {
	t.s.probes++
	owner := t.s.groups.exposed(normal)
	if owner == nil {
		return nil
	}
	p := owner.state.find(k.Name())
	if p == nil || p.hidden != nil {
		return nil
	}
	small, big, difference := k, p.set, t.g.sum-owner.sum
	if len(small.Sums()) > len(big.Sums()) {
		small, big, difference = big, small, -difference
	}
	for _, sum := range small.Sums() {
		t.s.probes++
		if big.ContainsSum(sum + difference) {
			return t.sharedWith(k, owner)
		}
	}
	return nil
}

// sharedWith finds out exactly whether the family holds a series that the owner exposes. It takes time proportional to both,
// and is asked only when hashes are equal, which all but proves that there is one.
func (t *trial) sharedWith(k *series.Set, owner *group) *hiding {
	p := owner.state.find(k.Name())
	if p == nil || p.hidden != nil || owner.key == t.g.key || t.ousts(owner, k.Name()) {
		return nil
	}
	if metric, ok := k.Shared(t.g.key, p.set, owner.key); ok && t.isInTheWay(owner) {
		return &hiding{name: k.Name(), by: owner, reason: k.Describe(metric) + series.CollectedBefore + "," + change.InGroup(owner.key)}
	}
	return nil
}
