package groupstore

import (
	"strconv"

	"pushrelay/internal/metric"
)

// reservedPrefix begins the names of the relay's own metrics, which nobody may push (S17).
const reservedPrefix = "relay_"

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
}

// judge returns why the family cannot be exposed as part of the group, or nil.
func (t *trial) judge(k *skeleton) *hiding {
	if fault := k.fault(); fault != nil {
		return &hiding{reason: describe(k, t.g, fault.metric) + fault.text}
	}
	if own, ok := t.s.own[k.name()]; ok && own.Type != k.typ {
		return &hiding{reason: "gathered metric family " + brief(k.name(), shownBytes) + " has type " + k.typ.Protobuf() +
			" but should have " + own.Type.Protobuf()}
	}
	if h := t.falseClaim(k); h != nil {
		return h
	}
	if f := familyOf(&t.s.families, k.name()); f != nil && t.others(f) > 0 && f.typ != k.typ {
		return &hiding{name: k.name(), reason: describe(k, t.g, 0) + "is not a " + f.typ.Protobuf()}
	}
	if h := t.suffixClash(k); h != nil {
		return h
	}
	return t.duplicate(k)
}

// others returns how many parts expose the family apart from those that are leaving.
func (t *trial) others(f *sharedFamily) int {
	others := int(f.visible) - t.ousted(f.name())
	if p := findPart(t.leaving, f.name()); p != nil && p.hidden == nil {
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
		return t.parts[i].skeleton.typ, true
	}
	if f := familyOf(&t.s.families, name); f != nil && t.others(f) > 0 {
		return f.typ, true
	}
	return 0, false
}

// suffixClash finds a family whose series would have the names of another family's series, because histograms and summaries
// are exposed with suffixes.
func (t *trial) suffixClash(k *skeleton) *hiding {
	if base, role, ok := metric.CutSuffix(k.name()); ok {
		if typ, ok := t.typeOf(base); ok && typ.Suffix(role) != "" {
			return &hiding{name: base, reason: "collected metric named " + strconv.Quote(brief(k.name(), shownBytes)) +
				" collides with previously collected " + typ.Text() + " named " + strconv.Quote(brief(base, shownBytes))}
		}
	}
	if k.typ.Simple() {
		return nil
	}
	for _, role := range [...]metric.Role{metric.CountLine, metric.SumLine, metric.BoundLine} {
		suffix := k.typ.Suffix(role)
		if suffix == "" {
			continue
		}
		if _, ok := t.typeOf(k.name() + suffix); ok {
			return &hiding{name: k.name() + suffix, reason: "collected histogram or summary named " + strconv.Quote(brief(k.name(), shownBytes)) +
				" collides with previously collected metric named " + strconv.Quote(brief(k.name(), shownBytes)+suffix)}
		}
	}
	return nil
}
