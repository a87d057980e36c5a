package groupstore

import "slices"

// duplicate finds a group of another shape that exposes a series which the family would expose, too.
func (t *trial) duplicate(k *skeleton) *hiding {
	f := familyOf(&t.s.families, k.name())
	if f == nil || t.others(f) <= 0 {
		return nil
	}
	if f.several == nil {
		return t.tryShape(k, f.shape)
	}
	index := f.several.index
	if index == nil {
		return t.tryShapes(k, f.several.counts)
	}
	for _, sum := range k.sums() {
		t.s.probes++
		for _, owner := range index.owners(sum + t.g.sum) {
			if h := t.sharedWith(k, owner); h != nil {
				return h
			}
		}
	}
	return t.tryShapes(k, index.unmoved)
}

func (t *trial) tryShapes(k *skeleton, shapes []shapeCount) *hiding {
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
func (t *trial) tryShape(k *skeleton, shape *shape) *hiding {
	if shape.equal(t.g.layout.shape) {
		return nil
	}
	t.s.probes++
	missing := false
	for _, name := range shape.names {
		if t.g.label(name) != "" {
			continue
		}
		if !k.mayHave(name) {
			return nil
		}
		missing = true
	}
	if !missing {
		return t.tryOwner(k, t.ownerKey(shape.names, nil))
	}
	last := ""
	for r := k.read(); r.next(); {
		key := t.ownerKey(shape.names, r)
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

// mayHave says whether some series of the skeleton has a pushed label of that name that is not empty.
func (k *skeleton) mayHave(name string) bool {
	r := k.read()
	if !k.mixed && !slices.ContainsFunc(r.labels, func(l labelSlot) bool { return l.name == name }) {
		return false
	}
	for r.next() {
		if r.literal(name) != "" {
			return true
		}
	}
	return false
}

// ownerKey returns the normal key of the one group with labels of these names that could hold the reader's series, or
// nothing if the series lacks one of them. Without a reader all values come from the trial's own group.
func (t *trial) ownerKey(names []string, r *reader) string {
	key := make([]byte, 0, 64)
	for _, name := range names {
		value := t.g.label(name)
		if value == "" {
			value = r.literal(name)
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

// literal returns the value of the current metric's pushed label of that name, empty if it has none.
func (r *reader) literal(name string) string {
	for i, l := range r.labels {
		if l.hole < 0 && l.name == name {
			return r.values[i]
		}
	}
	return ""
}

// tryOwner compares the family with that of the group with the given normal key, first by hashes.
func (t *trial) tryOwner(k *skeleton, normal string) *hiding {
	t.s.probes++
	owner := t.s.owner(normal)
	if owner == nil {
		return nil
	}
	p := owner.state.find(k.name())
	if p == nil || p.hidden != nil {
		return nil
	}
	small, big, difference := k, p.skeleton, t.g.sum-owner.sum
	if len(small.sums()) > len(big.sums()) {
		small, big, difference = big, small, -difference
	}
	for _, sum := range small.sums() {
		t.s.probes++
		if big.contains(sum + difference) {
			return t.sharedWith(k, owner)
		}
	}
	return nil
}

// owner returns the group that is exposed under a normal key, or nil.
func (s *Store) owner(normal string) *group {
	if g := s.groups[normal]; g != nil && g.state != nil && g.state.hidden() == "" { // without a state it is about to leave
		return g
	}
	return s.aliases[normal]
}

// sharedWith finds out exactly whether the family holds a series that the owner exposes. It takes time proportional to both,
// and is asked only when hashes are equal, which all but proves that there is one.
func (t *trial) sharedWith(k *skeleton, owner *group) *hiding {
	p := owner.state.find(k.name())
	if p == nil || p.hidden != nil || owner.key == t.g.key || t.ousts(owner, k.name()) {
		return nil
	}
	theirs := make(map[string]struct{}, p.skeleton.metrics)
	var id []byte
	for r := p.skeleton.read(); r.next(); {
		id = r.appendSeries(id[:0], owner)
		theirs[string(id)] = struct{}{}
	}
	for r := k.read(); r.next(); {
		id = r.appendSeries(id[:0], t.g)
		if _, ok := theirs[string(id)]; ok {
			return &hiding{name: k.name(), by: owner, reason: describe(k, t.g, r.metric) + collectedBefore}
		}
	}
	return nil
}

// appendSeries appends all labels of the current metric that are not empty, in a form that tells different series apart.
func (r *reader) appendSeries(dst []byte, g *group) []byte {
	for i, l := range r.labels {
		value := r.values[i]
		if l.hole >= 0 {
			value = g.label(l.name)
		}
		if value != "" {
			dst = appendText(dst, l.name)
			dst = appendText(dst, value)
		}
	}
	return dst
}
