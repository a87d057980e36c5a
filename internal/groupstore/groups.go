package groupstore

import (
	"iter"
	"slices"
	"time"

	dto "github.com/prometheus/client_model/go"

	"pushrelay/internal/exposition"
	"pushrelay/internal/grouping"
	"pushrelay/internal/metric"
)

// Groups returns the groups in the order of their canonical keys, also those in quarantine.
func (v *View) Groups() iter.Seq[Group] {
	return func(yield func(Group) bool) {
		for i, st := range v.states {
			if !yield(Group{st, v.moment, v.fate(i)}) {
				return
			}
		}
	}
}

// Len returns the number of groups.
func (v *View) Len() int { return len(v.states) }

// Group is one group of a view.
type Group struct {
	st     *state
	moment *moment
	known  *fate // nil until it is asked for
}

// fate returns what becomes of the group.
func (g Group) fate() *fate {
	if g.known != nil {
		return g.known
	}
	return g.moment.regime.fateOf(g.st)
}

// Key returns the grouping key.
func (g Group) Key() grouping.Key { return g.st.group.key }

// Version is the position of the last change of the group, for [Content]: another one after each, also if the group was deleted meanwhile.
func (g Group) Version() uint64 { return g.st.version }

// PushTime returns when a push to the group last succeeded; the zero time for never.
func (g Group) PushTime() time.Time { return timeOf(g.st.pushed) }

// FailureTime returns when a push to the group was last rejected; the zero time for never.
func (g Group) FailureTime() time.Time { return timeOf(g.st.failed()) }

// FailureReason returns why the push at FailureTime was rejected, as far as that is still known.
func (g Group) FailureReason() string {
	if g.st.notes == nil {
		return ""
	}
	return g.st.notes.reason
}

// Quarantined returns why the group as a whole is not exposed; empty if it is.
func (g Group) Quarantined() string { return g.st.hidden() }

// HasQuarantined says whether the group or any of its families is in quarantine.
func (g Group) HasQuarantined() bool {
	return g.st.hidden() != "" || slices.ContainsFunc(g.st.parts, func(p part) bool { return p.hidden != nil })
}

// Series returns the number of exposition lines that were pushed.
func (g Group) Series() int { return g.st.lines }

func timeOf(nanoseconds int64) time.Time {
	if nanoseconds == 0 {
		return time.Time{}
	}
	return time.Unix(0, nanoseconds).UTC()
}

// Families returns the group's families in the order of their names: the pushed ones, also those in quarantine, and those that it has of the
// store: its two times, and what is to be seen of its life.
func (g Group) Families() iter.Seq[Family] {
	return func(yield func(Family) bool) {
		times := g.own()
		for i := range g.st.parts {
			p := &g.st.parts[i]
			for len(times) > 0 && times[0].set.Name() < p.set.Name() {
				if !yield(Family{&times[0], g.st.group}) {
					return
				}
				times = times[1:]
			}
			if !yield(Family{p, g.st.group}) {
				return
			}
		}
		for i := range times {
			if !yield(Family{&times[i], g.st.group}) {
				return
			}
		}
	}
}

// own returns what the group has of the store as parts, in the order of their names.
func (g Group) own() []part {
	pushed := max(g.st.failed(), g.st.pushed)
	var parts []part
	for i := range ownFamilies {
		o := &ownFamilies[i]
		if k, value, ok := o.of(g.st, g.fate(), g.moment.now); ok {
			parts = append(parts, part{set: k, values: string(append(exposition.AppendFloat(nil, value), '\n')), pushed: pushed})
		}
	}
	return parts
}

// Family is one family of one group.
type Family struct {
	p *part
	g *group
}

// Name returns the family's name, unescaped.
func (f Family) Name() string { return f.p.set.Name() }

// Help returns the help text; empty if none was pushed.
func (f Family) Help() string {
	help, _ := f.p.set.Help()
	return help
}

// Unit returns the unit; empty if none was pushed.
func (f Family) Unit() string { return f.p.set.Unit() }

// Type returns the family's type.
func (f Family) Type() metric.Type { return f.p.set.Type() }

// PushTime returns when the family was pushed.
func (f Family) PushTime() time.Time { return timeOf(f.p.pushed) }

// Quarantined returns why the family is not exposed; empty if it is.
func (f Family) Quarantined() string {
	if f.p.hidden == nil {
		return ""
	}
	return f.p.hidden.reason
}

// Series returns the number of exposition lines.
func (f Family) Series() int { return f.p.set.Lines() }

// Metrics returns the family's metrics, in the order in which they are exposed and with all their labels. Each is made when
// it is asked for and is the caller's own.
func (f Family) Metrics() iter.Seq[*dto.Metric] {
	return f.p.set.Messages(f.g.key, f.p.values, nil)
}
