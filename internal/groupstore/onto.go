package groupstore

import (
	"bytes"
	"context"
	"fmt"
	"hash/maphash"
	"strings"
	"sync"
	"time"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/proto"

	"pushrelay/internal/addup"
	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	"pushrelay/internal/metric"
	"pushrelay/internal/series"
)

// A change that is onto what the group has (L11, L12) is made ready outside the lock, as any other is: from the families that the group has at that
// moment, and on the condition that it still has them when the change is decided. If it does not, it is made ready again. Such changes of one group
// take turns, so that this is rare. What is logged are the families that come of it: a replay adds nothing up.

// ontoTries is how often a change is made ready before whoever pushed is asked to come again.
const ontoTries = 100

// turns let changes that are onto one group come one after the other.
type turns struct {
	seed maphash.Seed
	of   [256]sync.Mutex // by hash of the key
}

func (t *turns) take(key string) (end func()) {
	turn := &t.of[maphash.String(t.seed, key)%uint64(len(t.of))]
	turn.Lock()
	return turn.Unlock
}

// A footing is what a change is onto: what its group held, and as what it counted, when the change was made ready.
type footing struct {
	state    *state // nil for a group that is not there
	standing standing
}

// takeOnto is take for a change that is onto what the group has.
func (s *Store) takeOnto(x *decision) (wait func(context.Context) error, err error) {
	defer s.turns.take(x.key.Canonical())()
	pushed := x.parts
	for range ontoTries {
		x.footing = s.footingOf(x.key.Canonical())
		if x.known != nil && !x.footing.has(pushed) {
			x.found = Unmet
			return nil, nil
		}
		if err := s.putOnto(&x.draft, pushed); err != nil {
			x.found, x.refusal = OtherSeries, s.check.refusal("adding the push to what the group has: "+err.Error())
			return nil, nil
		}
		if wait, err = s.take(x); !x.slipped {
			return wait, err
		}
		x.slipped = false
	}
	x.found = OtherSeries
	x.refusal = &change.Outcome{Kind: change.Unavailable, Detail: "the group changes too often to be added to, try again", RetryAfter: time.Second}
	return nil, nil
}

func (s *Store) footingOf(canonical string) *footing {
	s.mu.RLock()
	defer s.mu.RUnlock()
	g := s.groups.byKey[canonical]
	if g == nil {
		return &footing{}
	}
	return &footing{state: g.state, standing: s.lives.standingOf(g)}
}

// has says whether the group held just the series of these families.
func (f *footing) has(parts []part) bool {
	return f.state != nil && f.standing == alive && unchanged(parts, f.state) == len(parts)
}

// stands says whether the group still is as the change was made ready for.
func (x *decision) stands() bool {
	if x.footing == nil {
		return true
	}
	var present *state
	if x.group != nil {
		present = x.group.state
	}
	return present == x.footing.state && x.standing == x.footing.standing
}

// putOnto makes the parts of the draft those that come of what was pushed, on the draft's footing.
func (s *Store) putOnto(d *draft, pushed []part) error {
	d.operation = change.Merge
	if d.footing.state == nil || d.footing.standing != alive {
		return s.joinParts(d, pushed, nil)
	}
	return s.joinParts(d, pushed, d.footing.state.parts)
}

// joinParts joins what was pushed with what the group has of the same families.
func (s *Store) joinParts(d *draft, pushed, present []part) error {
	d.parts = make([]part, len(pushed))
	buf := make([]byte, 0, d.valueSize+d.valueSize/8)
	var hard []int // that need more than their values
	ends := make([]int, len(pushed))
	rest := present
	for i := range pushed {
		p := &pushed[i]
		for len(rest) > 0 && firstOf(rest, pushed[i:]) < 0 {
			rest = rest[1:]
		}
		var old *part
		if len(rest) > 0 && rest[0].set.Name() == p.set.Name() {
			old = &rest[0]
		}
		d.parts[i] = *p
		switch {
		case old != nil && old.set == p.set && d.adds(p.set.Type()) && !p.set.HasExtra():
			buf = p.set.AppendAdded(buf, old.values, p.values, d.change.Gauges.Of)
		case d.adds(p.set.Type()) && p.set.HasExtra(), old != nil && old.set != p.set && old.set.Type() == p.set.Type():
			hard = append(hard, i)
		default:
			buf = append(buf, p.values...)
		}
		ends[i] = len(buf)
	}
	d.lines, d.valueSize = 0, len(buf)
	cutValues(d.parts, string(buf), ends)
	if err := s.joinMessages(d, pushed, present, hard); err != nil {
		return err
	}
	for i := range d.parts {
		d.lines += d.parts[i].set.Lines()
	}
	return nil
}

