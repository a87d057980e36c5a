package groupstore

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
		"layouts": len(s.layouts), "skeletons": len(s.skeletons), "families": len(s.families), "slots": live,
		"lines": s.totals.lines, "parts": s.totals.parts, "quarantined": s.totals.quarantined,
		"valueBytes": s.totals.valueBytes, "skeletonBytes": s.totals.skeletonBytes, "groupsBytes": s.totals.groupsBytes,
	}
}

// Indexed says whether the family is checked by an exact index, and how many groups still have to be moved into it.
func (s *Store) Indexed(name string) (indexed bool, pending, sums int) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	f := s.families[name]
	if f == nil || f.index == nil {
		return false, 0, 0
	}
	return true, len(f.index.pending), len(f.index.owner)
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
	return decodeChange(b, func([]byte) *skeleton { return nil })
}
