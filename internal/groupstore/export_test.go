package groupstore

import "fmt"

// Probes returns how many look-ups the consistency check has made.
func (s *Store) Probes() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.probes
}

// Tables returns the sizes of all tables of the store.
func (s *Store) Tables() map[string]int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	live := 0
	for _, st := range s.slots {
		if st != nil {
			live++
		}
	}
	return map[string]int{
		"groups": len(s.groups), "aliases": len(s.aliases), "twins": len(s.twins), "waiting": len(s.waiting),
		"layouts": len(s.layouts), "headings": s.totals.headings, "skeletons": s.totals.skeletons, "families": s.families.len, "slots": live,
		"lines": s.totals.lines, "parts": s.totals.parts, "quarantined": s.totals.quarantined,
		"valueBytes": s.totals.valueBytes, "skeletonBytes": s.totals.skeletonBytes, "ownBytes": s.totals.ownBytes, "groupsBytes": s.totals.groupsBytes,
	}
}

// Indexed says whether the family is checked by an exact index, and how many groups still have to be moved into it.
func (s *Store) Indexed(name string) (indexed bool, pending, sums int) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	f := familyOf(&s.families, name)
	if f == nil || f.several == nil || f.several.index == nil {
		return false, 0, 0
	}
	index := f.several.index
	return true, len(index.pending), len(index.owner)
}

// Prepared returns how many parts have a skeleton that keeps pieces of output.
func (s *Store) Prepared() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	n := 0
	for _, st := range s.slots {
		if st == nil {
			continue
		}
		for i := range st.parts {
			if st.parts[i].skeleton.renditions.Load() != nil {
				n++
			}
		}
	}
	return n
}

// ValueBytes returns the bytes of values that the groups use and those that they keep from being freed.
func (s *Store) ValueBytes() (used, pinned int) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, st := range s.slots {
		if st != nil {
			used += valueBytes(st.parts)
			pinned += st.pinned
		}
	}
	return used, pinned
}

// DecodeChange reads the record of a change without a store.
func DecodeChange(b []byte) (position uint64, c Change, err error) {
	return decodeChange(b, func(_, _ []byte) (*heading, *skeleton) { return nil, nil })
}

// SetMaxDeletions changes the bounds of what is remembered of deletions, of one author and of all.
func (s *Store) SetMaxDeletions(each, all int) { s.maxDeletions, s.maxAllDeletions = each, all }

// SetMaxTombstones changes the bound.
func (s *Store) SetMaxTombstones(n int) { s.maxTombstones = n }

// Marks returns every mark of every group that is there ("+") or is not ("-"), and how far each source was decided. It
// fails if the tables contradict each other.
func (s *Store) Marks() (all map[string]string, err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	all = map[string]string{}
	held, buried, total, bytes := map[*source]int{}, map[*source]int{}, 0, 0
	describe := func(name string, marks []mark) {
		for i, m := range marks {
			all[fmt.Sprintf("%s %d", name, i)] = fmt.Sprintf("%s %d %x %v %d", m.source.name, m.sequence, m.digest[:2], m.rejected, m.at)
			held[m.source]++
			if s.sources[m.source.name] != m.source {
				err = fmt.Errorf("%s: source %q is not the one of the table", name, m.source.name)
			}
		}
		total += len(marks)
	}
	for _, g := range s.groups {
		describe("+"+g.key.String(), g.state.noted().marks)
		if s.tombstones[g.key.Canonical()] != nil {
			err = fmt.Errorf("group %v has a tombstone", g.key)
		}
	}
	for key, t := range s.tombstones {
		describe("-"+key, t.marks)
		bytes += len(key)
		if s.tombs[t.slot] != t || len(t.marks) == 0 {
			err = fmt.Errorf("tombstone %q is out of place", key)
		}
		for i, m := range t.marks {
			buried[m.source]++
			if g := m.source.graves[t.places[i]]; g.t != t || g.mark != i || g.sequence != m.sequence {
				err = fmt.Errorf("tombstone %q is in the wrong grave", key)
			}
		}
	}
	remembered := 0
	for name, of := range s.deletions {
		for key, d := range of.byKey {
			all[fmt.Sprintf("deletion %s %x", name, key[:4])] = fmt.Sprintf("%s %d %d", d.source, d.sequence, d.at)
			remembered++
		}
	}
	if remembered != s.deleted {
		err = fmt.Errorf("%d deletions are counted as %d", remembered, s.deleted)
	}
	for name, src := range s.sources {
		all["source "+name] = fmt.Sprintf("%d %x", src.sequence, src.digest[:2])
		if src.marks != held[src] || src.marks == 0 || len(src.graves) != buried[src] {
			err = fmt.Errorf("source %q counts %d marks of %d, %d graves of %d", name, src.marks, held[src], len(src.graves), buried[src])
		}
	}
	if total != s.marks || len(s.tombs) != len(s.tombstones) || bytes != s.tombBytes {
		err = fmt.Errorf("%d marks counted as %d, %d tombstones as %d of %d bytes as %d", total, s.marks, len(s.tombstones), len(s.tombs), bytes, s.tombBytes)
	}
	return all, err
}
