package groupstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"

	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	"pushrelay/internal/grouping"
	"pushrelay/internal/groupstore"
)

// TestSelect: what is selected is exposed in each format as a store exposes it that holds nothing else, also between groups that came, went
// and changed.
func TestSelect(t *testing.T) {
	whole, part := groupstore.New(groupstore.Config{}), groupstore.New(groupstore.Config{})
	push := func(s *groupstore.Store, i, salt int) {
		k := key(t, "job", fmt.Sprint("j", i*7919%3000), "team", fmt.Sprint(i%3))
		body := bodyOf(parse(t, fmt.Sprintf("# HELP m%d Help of %d.\n# TYPE m%d gauge\nm%d{l=\"x\"} %d\n", i%5, i%5, i%5, i%5, salt))...)
		if _, err := apply(t.Context(), s, pushing{Operation: put, Key: k, Body: body, At: noon}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 3000 {
		push(whole, i, i)
		if i%7 == 0 {
			k := key(t, "job", fmt.Sprint("j", i*7919%3000), "team", fmt.Sprint(i%3))
			if _, err := apply(t.Context(), whole, pushing{Operation: change.Delete, Key: k, At: noon}); err != nil {
				t.Fatal(err)
			}
		} else if i%3 == 1 {
			push(part, i, i)
		}
	}
	calls := 0
	view, err := whole.Select(t.Context(), func(g groupstore.Group) bool {
		calls++
		team, _ := g.Key().Get("team")
		return team == "1"
	})
	if err != nil {
		t.Fatal(err)
	}
	if calls != whole.Snapshot().Len() {
		t.Errorf("keep was asked %d times of %d groups", calls, whole.Snapshot().Len())
	}
	for _, format := range []exposition.Format{exposition.Text004, exposition.OpenMetrics100, exposition.ProtobufDelimited, exposition.ProtobufText, exposition.ProtobufCompact} {
		var got, want bytes.Buffer
		if err := errors.Join(view.Write(&got, groupstore.Form{Format: format}, nil), part.Snapshot().Write(&want, groupstore.Form{Format: format}, nil)); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Bytes(), want.Bytes()) || got.Len() < 1000 {
			t.Errorf("format %v: %d bytes differ from the %d of a store without the others", format, got.Len(), want.Len())
		}
	}
	keys := func(v *groupstore.View) (list []string) {
		for g := range v.Groups() {
			list = append(list, g.Key().Canonical())
		}
		return list
	}
	if got := keys(view); !slices.IsSorted(got) || !slices.Equal(got, keys(part.Snapshot())) {
		t.Error("the groups are not those of the other store in order")
	}
}

// TestSelectHidden: what other groups hide is not exposed to whoever does not select those.
func TestSelectHidden(t *testing.T) {
	s := groupstore.New(groupstore.Config{Check: groupstore.CheckQuarantine})
	for _, push := range []struct{ job, text string }{{"a", "# TYPE m counter\nm 1\n"}, {"b", "# TYPE m gauge\nm 2\n"}} {
		if o, _ := s.Apply(t.Context(), pushing{Operation: put, Key: key(t, "job", push.job), At: noon}.change(), groupstore.Content{Body: bodyOf(parse(t, push.text)...)}); !o.IsTaken() {
			t.Fatal(o)
		}
	}
	view, err := s.Select(t.Context(), func(g groupstore.Group) bool { return g.Key().Job() == "b" })
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := view.Write(&out, groupstore.Form{}, nil); err != nil {
		t.Fatal(err)
	}
	if text := out.String(); strings.Contains(text, "m{") || !strings.Contains(text, `push_time_seconds{instance="",job="b"}`) {
		t.Errorf("exposed is\n%s", text)
	}
	for g := range view.Groups() {
		if !g.HasQuarantined() {
			t.Error("HasQuarantined() = false")
		}
	}
}

// checkGroups expects of each key the group that a view of all has, or none.
func (t *tester) checkGroups(keys iter.Seq[grouping.Key]) {
	t.tb.Helper()
	want := map[grouping.Key]groupstore.Group{}
	for g := range t.store.Snapshot().Groups() {
		want[g.Key()] = g
	}
	for k := range keys {
		whole, there := want[k]
		one, found := t.store.Group(k)
		switch {
		case found != there:
			t.tb.Fatalf("Group(%v) finds a group: %v; the view of all has one: %v", k, found, there)
		case found && (lineOf(one) != lineOf(whole) || one.Version() != whole.Version() || one.State() != whole.State()):
			t.tb.Fatalf("Group(%v) is %s, %v; in the view of all it is %s, %v", k, lineOf(one), one.State(), lineOf(whole), whole.State())
		}
	}
}

func TestSelectEnds(t *testing.T) {
	s := groupstore.New(groupstore.Config{})
	if _, err := apply(t.Context(), s, pushing{Operation: put, Key: key(t, "job", "j"), Body: bodyOf(), At: noon}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	because := errors.New("nobody waits")
	cancel(because)
	if _, err := s.Select(ctx, func(groupstore.Group) bool { return true }); !errors.Is(err, because) {
		t.Errorf("Select = %v, want %v", err, because)
	}
}
