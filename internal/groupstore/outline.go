package groupstore

import (
	"context"
	"fmt"
	"slices"

	"pushrelay/internal/exposition"
	"pushrelay/internal/grouping"
)

// Outline is what a body is to a group apart from its values: which series, and in which order the store keeps their values.
// It lets a pusher who knows that a body is the same but for its values skip what the body was parsed for (S11).
type Outline struct {
	skeletons []*skeleton // sorted by family name
	values    string      // of the body that the outline was made of
	lines     int
}

// Outline returns the outline of a body in a group with that key, or nil if the store would not take such a body or keeps
// more of it than its values as text.
func (s *Store) Outline(key grouping.Key, body *exposition.Body) *Outline {
	d := s.draft(Push{Operation: Merge, Key: key, Body: body})
	if d.fault != "" || len(d.parts) == 0 {
		return nil
	}
	o := &Outline{lines: d.lines}
	for i := range d.parts {
		if d.parts[i].skeleton.flags&(hasCreated|hasExtra) != 0 {
			return nil
		}
		o.skeletons = append(o.skeletons, d.parts[i].skeleton)
		o.values += d.parts[i].values
	}
	return o
}

// Values returns the values of the body that the outline was made of, in the order in which [Store.PushValues] wants them,
// each followed by a line feed.
func (o *Outline) Values() string { return o.values }

// Equal says whether the outlines are of the same series in the same order, with the same grouping labels.
func (o *Outline) Equal(other *Outline) bool {
	return slices.EqualFunc(o.skeletons, other.skeletons, (*skeleton).equal)
}

// PushValues pushes a body that differs from the outline's own in its values only; the push itself has none. It is
// [Store.Push] for a group that exposes just the outline's series already; if the group does not, taken is false and nothing
// has happened. So it is for a push that is not to be taken for other reasons, which Push has to tell, or that may not be. Values are in the
// order and the form of Outline.Values, and as exposition.AppendFloat writes numbers.
func (s *Store) PushValues(ctx context.Context, p Push, o *Outline, values string) (v Verdict, taken bool, err error) {
	if p.Operation != Replace && p.Operation != Merge {
		return v, false, nil
	}
	at := nanoseconds(p.At)
	parts, ok := o.parts(values, at)
	if !ok {
		return v, false, fmt.Errorf("pushing values to group %v: they are not %d lines", p.Key, o.lines)
	}
	s.mu.Lock()
	g := s.groups[p.Key.Canonical()]
	if !takesValues(g, p.Operation, parts) || !s.isPlain(&p) {
		s.mu.Unlock()
		return v, false, nil
	}
	noted := g.state.noted()
	wait, err := s.enact(&Change{
		Operation: p.Operation, Key: p.Key, Seen: g.state.version, PushedAt: at,
		FailedAt: noted.failed, Reason: noted.reason,
		parts: parts, lines: o.lines, valueSize: len(values),
	}, g, decision{origin: p.Origin, at: at})
	v.Position = s.position
	s.mu.Unlock()
	if err != nil {
		return v, true, fmt.Errorf("logging the push: %w", err)
	}
	return v, true, await(ctx, wait)
}

// isPlain says that no origin and no session stands in the way of a push.
func (s *Store) isPlain(p *Push) bool {
	if _, duplicate, _ := s.covering(p.Key.Canonical(), p.Origin); duplicate {
		return false
	}
	if p.Waited && s.isSuperseded(&draft{operation: p.Operation, key: p.Key, at: nanoseconds(p.At), origin: p.Origin, waited: true}) {
		return false
	}
	return p.Current == nil || p.Current()
}

// takesValues says whether the push changes nothing but values of the group.
func takesValues(g *group, op Operation, parts []part) bool {
	return g != nil && g.state.hidden() == "" && (op == Merge || len(parts) == len(g.state.parts)) && unchanged(parts, g) == len(parts)
}

// parts cuts values into the parts of the outline's families.
func (o *Outline) parts(values string, at int64) (parts []part, ok bool) {
	parts = make([]part, len(o.skeletons))
	for i, k := range o.skeletons {
		end := 0
		for range k.lines {
			for end < len(values) && values[end] != '\n' {
				end++
			}
			if end == len(values) {
				return nil, false
			}
			end++
		}
		parts[i] = part{skeleton: k, values: values[:end], pushed: at}
		values = values[end:]
	}
	return parts, values == ""
}
