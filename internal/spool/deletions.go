package spool

import "pushrelay/internal/change"

// maxDeletions bounds the deletions that are kept after all relays have decided them; the oldest go first. They take memory and
// [Config].MaxBytes as other changes do, and make room for whatever else needs it.
const maxDeletions = 10000

// deletions are those that are kept: a store that was put back to an older copy, or made from a backup, may have the groups again. It
// is guarded by Spool.mu.
type deletions struct {
	order []*entry // as they were decided; those that are not kept any more are skipped
	count int
}

// keep keeps a deletion that nobody has to decide any more.
func (s *Spool) keep(c *entry) {
	if c.operation != change.Delete || c.undecided != 0 || c.kept {
		return
	}
	c.kept = true
	s.deletions.order = append(s.deletions.order, c)
	s.deletions.count++
}

// release ends the keeping of a change: it is sent again, or it goes.
func (s *Spool) release(c *entry) {
	if !c.kept {
		return
	}
	c.kept = false
	s.deletions.count--
}

// dropOldestDeletion drops the deletion that has been kept for the longest time. There must be one.
func (s *Spool) dropOldestDeletion() {
	for {
		c := s.deletions.order[0]
		s.deletions.order[0] = nil
		s.deletions.order = s.deletions.order[1:]
		if c.kept {
			s.remove(c)
			return
		}
	}
}

// trimDeletions drops those beyond the bounds. Nothing may hold on to a group's list of changes meanwhile.
func (s *Spool) trimDeletions() {
	for s.deletions.count > maxDeletions || s.deletions.count > 0 && s.cfg.MaxBytes > 0 && s.bytes > s.cfg.MaxBytes {
		s.dropOldestDeletion()
	}
	if len(s.deletions.order) <= 2*s.deletions.count+16 {
		return
	}
	kept := make([]*entry, 0, s.deletions.count)
	for _, c := range s.deletions.order {
		if c.kept {
			kept = append(kept, c)
		}
	}
	s.deletions.order = kept
}

// deletedGroups counts the groups of which only a deletion is left that all relays have decided.
func (s *Spool) deletedGroups() int {
	n := 0
	for _, c := range s.deletions.order {
		if c.kept && len(c.group.changes) == 1 {
			n++
		}
	}
	return n
}