// adds says whether the change adds to families of that type, rather than to replace their series.
func (d *draft) adds(t metric.Type) bool {
	return d.change.Operation == change.Add && d.change.Gauges.Adds(t.Proto())
}

// joinMessages joins the families with these indexes metric by metric: their series are others than the group has, or native histograms.
func (s *Store) joinMessages(d *draft, pushed, present []part, indexes []int) error {
	if len(indexes) == 0 {
		return nil
	}
	var encoded bytes.Buffer
	for _, i := range indexes {
		joined := d.joinFamily(&pushed[i], findPart(present, pushed[i].set.Name()))
		if _, err := protodelim.MarshalTo(&encoded, joined); err != nil {
			return err
		}
	}
	var parser exposition.Parser
	body, err := parser.Parse(exposition.ProtobufDelimited, encoded.Bytes(), exposition.Options{Names: metric.UTF8Names})
	if err != nil {
		return err
	}
	again := draft{change: d.change, labels: d.labels, at: d.at}
	e := s.encoders.Get().(*series.Encoder)
	fault := e.Encode(body, d.labels, nil)
	s.cutParts(&again, e)
	e.Release()
	s.encoders.Put(e)
	if fault != "" || len(again.parts) != len(indexes) {
		return fmt.Errorf("%d of %d families came of it%s", len(again.parts), len(indexes), fault)
	}
	for j, i := range indexes {
		d.parts[i] = again.parts[j]
	}
	d.valueSize += again.valueSize
	return nil
}

// joinFamily joins a family that was pushed with the group's own; old is nil if it has none.
func (d *draft) joinFamily(p, old *part) *dto.MetricFamily {
	more := messageOf(d, p)
	var base *dto.MetricFamily
	if old != nil {
		base = messageOf(d, old)
	}
	if d.change.Operation == change.Add {
		return addup.Add(base, more, d.change.Gauges, time.Unix(0, d.at))
	}
	return addup.Merge(base, more)
}

func messageOf(d *draft, p *part) *dto.MetricFamily {
	mf := &dto.MetricFamily{Name: proto.String(strings.Clone(p.set.Name())), Type: p.set.Type().Proto().Enum()}
	if help, has := p.set.Help(); has {
		mf.Help = proto.String(help)
	}
	if unit := p.set.Unit(); unit != "" {
		mf.Unit = proto.String(unit)
	}
	for m := range p.set.Messages(d.key, p.values, nil) {
		mf.Metric = append(mf.Metric, m)
	}
	return mf
}

// beginAdding makes a body one that can be added, as [addup.Add] does with messages: without quantiles and exemplars, and with times at which its
// metrics began.
func beginAdding(b *exposition.Body, at int64) {
	for i := range b.Families {
		f := &b.Families[i]
		if f.Type != metric.Counter && f.Type != metric.Summary && f.Type != metric.Histogram {
			continue
		}
		for j := f.Metrics.Start; j < f.Metrics.End; j++ {
			m := &b.Metrics[j]
			if f.Type == metric.Summary {
				m.Points.Start = max(m.Points.Start, m.Points.End-2) // sum and count are the last
			}
			if m.Extra != nil && !m.Extra.Native {
				m.Extra = nil
			}
			if m.Created == 0 {
				m.Created = at
			}
		}
	}
}
