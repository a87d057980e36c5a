package groupstore

import "crypto/sha256"

// maxDeletions bounds the deletions that are remembered of one author, and maxAllDeletions those of all. Beyond it the oldest of
// the author go.
const (
	maxDeletions    = 4096
	maxAllDeletions = 1 << 18
)

// A deletion is what is left of a tombstone when its marks are forgotten: what the author did there last. The author itself will never
// send anything older; a copy of it that was put back may, and shall not bring back what was deleted. It is immutable.
type deletion struct {
	key      deletionKey
	source   string
	sequence uint64
	at       int64 // nanoseconds since the epoch
}

// A deletionKey stands for a grouping key of whatever length: the beginning of the SHA-256 of its canonical form.
type deletionKey [16]byte

func keyOfDeletion(canonical string) deletionKey {
	sum := sha256.Sum256([]byte(canonical))
	return deletionKey(sum[:16])
}

// deletions are those of one author. They are guarded by Store.mu.
type deletions struct {
	byKey map[deletionKey]*deletion
	order []*deletion // as they came; those that are not in byKey any more are gone
}

// noteDeletion remembers what the mark of a tombstone says that is about to be forgotten.
func (s *Store) noteDeletion(canonical string, m mark) {
	if m.at == 0 {
		return
	}
	d := &deletion{key: keyOfDeletion(canonical), source: m.source.name, sequence: m.sequence, at: m.at}
	if all := s.deletions[author(d.source)]; all != nil && all.byKey[d.key] != nil && all.byKey[d.key].at >= d.at {
		return
	}
	s.addDeletion(d)
}

func (s *Store) addDeletion(d *deletion) {
	name := author(d.source)
	all := s.deletions[name]
	if all == nil {
		all = &deletions{byKey: make(map[deletionKey]*deletion)}
		s.deletions[name] = all
	}
	s.deleted -= len(all.byKey)
	all.byKey[d.key] = d
	all.order = append(all.order, d)
	others := s.deleted
	for n := len(all.byKey); n > 0 && (n > s.maxDeletions || others+n > s.maxAllDeletions); n = len(all.byKey) {
		all.dropOldest()
	}
	s.deleted += len(all.byKey)
	s.tidy(name, all)
}

// dropOldest drops the deletion that came first, if it is not gone already.
func (all *deletions) dropOldest() {
	oldest := all.order[0]
	all.order = all.order[1:]
	if all.byKey[oldest.key] == oldest {
		delete(all.byKey, oldest.key)
	}
}

// tidy drops an author that has none, and takes those out of the order that are gone, once they are half of it.
func (s *Store) tidy(name string, all *deletions) {
	if len(all.byKey) == 0 {
		delete(s.deletions, name)
	}
	if len(all.order) <= 2*len(all.byKey)+8 {
		return
	}
	live := make([]*deletion, 0, len(all.byKey))
	for _, d := range all.order {
		if all.byKey[d.key] == d {
			live = append(live, d)
		}
	}
	all.order = live
}

// dropDeletion forgets that a group was deleted that is there again, if its marks say as much.
func (s *Store) dropDeletion(canonical string, marks []mark) {
	if s.deleted == 0 {
		return
	}
	key := keyOfDeletion(canonical)
	for _, m := range marks {
		name := author(m.source.name)
		all := s.deletions[name]
		if all == nil || all.byKey[key] == nil || all.byKey[key].at > m.at {
			continue
		}
		delete(all.byKey, key)
		s.deleted--
		s.tidy(name, all)
	}
}

// deletedAfter says whether the author has deleted the group after the push, which waited, as far as that is remembered. In the same
// numbering a higher number is newer whatever the clocks say.
func (s *Store) deletedAfter(d *draft) bool {
	all := s.deletions[author(d.origin.Source)]
	if all == nil {
		return false
	}
	last := all.byKey[keyOfDeletion(d.key.Canonical())]
	return last != nil && last.at > d.at && (last.source != d.origin.Source || last.sequence >= d.origin.Sequence)
}

// allDeletions returns those of all authors.
func (s *Store) allDeletions() []*deletion {
	found := make([]*deletion, 0, s.deleted)
	for _, all := range s.deletions {
		for _, d := range all.order {
			if all.byKey[d.key] == d {
				found = append(found, d)
			}
		}
	}
	return found
}
