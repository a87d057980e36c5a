package ledger

import (
	"bytes"
	"maps"
	"slices"
	"time"
)

// PutBack has the ledger of a data dir say what a backup's says as well, and returns what it says then. One that the data dir has is joined with it, as
// join does; one that got lost is that of the backup. The error is a [*LockedError] while another process has it open, or a [*DamagedError]; nothing
// was changed then.
func PutBack(cfg Config, backup *State, now time.Time) (*State, error) {
	lock, err := cfg.takeLock()
	if err != nil {
		return nil, err
	}
	own := NewState()
	if isThere(cfg.Dir, fileName) {
		own, err = Read(cfg.Dir)
	}
	f := &fileJournal{cfg: cfg, lock: lock}
	defer f.Close() //nolint:errcheck // What was written is on the disk.
	if err != nil {
		return nil, err
	}
	if f.state, err = join(own, backup, now); err != nil {
		return nil, err
	}
	if f.state == own {
		return own, nil
	}
	return f.state, f.replace(f.state.Records())
}

// join returns what two ledgers say together: the one of a data dir, and that of a backup, which may be older or newer, or of another relay. Neither may
// change meanwhile.
//
// If one has all that the other has, it is that one. Otherwise it has the records of both, each once, in the order that they have in either. Each may lack
// some because they were over, or because it never had them, which cannot be told. So the careful one of the two counts:
//
//   - What one refuses by a revocation that the other does not have stays refused, also what the other issued or allowed. What was renewed from a certificate
//     that the first one lets in is let in.
//   - A token that only the backup has is void, and so is one of the data dir that the backup does not have, although it has what was noted after it.
func join(own, backup *State, now time.Time) (*State, error) {
	mine, err := halfOf(own)
	if err != nil {
		return nil, err
	}
	other, err := halfOf(backup)
	switch {
	case err != nil:
		return nil, err
	case other.isPartOf(mine):
		return own, nil
	case mine.isPartOf(other):
		return backup, nil
	}
	joined := NewState()
	joined.Begin(merged(mine, other))
	for _, one := range [][2]*half{{mine, other}, {other, mine}} {
		if err := joined.keepOut(one[0], one[1]); err != nil {
			return nil, err
		}
	}
	joined.voidDoubtful(other, mine, len(other.records), now)
	joined.voidDoubtful(mine, other, mine.knownThrough(other), now)
	return joined, nil
}

// A half is one of two ledgers that are joined.
type half struct {
	*State

	texts  []string       // of the records, in their order
	places map[string]int // by texts, the index of the last record that has it
}

func halfOf(s *State) (*half, error) {
	lines, err := EncodeRecords(s.records)
	if err != nil {
		return nil, err
	}
	h := &half{State: s, places: make(map[string]int, len(s.records))}
	for line := range bytes.Lines(lines) {
		h.places[string(line)] = len(h.texts)
		h.texts = append(h.texts, string(line))
	}
	return h, nil
}

// has reports whether it has the record which is at a place of the other one's state.
func (h *half) has(other *half, place int) bool {
	_, has := h.places[other.texts[place-1]]
	return has
}

// isPartOf reports whether the other one has all records.
func (h *half) isPartOf(other *half) bool { return len(h.lackedBy(other, 0, len(h.texts))) == 0 }

// lackedBy returns the records of a range that the other one does not have.
func (h *half) lackedBy(other *half, from, to int) (own []Record) {
	for i := from; i < to; i++ {
		if !other.has(h, i+1) {
			own = append(own, h.records[i])
		}
	}
	return own
}

// knownThrough returns how many records there are up to the last one that the other one has.
func (h *half) knownThrough(other *half) int {
	n := len(h.texts)
	for n > 0 && !other.has(h, n) {
		n--
	}
	return n
}

// merged returns the records of both, those that only the data dir has before the next one that both have.
func merged(own, backup *half) (all []Record) {
	next := 0
	for i, text := range backup.texts {
		if place, both := own.places[text]; both {
			all = append(all, own.lackedBy(backup, next, place)...)
			next = max(next, place+1)
		}
		all = append(all, backup.records[i])
	}
	return append(all, own.lackedBy(backup, next, len(own.texts))...)
}

// keepOut revokes once more what one half refuses by revocations that the other one does not have.
func (s *State) keepOut(by, other *half) error {
	for _, name := range slices.Sorted(maps.Keys(by.agents)) {
		known := by.agents[name]
		for _, place := range slices.Sorted(maps.Values(known.serials)) {
			if other.has(by, place) {
				continue
			}
			if err := s.revokeAgain(by.revocation(place)); err != nil {
				return err
			}
		}
		if known.revoked == none || other.has(by, known.revoked) {
			continue
		}
		if err := s.keepNameOut(by, by.revocation(known.revoked)); err != nil {
			return err
		}
	}
	return nil
}

// keepNameOut revokes a name again if nothing of it is to be let in, or else each certificate that is not.
func (s *State) keepNameOut(by *half, r Revocation) error {
	if by.isOut(by.agents[r.Agent]) || !s.isRevoked(r.Agent) {
		return s.revokeAgain(r)
	}
	for _, c := range s.view(r.Agent).Certificates {
		_, out := by.refuses(r.Agent, c.Serial)
		if _, already := s.refuses(r.Agent, c.Serial); already || !out {
			continue
		}
		if _, parent := s.refuses(r.Agent, c.Parent); c.By == ByRenewal && !parent {
			continue
		}
		one := r
		one.Serial = c.Serial
		if err := s.revokeAgain(one); err != nil {
			return err
		}
	}
	return nil
}

func (s *State) revokeAgain(r Revocation) error {
	_, records, err := s.toRevoke(r)
	if err == nil {
		s.Count(records...)
	}
	return err
}

// voidDoubtful voids the tokens among the first records of one half that the other one does not have.
func (s *State) voidDoubtful(of, other *half, first int, now time.Time) {
	for _, r := range of.lackedBy(other, 0, first) {
		if r.Token != nil && s.tokens[r.Token.ID].isLive(now) {
			s.Count(Record{At: now.UTC(), Voided: &voidedRecord{Token: r.Token.ID}})
		}
	}
}
