package groupstore

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"pushrelay/internal/series"
)

// A loader that was told that records are missing loads what can still be read. Skeletons are numbered by their place in the
// cut, so that behind a gap their numbers are not known at first; but each is written just before the first group that has
// it, and that group names the numbers. What is about a set that is lost is lost with it, and is told by its group.

// Missing says that records are missing at this place. From then on nothing is refused because of what it refers to.
func (l *Loader) Missing() {
	l.lossy, l.adrift = true, true
	l.drifting = nil // their group is among what is missing
}

// Lost names what is lost of the groups that are still known, one line each. It is valid after Finish.
func (l *Loader) Lost() []string { return l.lost }

// maxAdrift bounds how many sets can be missing at one place.
const maxAdrift = 1 << 22

// numberDrifting gives the sets that were read since a gap their numbers, of which the group that follows them has the highest.
func (l *Loader) numberDrifting(group recordReader) error {
	if len(l.drifting) == 0 {
		return nil
	}
	highest, some := highestSet(&group)
	first := highest + 1 - uint64(len(l.drifting))
	if !some || highest+1 < uint64(len(l.drifting)) || first < uint64(len(l.sets)) || first-uint64(len(l.sets)) > maxAdrift {
		return errRecord
	}
	l.sets = append(l.sets, make([]*series.Set, first-uint64(len(l.sets)))...)
	l.sets = append(l.sets, l.drifting...)
	l.drifting, l.adrift = nil, false
	return nil
}

// highestSet returns the highest number of a set that a group record names; false if it has none.
func highestSet(r *recordReader) (highest uint64, some bool) {
	r.Text()
	r.Uvarint()
	r.Uvarint()
	r.Varint()
	r.Varint()
	r.Text()
	decodeMarks(r)
	r.Text()
	decodeLife(r)
	for range r.Count(leastPart + 1) {
		highest, some = max(highest, r.Uvarint()), true
		r.Varint()
		r.Uvarint()
		decodeHiding(r)
	}
	return highest, some && !r.Bad
}

// keptValues returns the values of the parts that are kept, in order.
func keptValues(values []byte, sizes []int, skip []bool) ([]byte, []int, error) {
	var rest []byte
	var of []int
	for i, size := range sizes {
		if size > len(values) {
			return nil, nil, errRecord
		}
		if !skip[i] {
			rest, of = append(rest, values[:size]...), append(of, size)
		}
		values = values[size:]
	}
	if len(values) > 0 {
		return nil, nil, errRecord
	}
	return rest, of, nil
}

// noteLost notes how much of a group is lost, and reports whether that is all of it.
func (l *Loader) noteLost(lg *loadedGroup, lost int) (all bool) {
	if lost == 0 {
		return false
	}
	if len(lg.effect.parts) == 0 {
		l.lost = append(l.lost, lg.effect.Key.String())
		return true
	}
	l.lost = append(l.lost, fmt.Sprintf("%s: %d of %d metric families", lg.effect.Key, lost, lost+len(lg.effect.parts)))
	return false
}

// release looks again at what was hidden because of something that is lost.
func (l *Loader) release() {
	s := l.s
	for _, h := range l.orphans {
		if p := h.g.state.find(h.family); p != nil && p.hidden == h.h && h.g.state.hidden() == "" {
			s.rejudge(h.g, p)
		}
	}
	for _, normal := range slices.Sorted(maps.Keys(s.groups.shadowed)) {
		if list := s.groups.shadowed[normal]; len(list) > 0 && s.groups.unfit(list[0]) == "" {
			s.promoteShadowed(normal)
		}
	}
}

// ChangeTime returns when what a change's record tells of happened, the zero time if it does not say.
func ChangeTime(record []byte) time.Time {
	kind, r, err := openRecord(record)
	if err != nil || kind != changeRecord {
		return time.Time{}
	}
	r.Byte()
	r.Uvarint()
	r.Text()
	r.Text()
	r.Uvarint()
	at := max(r.Varint(), r.Varint())
	if r.Bad || at == 0 {
		return time.Time{}
	}
	return time.Unix(0, at)
}
