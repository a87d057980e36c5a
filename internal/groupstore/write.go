package groupstore

import (
	"fmt"
	"io"
	"slices"
	"strings"

	dto "github.com/prometheus/client_model/go"

	"pushrelay/internal/exposition"
	"pushrelay/internal/metric"
	"pushrelay/internal/series"
)

// Form is the form of an exposition: its format, and how names that are no legacy names are written in it.
type Form struct {
	Format   exposition.Format
	Escaping metric.Escaping
}

// Write writes the view merged with the program's own metric families, in the order of S16. It writes in chunks,
// holds only a few of them at a time, and returns the first error of w. Most of the writing happens on a goroutine of its
// own, which has ended when Write returns.
//
// Every format carries the same series (S15). Own families need not be sorted, must have legacy names and are not changed.
// Where a pushed family has the name of an own one it stands under the own one's HELP and TYPE.
func (v *View) Write(w io.Writer, f Form, own []*dto.MetricFamily) error {
	families := v.exposed(f, own)
	o := newOutput(w)
	switch f.Format {
	case exposition.Text004, exposition.OpenMetrics100:
		v.writeText(o, families, f)
	case exposition.ProtobufDelimited:
		v.writeProtobuf(o, families)
	case exposition.ProtobufText, exposition.ProtobufCompact:
		v.writePrototext(o, families, f)
	default:
		return fmt.Errorf("writing an exposition: unknown format %d", f.Format)
	}
	return o.finish()
}

// An exposed family is all that is written under one name.
type exposed struct {
	name    string // as it is written
	help    string
	unit    string
	hasHelp bool
	typ     metric.Type
	dialect series.Dialect
	// baseTaken says that the name without the suffix of its type is that of another family.
	baseTaken bool

	own     *dto.MetricFamily // nil if there is none of our own
	run     *run              // nil if no group has it
	ofStore *ownFamily        // nil if it is none that groups have of the store
}

// exposed returns all families in the order of their names.
func (v *View) exposed(f Form, own []*dto.MetricFamily) []exposed {
	runs := v.families()
	list := make([]exposed, 0, len(runs)+len(own)+len(ownFamilies))
	for i := range ownFamilies {
		if o := &ownFamilies[i]; v.hasOwn(o) {
			list = append(list, exposed{name: o.name, hasHelp: true, help: o.help, typ: metric.Gauge, ofStore: o})
		}
	}
	for _, mf := range own {
		if len(mf.Metric) > 0 {
			list = append(list, exposed{
				name: mf.GetName(), help: strings.ToValidUTF8(mf.GetHelp(), "\uFFFD"), hasHelp: mf.Help != nil,
				unit: mf.GetUnit(), typ: typeOfOwn(mf), own: mf,
			})
		}
	}
	for i := range runs {
		list = append(list, exposedRun(&runs[i]))
	}
	slices.SortStableFunc(list, func(a, b exposed) int { return strings.Compare(a.name, b.name) })
	return escapeNames(joinOwn(list), f)
}

// hasOwn says whether a group that is exposed has the family.
func (v *View) hasOwn(o *ownFamily) bool {
	if v.fates == nil && !o.isOfAll {
		return false
	}
	for i, st := range v.states {
		if st.hidden() != "" {
			continue
		}
		if _, _, ok := o.of(st, v.fate(i), v.moment.now); ok {
			return true
		}
	}
	return false
}

func exposedRun(r *run) exposed {
	e := exposed{name: r.name, unit: r.first.Unit(), typ: r.first.Type(), run: r}
	if r.help != nil {
		e.help, e.hasHelp = r.help.Help()
	}
	return e
}

// joinOwn puts pushed families under own ones of the same name, which stand before them. The check lets none of another
// type come so far; if one does, because our list of own families is wrong, the own one is what is exposed.
func joinOwn(list []exposed) []exposed {
	joined := list[:0]
	for _, e := range list {
		if n := len(joined); n > 0 && joined[n-1].name == e.name {
			if joined[n-1].run == nil && joined[n-1].typ == e.typ {
				joined[n-1].run = e.run
			}
			continue
		}
		joined = append(joined, e)
	}
	return joined
}

// escapeNames gives every family its dialect and the name it is written under. No two get the same name: where escaping would
// make it so, the one that needs escaping is escaped by values. (If somebody pushed that very name as well, it is left out.)
func escapeNames(list []exposed, f Form) []exposed {
	taken := make(map[string]bool, len(list))
	for i := range list {
		if metric.IsLegacyMetricName(list[i].name) {
			taken[list[i].name] = true
		}
	}
	for i := range list {
		e := &list[i]
		e.dialect = series.Dialect{Protobuf: f.Format == exposition.ProtobufDelimited, Escaping: f.Escaping}
		if metric.IsLegacyMetricName(e.name) {
			continue
		}
		raw := e.name
		e.name = e.dialect.FamilyName(raw)
		if taken[e.name] {
			e.dialect.Apart = true
			e.name = e.dialect.FamilyName(raw)
		}
		if taken[e.name] {
			e.name = ""
		}
		taken[e.name] = true
	}
	list = slices.DeleteFunc(list, func(e exposed) bool { return e.name == "" })
	for i := range list {
		suffix := list[i].typ.OpenSuffix()
		if base, ok := strings.CutSuffix(list[i].name, suffix); ok && suffix != "" {
			list[i].baseTaken = taken[base]
		}
	}
	return list
}
