package groupstore

import (
	"time"

	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	"pushrelay/internal/grouping"
	"pushrelay/internal/series"
)

// A draft is a change made ready outside every lock: whatever needs nothing but the push is done and known.
type draft struct {
	change    *change.Change
	operation change.Operation // that of the change, or Mark if it is refused
	key       grouping.Key
	labels    []grouping.Label
	group     *group // prepared in case that the store has none; nil if it had one
	at        int64  // when it was pushed
	parts     []part // sorted by family name; their sets may not be in the table yet
	lines     int
	valueSize int             // bytes of the string that all values are cut from
	known     *Sets           // that the parts are of; nil if they are not
	replaced  []string        // the pushed labels that gave way to those of the group
	inVain    string          // what is to be said of that if series are there twice
	fault     string          // what is wrong with the push whatever the store holds; empty if nothing
	told      *change.Outcome // what the pusher hears whatever is decided for good, unless it is superseded or was taken before; nil if that depends
	version   uint64          // that the group must have; 0 for any
	imported  *Import         // nil for what was pushed
	footing   *footing        // what it is onto; nil if that does not matter
}

// draftBody encodes a body. It is not used after that.
func (s *Store) draftBody(d *draft, b *exposition.Body) {
	if d.operation == change.Add {
		beginAdding(b, d.at)
	}
	e := s.encoders.Get().(*series.Encoder)
	d.fault = e.Encode(b, d.labels, d.added(s.accounts.label))
	d.replaced, d.inVain = e.Replaced(), e.InVain()
	s.cutParts(d, e)
	e.Release()
	s.encoders.Put(e)
}

// added returns the names of the grouping labels that the pusher did not choose; accountLabel is that of agents, empty for none.
func (d *draft) added(accountLabel string) []string {
	if d.change.MayBeHidden {
		return grouping.Names(d.labels)
	}
	if d.change.Agent != "" && accountLabel != "" {
		return []string{accountLabel}
	}
	return nil
}

// nanoseconds returns t since the epoch; 0, which stands for never, only for the zero time.
func nanoseconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

// cutParts makes the parts of what was encoded: sets from the table where it has them, new ones where not, and one string for all values.
func (s *Store) cutParts(d *draft, e *series.Encoder) {
	if e.Len() == 0 {
		return
	}
	values := string(e.Values())
	d.valueSize = len(values)
	d.parts = make([]part, e.Len())
	start := 0
	s.mu.RLock()
	for i := range d.parts {
		end := e.ValuesEnd(i)
		d.parts[i] = part{set: s.sets.Find(e, i), values: values[start:end], pushed: d.at}
		d.lines += e.Lines(i)
		start = end
	}
	s.mu.RUnlock()
	for i := range d.parts {
		if d.parts[i].set == nil {
			d.parts[i].set = s.sets.New(e, i)
		}
	}
}

// prepareGroup makes the group's object and its layout if the store seems to have none.
func (s *Store) prepareGroup(d *draft) {
	s.mu.RLock()
	known := s.groups.byKey[d.key.Canonical()] != nil
	s.mu.RUnlock()
	if known {
		return
	}
	d.group = newGroup(d.key, d.labels, s.groups.hasher)
	id := layoutID(d.labels)
	s.mu.RLock()
	d.group.layout = s.groups.layouts[id]
	s.mu.RUnlock()
	if d.group.layout == nil {
		d.group.layout = newLayout(d.labels, s.groups.hasher)
	}
}
