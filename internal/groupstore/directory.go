package groupstore

import (
	"slices"

	"pushrelay/internal/grouping"
	"pushrelay/internal/series"
)

// A directory finds the groups of the store. It is guarded by Store.mu.
type directory struct {
	hasher series.Hasher // static

	byKey    map[string]*group   // by canonical key
	aliases  map[string]*group   // groups with empty labels, by normal key, that are exposed
	shadowed map[string][]*group // by normal key: groups that are hidden, since another has their labels without the empty ones
	layouts  map[string]*layout
	bytes    int // of the texts of groups
}

// clear forgets all groups.
func (dir *directory) clear() {
	dir.byKey = make(map[string]*group)
	dir.aliases = make(map[string]*group)
	dir.shadowed = make(map[string][]*group)
	dir.layouts = make(map[string]*layout)
	dir.bytes = 0
}

// exposed returns the group that is exposed under a normal key, or nil.
func (dir *directory) exposed(normal string) *group {
	if g := dir.byKey[normal]; g != nil && g.state != nil && g.state.hidden() == "" { // without a state it is about to leave
		return g
	}
	return dir.aliases[normal]
}

// marksAt returns the marks of the group; none if it is not there.
func (dir *directory) marksAt(canonical string) []mark {
	if g := dir.byKey[canonical]; g != nil {
		return g.state.noted().marks
	}
	return nil
}

// newGroup returns a group that can enter the directory: the one that was prepared for these labels, unless that is nil.
func (dir *directory) newGroup(prepared *group, key grouping.Key, labels []grouping.Label) *group {
	g := prepared
	if g == nil {
		g = newGroup(key, labels, dir.hasher)
	}
	id := layoutID(labels)
	if same := dir.layouts[id]; same != nil {
		g.layout = same
	}
	if g.layout == nil {
		g.layout = newLayout(labels, dir.hasher)
	}
	return g
}

// double returns the group whose labels are, without the empty ones, those of g, so that both would have the same two times (S7); nil if
// there is none that is exposed.
func (dir *directory) double(g *group) *group {
	if other := dir.exposed(g.normal); other != nil && other.key != g.key {
		return other
	}
	return nil
}

// unfit returns why the group as such cannot be exposed, whatever is pushed to it: its labels cannot be written, or it is the double of another.
func (dir *directory) unfit(g *group) string {
	if fault := g.layout.pushed.Fault(""); fault != "" {
		return fault
	}
	if other := dir.double(g); other != nil {
		return g.layout.pushed.Describe(0) + series.CollectedBefore +
			": a label with an empty value is none, and so there is group " + other.key.String() + " already"
	}
	return ""
}

// add enters a new group. That it is not exposed as a whole says hidden.
func (dir *directory) add(g *group, hidden bool) {
	if same := dir.layouts[g.layout.id]; same != nil {
		g.layout = same
		g.layout.refs++
	} else {
		g.layout.refs = 1
		dir.layouts[g.layout.id] = g.layout
	}
	dir.byKey[g.key.Canonical()] = g
	dir.bytes += g.textBytes()
	switch {
	case hidden:
		dir.shadowed[g.normal] = append(dir.shadowed[g.normal], g)
	case g.normal != g.key.Canonical():
		dir.aliases[g.normal] = g
	}
}

// remove drops a group.
func (dir *directory) remove(g *group, hidden bool) {
	delete(dir.byKey, g.key.Canonical())
	dir.bytes -= g.textBytes()
	g.layout.refs--
	if g.layout.refs == 0 {
		delete(dir.layouts, g.layout.id)
	}
	if hidden {
		dir.dropShadowed(g)
		return
	}
	if dir.aliases[g.normal] == g {
		delete(dir.aliases, g.normal)
	}
}

// dropShadowed forgets that a group is hidden.
func (dir *directory) dropShadowed(g *group) {
	list := slices.DeleteFunc(dir.shadowed[g.normal], func(other *group) bool { return other == g })
	if len(list) == 0 {
		delete(dir.shadowed, g.normal)
		return
	}
	dir.shadowed[g.normal] = list
}

// promote takes the first of the groups that are hidden because of a normal key, which is to be exposed now; nil if there is none.
func (dir *directory) promote(normal string) *group {
	if len(dir.shadowed[normal]) == 0 {
		return nil
	}
	g := dir.shadowed[normal][0]
	dir.dropShadowed(g)
	if g.normal != g.key.Canonical() {
		dir.aliases[normal] = g
	}
	return g
}
