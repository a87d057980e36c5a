package groupstore

import (
	"fmt"

	"pushrelay/internal/series"
)

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
	for _, st := range s.slots.states {
		if st != nil {
			live++
		}
	}
	return map[string]int{
		"groups": len(s.groups.byKey), "aliases": len(s.groups.aliases), "shadowed": len(s.groups.shadowed), "waiting": len(s.waiting.byName),
		"layouts": len(s.groups.layouts), "accounts": len(s.accounts.byName), "claims": len(s.accounts.claims), "held": s.heldAccounts(), "headings": s.sets.Counts().Headings, "sets": s.sets.Counts().Sets, "families": s.sets.Counts().Families, "slots": live,
		"lines": s.totals.lines, "parts": s.totals.parts, "quarantined": s.waiting.hidden,
		"valueBytes": s.totals.valueBytes, "setBytes": s.sets.Counts().Bytes, "ownBytes": s.sets.Counts().OwnBytes, "groupsBytes": s.groups.bytes,
	}
}

// Waiting returns who waits for what, in the order in which they are looked at.
func (s *Store) Waiting() map[string][]string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	all := map[string][]string{}
	for name, list := range s.waiting.byName {
		for _, w := range list {
			all[name] = append(all[name], w.group.key.String()+" "+w.family)
		}
	}
	for normal, list := range s.groups.shadowed {
		for _, g := range list {
			all["shadowed "+normal] = append(all["shadowed "+normal], g.key.String())
		}
	}
	return all
}

func (s *Store) heldAccounts() (n int) {
	for name := range s.accounts.byName {
		if s.accounts.isHeld(name) {
			n++
		}
	}
	return n
}

// Expiring returns how many groups are on the list of those that expire.
func (s *Store) Expiring() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.lives.expiring)
}

// Indexed says whether the family is checked by an exact index, and how many groups still have to be moved into it.
func (s *Store) Indexed(name string) (indexed bool, pending, sums int) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	x := s.exposed.of(name)
	if x == nil || x.several == nil || x.several.index == nil {
		return false, 0, 0
	}
	index := x.several.index
	return true, len(index.pending), len(index.owner)
}

// Prepared returns how many parts have a set that keeps pieces of output.
func (s *Store) Prepared() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	n := 0
	for _, st := range s.slots.states {
		if st == nil {
			continue
		}
		for i := range st.parts {
			if st.parts[i].set.KeepsPieces() {
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
	for _, st := range s.slots.states {
		if st != nil {
			used += valueBytes(st.parts)
			pinned += st.pinned
		}
	}
	return used, pinned
}

// DecodeEffect reads the record of a change without a store.
func DecodeEffect(b []byte) (position uint64, e Effect, err error) {
	sets := series.NewTable(series.NewHasher())
	return decodeEffect(b, &sets)
}

// SetMaxTraces changes the bounds of traces that are not passed, of one author and of all, and of those that are.
func (s *Store) SetMaxTraces(each, all, remembered, allRemembered int) {
	s.origins.maxTraces, s.origins.maxAllTraces, s.origins.maxRemembered, s.origins.maxAllRemembered = each, all, remembered, allRemembered
}

// Marks returns every mark of every group, every trace, and how far each source was decided. It fails if the tables contradict each
// other.
func (s *Store) Marks() (all map[string]string, err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	all = map[string]string{}
	held, total := map[*source]int{}, 0
	for _, g := range s.groups.byKey {
		for i, m := range g.state.noted().marks {
			all[fmt.Sprintf("%s %d", g.key, i)] = fmt.Sprintf("%s %d %x %v %d", m.source.name, m.sequence, m.digest[:2], m.rejected, m.at)
			held[m.source]++
			total++
			if s.origins.sources[m.source.name] != m.source {
				err = fmt.Errorf("group %v: source %q is not the one of the table", g.key, m.source.name)
			}
			if _, _, left := m.source.traceAt(g.key.Canonical()); left {
				err = fmt.Errorf("group %v has a trace beside the mark of %q", g.key, m.source.name)
			}
		}
	}
	fresh, passed := 0, 0
	for name, src := range s.origins.sources {
		all["source "+name] = fmt.Sprintf("%d %x", src.sequence, src.digest[:2])
		for i, t := range src.traces.fresh {
			all[fmt.Sprintf("trace %s %x", name, uint64(t.key))] = fmt.Sprintf("%d %x %d %v", t.sequence, t.digest>>48, t.at(), t.rejected())
			if place, found := src.traces.places[t.key]; !found || int(place) != i {
				err = fmt.Errorf("a trace of %q is out of place", name)
			}
		}
		for key, t := range src.traces.passed {
			all[fmt.Sprintf("passed %s %x", name, uint64(key))] = fmt.Sprintf("%d %x %d %v", t.sequence, t.digest>>48, t.at(), t.rejected())
		}
		if src.marks != held[src] || len(src.traces.places) != len(src.traces.fresh) || src.marks == 0 && src.traces.isEmpty() || s.origins.authors[authorOf(name)] != src.author {
			err = fmt.Errorf("source %q counts %d marks of %d, %d places of %d", name, src.marks, held[src], len(src.traces.places), len(src.traces.fresh))
		}
		fresh += len(src.traces.fresh)
	}
	for name, a := range s.origins.authors {
		of := 0
		for _, m := range a.remembered {
			if m.isThere() {
				all[fmt.Sprintf("remembered %s %d", name, of)] = fmt.Sprintf("%s %x", m.src.name, uint64(m.key))
				of++
			}
		}
		if of != a.passed || len(a.sources) == 0 {
			err = fmt.Errorf("author %q counts %d remembered of %d", name, a.passed, of)
		}
		passed += of
	}
	if total != s.origins.marks || fresh != s.origins.fresh || passed != s.origins.passed {
		err = fmt.Errorf("%d marks are counted as %d, %d and %d traces as %d and %d", total, s.origins.marks, fresh, passed, s.origins.fresh, s.origins.passed)
	}
	return all, err
}

// Again applies what was decided earlier.
func (s *Store) Again(position uint64, e Effect) error { return s.again(position, e, complete) }

// Remnants returns the keys of the groups that were wiped and of which those who follow may have records.
func (s *Store) Remnants() map[string]int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	all := map[string]int{}
	for _, r := range s.feeds.left {
		all[r.canonical] = len(r.marks)
	}
	return all
}

// SetSettledAtOnce changes how many groups that were wiped are told with each delta.
func (s *Store) SetSettledAtOnce(n int) { s.feeds.settledAtOnce = n }
