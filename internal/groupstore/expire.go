package groupstore

import (
	"time"

	"pushrelay/internal/change"
)

// What is expired is absent when a push is decided, whether or not it was removed already (L5): a push onto it begins anew, and what of it is in
// the way of another push is deleted in the same critical section.

// A standing is what a group counts as when a change is decided.
type standing uint8

const (
	// Alive is a group that holds what was pushed; also one that is not there.
	alive standing = iota
	// AsStub is one whose expectation and declarations alone count.
	asStub
	// Absent is one of which nothing counts.
	absent
)

// standingOf returns what the group counts as.
func (ls *lives) standingOf(g *group) standing {
	if g == nil || g.state == nil || !ls.areAny() {
		return alive
	}
	f, now := ls.regime.fateOf(g.state), ls.now().UnixNano()
	switch {
	case f.isForgotten(now):
		return absent
	case f.hasExpired(now):
		return asStub
	default:
		return alive
	}
}

// kept is what a change takes over from its group unless it is about just that.
func (x *decision) kept() (kept notes, pushed int64) {
	if x.group == nil || x.group.state == nil {
		return kept, 0
	}
	st := x.group.state
	if x.standing == absent {
		return notes{hidden: st.hidden()}, 0
	}
	return st.noted(), st.pushed
}

// judgeExpire removes what is expired of the group, if it still is.
func (x *decision) judgeExpire() {
	switch {
	case x.group == nil:
	case x.standing == absent, x.standing == asStub && len(x.group.state.parts) > 0:
		x.effect = x.removal(x.group, x.standing)
	default: // The clock was set back, or another regime began.
		x.found = Unmet
		x.lives.queue(x.group)
	}
}

// removal returns the effect by which what is expired of a group is removed: all, or what was pushed to one that is a stub.
func (s *Store) removal(g *group, as standing) Effect {
	if as == absent {
		return Effect{Operation: change.Delete, Key: g.key, Seen: g.state.version, marks: g.state.noted().marks}
	}
	return remains(change.Replace, g, g.state.noted(), g.state.pushed)
}

// remains returns an effect by which nothing is left of what was pushed to a group but what is kept.
func remains(op change.Operation, g *group, kept notes, pushed int64) Effect {
	return Effect{
		Operation: op, Key: g.key, Seen: versionOf(g), PushedAt: pushed, FailedAt: kept.failed, Reason: kept.reason,
		life: kept.declared(), broken: kept.broken, hidden: kept.hidden, marks: kept.marks, later: newLater(kept.later.ofNotes(), ""),
	}
}

// An obstacle is a group that is expired, and in the way of a change.
type obstacle struct {
	group *group
	as    standing // asStub, or absent if the stub is in the way as well
}

// clear removes what is in the way of the change, which is to be decided again then: what waited for that may be in its way now.
func (s *Store) clear(obstacles []obstacle) error {
	for _, o := range obstacles {
		if o.group.state == nil || o.as == asStub && len(o.group.state.parts) == 0 {
			continue // it was in the way twice
		}
		e := s.removal(o.group, o.as)
		if _, err := s.appender.Append(s.position+1, e); err != nil {
			return err
		}
		s.position++
		s.commit(&e, o.group)
	}
	return nil
}

// isInTheWay says whether the group counts, and notes one that is expired as to be deleted. A trial of what was decided before counts all.
func (t *trial) isInTheWay(g *group) bool {
	if !t.decides {
		return true
	}
	as := t.s.lives.standingOf(g)
	if as != alive {
		t.expired = append(t.expired, obstacle{g, as})
	}
	return as == alive
}

// areInTheWay is isInTheWay for all groups that expose the family, other than the trial's own.
func (t *trial) areInTheWay(x *exposure, name string) bool {
	if !t.decides || !t.s.lives.areAny() || x.example != nil && x.example != t.g && t.s.lives.standingOf(x.example) == alive {
		return true
	}
	var expired []obstacle
	for _, st := range t.s.slots.states { // they are all deleted, or there is an example from now on
		if st == nil || st.group == t.g {
			continue
		}
		if p := st.find(name); p == nil || p.hidden != nil {
			continue
		}
		as := t.s.lives.standingOf(st.group)
		if as == alive {
			x.example = st.group
			return true
		}
		expired = append(expired, obstacle{st.group, as})
	}
	t.expired = append(t.expired, expired...)
	return false
}

const (
	// roomEvery is how often it is looked for what is expired when a limit is reached.
	roomEvery = time.Second
	// roomAtOnce is how many groups are removed then at most.
	roomAtOnce = 1024
)

// expiredOf returns groups that are expired, of an account or of all, for which there is no room any more: they stand in the way of what is alive.
// Looking for them takes time in proportion to all groups, so that it is done now and then only.
func (x *decision) expiredOf(of *account) (obstacles []obstacle) {
	now := x.lives.now()
	if !x.lives.areAny() || now.Sub(x.lives.madeRoom).Abs() < roomEvery {
		return nil
	}
	x.lives.madeRoom = now
	for _, st := range x.slots.states {
		if len(obstacles) == roomAtOnce {
			break
		}
		if st == nil || st.group == x.group || of != nil && st.group.account != of {
			continue
		}
		if as := x.lives.standingOf(st.group); as == absent || as == asStub && len(st.parts) > 0 {
			obstacles = append(obstacles, obstacle{st.group, as})
		}
	}
	return obstacles
}
