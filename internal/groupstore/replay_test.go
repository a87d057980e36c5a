package groupstore_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pushrelay/internal/change"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/metric"
)

// A journal is a log in memory.
type journal struct {
	changes []groupstore.Effect
	refuse  error
	wait    func(ctx context.Context) error
}

func (j *journal) Append(position uint64, c groupstore.Effect) (func(context.Context) error, error) {
	if j.refuse != nil {
		return nil, j.refuse
	}
	j.changes = append(j.changes, c)
	if position != uint64(len(j.changes)) {
		return nil, errors.New("positions do not rise by one")
	}
	return j.wait, nil
}

// TestReplay applies the changes of one store to another: both are the same, at every position, whether the check was on or
// not, and applying twice is applying once.
func TestReplay(t *testing.T) {
	for _, check := range []groupstore.Check{groupstore.CheckEnforced, groupstore.CheckQuarantine} {
		for round := range 30 {
			u := universe{Rand: rand.New(rand.NewPCG(3, uint64(round)))}
			j := &journal{}
			cfg := groupstore.Config{Check: check, OwnFamilies: []groupstore.OwnFamily{{Name: "own", Type: metric.Gauge}}}
			replica := newTester(t, cfg)
			cfg.Appender = j
			s := newTester(t, cfg)
			applied := 0
			for i := range 60 {
				op := []change.Operation{put, put, post, post, change.Delete}[u.IntN(5)]
				apply(t.Context(), s.store, pushing{Operation: op, Key: u.key(t), Body: bodyOf(u.families()...), At: noon})
				if i == 40 {
					if err := wipe(t.Context(), s.store); err != nil {
						t.Fatal(err)
					}
				}
				for ; applied < len(j.changes); applied++ {
					for range 2 {
						if err := replica.store.Again(uint64(applied+1), j.changes[applied]); err != nil {
							t.Fatalf("Apply(%d) = %v", applied+1, err)
						}
					}
				}
				if diff := cmp.Diff(s.groups(), replica.groups()); diff != "" {
					t.Fatalf("round %d, after %d changes: groups (-store +replica):\n%s", round, applied, diff)
				}
			}
			if diff := cmp.Diff(s.full(), replica.full()); diff != "" {
				t.Fatalf("round %d: exposition (-store +replica):\n%s", round, diff)
			}
			if diff := cmp.Diff(s.store.Tables(), replica.store.Tables()); diff != "" {
				t.Fatalf("round %d: tables (-store +replica):\n%s", round, diff)
			}
		}
	}
}

// TestApplyRechecks replays into a program that has got a metric of its own since.
func TestApplyRechecks(t *testing.T) {
	j := &journal{}
	s := newTester(t, groupstore.Config{Appender: j})
	s.put(key(t, "job", "a"), "# TYPE new counter\nnew 1\nm 1\n")
	replica := newTester(t, groupstore.Config{OwnFamilies: []groupstore.OwnFamily{{Name: "new", Type: metric.Gauge}}})
	if err := replica.store.Again(1, j.changes[0]); err != nil {
		t.Fatal(err)
	}
	if got, want := replica.text(), "# TYPE m untyped\nm{instance=\"\",job=\"a\"} 1\n"; got != want {
		t.Errorf("exposition = %q, want %q", got, want)
	}
	if got := replica.store.Stats().Quarantined; got != 1 {
		t.Errorf("%d families in quarantine, want 1", got)
	}
}

func TestApplyRefuses(t *testing.T) {
	j := &journal{}
	s := newTester(t, groupstore.Config{Appender: j})
	s.put(key(t, "job", "a"), "m 1\n")
	s.put(key(t, "job", "a"), "m 2\n")
	replica := newTester(t, groupstore.Config{})
	for _, op := range []change.Operation{0, 99} {
		c := j.changes[0]
		c.Operation = op
		if err := replica.store.Again(1, c); err == nil {
			t.Errorf("Apply of operation %d succeeded", op)
		}
	}
	if err := replica.store.Again(1, j.changes[1]); err == nil {
		t.Error("Apply of a change that has seen another version succeeded")
	}
	if got := replica.groups(); len(got) != 0 {
		t.Errorf("groups: %q", got)
	}
}

func TestLogRefuses(t *testing.T) {
	broken := errors.New("disk full")
	j := &journal{}
	s := newTester(t, groupstore.Config{Appender: j})
	s.put(key(t, "job", "a"), "m 1\n")
	before := s.full()
	j.refuse = broken
	if o, err := s.push(put, key(t, "job", "a"), "m 2\n"); !isRefused(o, broken) {
		t.Errorf("Push = %v, want %v", err, broken)
	}
	if _, err := s.push(put, key(t, "job", "b"), "m{__x=\"1\"} 2\n"); !errors.Is(err, change.Inconsistent) {
		t.Errorf("Push of what is inconsistent = %v", err)
	}
	if err := wipe(t.Context(), s.store); !isRefused(change.OutcomeOf(err), broken) {
		t.Errorf("Wipe = %v, want %v", err, broken)
	}
	if diff := cmp.Diff(before, s.full()); diff != "" {
		t.Errorf("a refused change changed the exposition (-before +after):\n%s", diff)
	}
}

func TestLogWait(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	j := &journal{wait: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }}
	s := newTester(t, groupstore.Config{Appender: j})
	o, err := apply(ctx, s.store, pushing{Operation: put, Key: key(t, "job", "a"), Body: bodyOf(parse(t, "m 1\n")...), At: noon})
	if o.Kind != change.Canceled || o.Decided.Position != 1 {
		t.Errorf("Push = %v, want it to be in doubt for %v", err, context.Canceled)
	}
	if got := s.text(); got == "" {
		t.Error("what is in doubt is not visible")
	}
	// Failures are logged and not waited for.
	if o, err := s.push(put, key(t, "job", "a"), "m 1 5\n"); !errors.Is(err, change.Inconsistent) || o.Decided.Position != 0 {
		t.Errorf("Push of timestamps = %v", err)
	}
	if last := j.changes[len(j.changes)-1]; last.Operation != change.Fail || last.FailedAt != noon.UnixNano() || last.PushedAt != noon.UnixNano() {
		t.Errorf("the failure was logged as %+v", last)
	}
}
