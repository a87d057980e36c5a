package groupstore

import (
	"pushrelay/internal/change"
	"pushrelay/internal/metric"
	"pushrelay/internal/series"
)

// A trial checks whether families of one group fit together with each other and with all that is exposed. It is used under
// Store.mu and changes nothing.
type trial struct {
	s *Store
	g *group
	// parts are the families in question, sorted by name, and accepted says of each whether it was found to fit.
	parts    []part
	accepted []bool
	// leaving are the group's present parts that go away whatever the verdict is, sorted by name.
	leaving []part
	// account is the one that is held from this change on, empty for none; going counts, by family, the claims on it that are hidden then.
	account string
	going   map[string]int
	// inVain is what to say behind the reason that a series is there twice in the push itself.
	inVain string
	// looks is how many groups may still be looked at for what is told of faults.
	looks int
	// decides says that a push is decided: what is expired does not count, and is found in expired, to be deleted.
	decides bool
	expired []obstacle
}

// judge returns why the family cannot be exposed as part of the group, or nil.
func (t *trial) judge(k *series.Set) *hiding {
	if fault := k.Fault(t.inVain); fault != "" {
		return &hiding{reason: fault}
	}
	if own, ok := t.s.own[k.Name()]; ok && own.Type != k.Type() {
		return &hiding{reason: series.OtherType(k.Name(), k.Type(), own.Type)}
	}
	if h := t.falseClaim(k); h != nil {
		return h
	}
	if x := t.s.exposed.of(k.Name()); x != nil && t.others(x, k.Name()) > 0 && x.typ != k.Type() {
		if !t.areInTheWay(x, k.Name()) {
			return nil // it is judged again without them
		}
		return &hiding{name: k.Name(), reason: k.Describe(0) + "is not a " + x.typ.Protobuf() + t.holder(", which it is", x, k.Name())}
	}
	if other, fault := series.SuffixClash(k.Name(), k.Type(), t.typeOf); fault != "" {
		if x := t.exposureInGroups(other); x != nil && !t.areInTheWay(x, other) {
			return nil
		}
		return &hiding{name: other, reason: fault + t.holderOf(other)}
	}
	return t.duplicate(k)
}

// others returns how many parts expose the family apart from those that are leaving.
func (t *trial) others(x *exposure, name string) int {
	others := int(x.visible) - t.ousted(name)
	if p := findPart(t.leaving, name); p != nil && p.hidden == nil {
		others--
	}
	return others
}

// typeOf returns the type under which the family is or will be exposed, and whether it is.
func (t *trial) typeOf(name string) (metric.Type, bool) {
	if own, ok := t.s.own[name]; ok {
		return own.Type, true
	}
	if i, ok := searchPart(t.parts, name); ok && t.accepted[i] {
		return t.parts[i].set.Type(), true
	}
	if x := t.s.exposed.of(name); x != nil && t.others(x, name) > 0 {
		return x.typ, true
	}
	return 0, false
}

// holder says, for people, in which other group a family is exposed: the text and the group; nothing if that cannot be found quickly.
func (t *trial) holder(text string, x *exposure, name string) string {
	g := x.example
	if g == nil || g.key == t.g.key {
		g = t.s.slots.first(&t.looks, func(st *state) bool {
			p := st.find(name)
			return p != nil && p.hidden == nil && st.group.key != t.g.key
		})
	}
	if g == nil {
		return ""
	}
	return text + change.InGroup(g.key)
}

// holderOf is holder for a family that may also be one of the push, or the program's own.
func (t *trial) holderOf(name string) string {
	x := t.exposureInGroups(name)
	if x == nil {
		return ""
	}
	return t.holder("", x, name)
}

// exposureInGroups returns what groups expose of a family that is neither of the push nor the program's own; nil if it is.
func (t *trial) exposureInGroups(name string) *exposure {
	_, own := t.s.own[name]
	if _, pushed := searchPart(t.parts, name); own || pushed {
		return nil
	}
	return t.s.exposed.of(name)
}
