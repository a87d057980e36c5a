package groupstore_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pushrelay/internal/change"
	"pushrelay/internal/groupstore"
)

// once pushes with a key at the time of the clock.
func (t *tester) once(c *clock, op change.Operation, name, text, key2 string) change.Outcome {
	t.tb.Helper()
	p := pushing{Operation: op, Key: key(t.tb, "job", name), At: c.Time}.change()
	p.Body = []byte(text)
	p.Once = change.NewOnce(key2, p)
	var content groupstore.Content
	if op.HasBody() {
		content.Body = bodyOf(parse(t.tb, text)...)
	}
	o, _ := t.store.Apply(t.tb.Context(), p, content)
	o.Decided.Position = 0
	return o
}

// TestOnce: a push with a key happens once and is answered the same, whatever came between, over restarts from the log and from a snapshot (L13).
func TestOnce(t *testing.T) {
	log := &journal{}
	cfg := groupstore.Config{Appender: log}
	s := newTester(t, cfg)
	c := &clock{noon}
	const counter = "# TYPE c counter\nc 1\n"
	s.put(key(t, "job", "other"), "# TYPE taken counter\ntaken 1\n")
	applied, again := change.Outcome{Kind: change.Applied}, change.Outcome{Kind: change.Applied, Duplicate: true}
	want := func(what string, got, want change.Outcome) {
		t.Helper()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	want("add", s.once(c, change.Add, "a", counter, "k1"), applied)
	want("add", s.once(c, change.Add, "a", counter, "k2"), applied)
	want("delete of nothing", s.once(c, change.Delete, "b", "", "k3"), applied)
	want("put", s.once(c, put, "b", "m 1\n", "k4"), applied)
	refused := s.once(c, put, "r", "# TYPE taken gauge\ntaken 1\n", "k5")
	if refused.Kind != change.Inconsistent {
		t.Errorf("refused: %+v", refused)
	}
	s.delete(key(t, "job", "other")) // so that it would be taken now
	refused.Duplicate = true
	check := func(s *tester) {
		t.Helper()
		want("add again", s.once(c, change.Add, "a", counter, "k1"), again)
		want("add again", s.once(c, change.Add, "a", counter, "k2"), again)
		want("delete again", s.once(c, change.Delete, "b", "", "k3"), again)
		want("put again", s.once(c, put, "b", "m 1\n", "k4"), again)
		want("refused again", s.once(c, put, "r", "# TYPE taken gauge\ntaken 1\n", "k5"), refused)
		if o := s.once(c, change.Add, "a", "# TYPE c counter\nc 2\n", "k1"); o.Kind != change.Reused || o.Kind.Status() != 422 {
			t.Errorf("another push with the same key: %+v", o)
		}
		if got := s.text(); !strings.Contains(got, "c{instance=\"\",job=\"a\"} 2\n") || !strings.Contains(got, "m{instance=\"\",job=\"b\"} 1\n") || strings.Contains(got, "taken") {
			t.Errorf("exposed is\n%s", got)
		}
	}
	check(s)
	check(replayed(t, log))
	check(load(t, groupstore.Config{}, cut(t, s.store)))
	s.delete(key(t, "job", "a"))
	want("after a deletion", s.once(c, change.Add, "a", counter, "k1"), again)
	if err := wipe(t.Context(), s.store); err != nil {
		t.Fatal(err)
	}
	want("after a wipe", s.once(c, put, "b", "m 1\n", "k4"), again)
	c.to("14m59s")
	want("while it is remembered", s.once(c, put, "b", "m 1\n", "k4"), again)
	c.to("15m")
	want("when it is forgotten", s.once(c, put, "b", "m 1\n", "k4"), applied)
	want("the same key in another group", s.once(c, put, "d", "m 1\n", "k4"), applied)
	if got := s.text(); strings.Contains(got, "job=\"a\"") || !strings.Contains(got, "m{instance=\"\",job=\"b\"} 1\n") {
		t.Errorf("exposed is\n%s", got)
	}
}

// TestAnswersAreBounded: a group that is full of answers takes no more pushes with keys until the oldest is forgotten, and forgets none before.
func TestAnswersAreBounded(t *testing.T) {
	s := newTester(t, groupstore.Config{})
	c := &clock{noon}
	const most = 4096
	for i := range most {
		if o := s.once(c, change.Add, "a", "# TYPE c counter\nc 1\n", fmt.Sprint(i)); o.Kind != change.Applied {
			t.Fatalf("%d: %+v", i, o)
		}
	}
	c.to("10m")
	if o := s.once(c, change.Add, "a", "# TYPE c counter\nc 1\n", "more"); o.Kind != change.Full || o.RetryAfter == 0 {
		t.Errorf("one more: %+v", o)
	}
	if o := s.once(c, change.Add, "a", "# TYPE c counter\nc 1\n", "0"); o.Kind != change.Applied || !o.Duplicate {
		t.Errorf("the first again: %+v", o)
	}
	if o := s.once(c, change.Add, "b", "# TYPE c counter\nc 1\n", "more"); o.Kind != change.Applied {
		t.Errorf("another group: %+v", o)
	}
	before := s.store.Stats().Bytes
	c.to("15m")
	if o := s.once(c, change.Add, "a", "# TYPE c counter\nc 1\n", "more"); o.Kind != change.Applied || o.Duplicate {
		t.Errorf("when the oldest are forgotten: %+v", o)
	}
	if after := s.store.Stats().Bytes; after > before-most*100 {
		t.Errorf("what is forgotten still takes memory: %d bytes of %d", after, before)
	}
	if text := s.text(); !strings.Contains(text, fmt.Sprintf("c{instance=\"\",job=\"a\"} %d\n", most+1)) {
		t.Errorf("exposed is\n%s", text)
	}
}

// TestAddInDoubt: who adds without a key is told that a retry may count twice.
func TestAddInDoubt(t *testing.T) {
	log := &journal{wait: func(context.Context) error { return context.DeadlineExceeded }}
	s := newTester(t, groupstore.Config{Appender: log})
	for _, tt := range []struct {
		op   change.Operation
		once bool
		want bool
	}{{change.Add, false, true}, {change.Add, true, false}, {put, false, false}} {
		p := pushing{Operation: tt.op, Key: key(t, "job", "j"), At: noon.Add(time.Second)}.change()
		if tt.once {
			p.Once = change.NewOnce("k", p)
		}
		if o, _ := s.store.Apply(t.Context(), p, groupstore.Content{Body: bodyOf(parse(t, "m 1\n")...)}); o.Kind != change.TimedOut || o.MayCountTwice != tt.want {
			t.Errorf("%v: %+v", tt.op, o)
		}
	}
}
