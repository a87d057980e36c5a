package groupstore

import (
	"strings"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	"pushrelay/internal/exposition"
	"pushrelay/internal/series"
)

// writePrototext writes the families as protobuf text, for people: every family ends with an empty line, or stands on one
// line in the compact form. Fields of a message can be written one by one, so that no family is held as a whole.
func (v *View) writePrototext(o *output, families []exposed, f Form) {
	p := prototexter{v: v, o: o, multiline: f.Format == exposition.ProtobufText}
	for i := range families {
		p.family(&families[i])
		if o.failed.Load() {
			return
		}
	}
}

type prototexter struct {
	v         *View
	o         *output
	multiline bool
}

// fields writes the fields that are set in mf.
func (p *prototexter) fields(mf *dto.MetricFamily) {
	text := strings.TrimSpace(prototext.MarshalOptions{Multiline: p.multiline}.Format(mf))
	p.o.buf = append(p.o.buf, text...)
	p.o.buf = append(p.o.buf, p.between())
	p.o.spill()
}

func (p *prototexter) between() byte {
	if p.multiline {
		return '\n'
	}
	return ' '
}

func (p *prototexter) metric(m *dto.Metric) { p.fields(&dto.MetricFamily{Metric: []*dto.Metric{m}}) }

func (p *prototexter) family(e *exposed) {
	header := &dto.MetricFamily{Name: proto.String(e.name), Type: e.typ.Proto().Enum()}
	if e.hasHelp {
		header.Help = proto.String(e.help)
	}
	if e.unit != "" {
		header.Unit = proto.String(e.unit)
	}
	p.fields(header)
	if e.own != nil {
		for _, m := range e.own.Metric {
			p.metric(m)
		}
	}
	p.ofStore(e)
	p.run(e)
	p.o.buf = append(p.o.buf, '\n')
}

func (p *prototexter) ofStore(e *exposed) {
	if e.ofStore == nil {
		return
	}
	for i, st := range p.v.shown(false) {
		if p.o.failed.Load() {
			return
		}
		if k, value, ok := e.ofStore.of(st, p.v.fate(i), p.v.moment.now); ok {
			p.metrics(k, st.group, string(append(exposition.AppendFloat(nil, value), '\n')), e.dialect)
		}
	}
}

func (p *prototexter) run(e *exposed) {
	if e.run == nil {
		return
	}
	for held := range p.v.partsOf(e.run, false) {
		p.metrics(held.set, held.group, held.values, e.dialect)
		if p.o.failed.Load() {
			return
		}
	}
}

func (p *prototexter) metrics(k *series.Set, g *group, values string, d series.Dialect) {
	for m := range k.Messages(g.key, values, &d) {
		p.metric(m)
	}
}
