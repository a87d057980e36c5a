package ingest_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pushrelay/internal/change"
	"pushrelay/internal/grouping"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/history"
	"pushrelay/internal/ingest"
)

var journal = [16]byte{7}

// from returns the origin with that number, whose digest is that of the push.
func from(r change.Change, sequence uint64) change.Change {
	r.Origin = &change.Origin{Journal: journal, Sequence: sequence, Digest: change.DigestOf(&r)}
	return r
}

// A memory is a log that remembers how often it was waited for.
type memory struct {
	changes []groupstore.Effect
	waited  int
	refuse  error
}

func (m *memory) Append(_ uint64, c groupstore.Effect) (func(context.Context) error, error) {
	if m.refuse != nil {
		return nil, m.refuse
	}
	m.changes = append(m.changes, c)
	return func(context.Context) error { m.waited++; return nil }, nil
}

// TestOnce: whatever an agent sends is decided once, durably, and recognised when it comes again: what was refused is refused
// again, in the same words.
func TestOnce(t *testing.T) {
	k := key(t, "job", "j")
	repeated := "m 1\nn 2\n"
	for _, check := range []groupstore.Check{groupstore.CheckEnforced, groupstore.CheckQuarantine} {
		taken := change.Applied
		if check == groupstore.CheckQuarantine {
			taken = change.Unchecked
		}
		for _, tt := range []struct {
			name    string
			request change.Change
			taken   change.Kind // 0 if it is refused
			kind    error
			failure bool
		}{
			{name: "put", request: change.Change{Operation: change.Replace, Key: k, Body: []byte(repeated)}, taken: taken},
			{name: "post", request: change.Change{Operation: change.Merge, Key: k, Body: []byte(repeated)}, taken: taken},
			{name: "delete", request: change.Change{Operation: change.Delete, Key: k}, taken: change.Applied},
			{name: "failure", request: change.Change{Operation: change.Fail, Key: k}, taken: change.Applied, failure: true},
			{name: "malformed", request: change.Change{Operation: change.Replace, Key: k, Body: []byte("m\n")}, kind: change.Invalid},
			{name: "refused on its way", request: change.Change{Operation: change.Replace, Key: k, Refused: change.Refuse(change.TooLarge, "x")}, kind: change.TooLarge},
			{name: "unknown operation", request: change.Change{Operation: 99, Key: k}, kind: change.Invalid},
			{name: "with the label", request: change.Change{Operation: change.Replace, Key: k.With("agent", "other"), Body: []byte("m 1\n")}, kind: change.Invalid},
		} {
			t.Run(fmt.Sprint(tt.name, " ", check), func(t *testing.T) {
				log := &memory{}
				b := newBench(t, ingest.Config{AgentLabel: "agent"}, groupstore.Config{Check: check, Appender: log})
				tt.request.Agent, tt.request.At = "site", noon
				r := from(tt.request, 3)
				result, err := outcome(b.ingester.Apply(t.Context(), &r))
				if tt.taken == 0 && !errors.Is(err, tt.kind) || tt.taken != 0 && (err != nil || result.Kind != tt.taken || result.Duplicate) {
					t.Errorf("Push = %+v, %v", result, err)
				}
				if got, digest, ok := b.ingester.Decided("site", journal); got != 3 || digest != r.Origin.Digest || !ok || log.waited != 1 {
					t.Errorf("Decided = %d, %x, %v after waiting %d times", got, digest, ok, log.waited)
				}
				if got := strings.Contains(b.exposition(), `push_failure_time_seconds{agent="site",instance="",job="j"} 1.7e+09`); got != tt.failure {
					t.Errorf("failure time set: %v:\n%s", got, b.exposition())
				}
				before := b.exposition()
				result, err = outcome(b.ingester.Apply(t.Context(), &r))
				want := change.Outcome{Duplicate: true, Decided: history.Point{Position: 2}}
				if tt.taken != 0 {
					want.Kind = change.Applied
				} else {
					want.Kind, want.Detail = result.Kind, result.Detail
				}
				if diff := cmp.Diff(want, result); diff != "" || (tt.kind == nil) != (err == nil) || !errors.Is(err, tt.kind) || log.waited != 2 || b.exposition() != before {
					t.Errorf("again it is %+v, %v, after waiting %d times", result, err, log.waited)
				}
				log.refuse = errors.New("no space left")
				next := from(tt.request, 4)
				if err := b.ingester.Apply(t.Context(), &next).Err(); !errors.Is(err, change.NotWritable) {
					t.Errorf("with a log that refuses: %v", err)
				}
				next.Current = func() bool { return false }
				if err := b.ingester.Apply(t.Context(), &next).Err(); !errors.Is(err, change.NotCurrent) {
					t.Errorf("of a session that is over: %v", err)
				}
			})
		}
	}
}

// TestInconsistentOnce: a rejection for which the failure time is set is decided as durably as any.
func TestInconsistentOnce(t *testing.T) {
	log := &memory{}
	b := newBench(t, ingest.Config{}, groupstore.Config{Appender: log})
	if _, err := b.put(key(t, "job", "other"), "# TYPE m counter\nm 1\n"); err != nil {
		t.Fatal(err)
	}
	for i, tt := range [][2]string{{"# TYPE m gauge\nm 1\n", "is not a COUNTER"}, {"m 1 5000\n", "must not have timestamps"}} {
		text, says := tt[0], tt[1]
		r := from(change.Change{Operation: change.Replace, Key: key(t, "job", "j"), Body: []byte(text), At: noon, Agent: "site"}, uint64(i)+1)
		waited := log.waited
		if err := b.ingester.Apply(t.Context(), &r).Err(); !errors.Is(err, change.Inconsistent) || log.waited != waited+1 {
			t.Errorf("Push(%q) = %v after waiting %d times", text, err, log.waited-waited)
		}
		if last := log.changes[len(log.changes)-1]; last.Operation != change.Fail {
			t.Errorf("Push(%q) was logged as %v", text, last.Operation)
		}
		if i == 0 { // what it clashed with is gone: it is a duplicate all the same, and keeps its verdict
			if err := b.ingester.Apply(t.Context(), &change.Change{Operation: change.Delete, Key: key(t, "job", "other")}).Err(); err != nil {
				t.Fatal(err)
			}
		}
		result, err := outcome(b.ingester.Apply(t.Context(), &r))
		if !errors.Is(err, change.Inconsistent) || !result.Duplicate || !strings.Contains(err.Error(), says) {
			t.Errorf("again it is %+v, %v, want it to say %q", result, err, says)
		}
	}
}

// TestOnceByTemplate: bodies that are matched and not parsed are numbered as any.
func TestOnceByTemplate(t *testing.T) {
	b, store := newCounting(t)
	send := func(value, sequence int) change.Outcome {
		r := from(change.Change{Operation: change.Replace, Key: key(t, "job", "j"), Body: fmt.Appendf(nil, "m %d\n", value), At: noon, Agent: "site"}, uint64(sequence))
		result, err := outcome(b.ingester.Apply(t.Context(), &r))
		if err != nil {
			t.Fatal(err)
		}
		return result
	}
	for i := range 6 {
		send(i, i+1)
	}
	if store.matched == 0 {
		t.Fatal("nothing was matched")
	}
	matched := store.matched
	if !send(5, 6).Duplicate || !send(2, 3).Duplicate || store.matched != matched {
		t.Error("a duplicate was not recognised")
	}
	b.exposes(`m{instance="",job="j"} 5`)
	if send(9, 7).Duplicate || store.matched != matched+1 {
		t.Error("the next push was not matched")
	}
	b.exposes(`m{instance="",job="j"} 9`)
}

// TestAgentsAreApart: no agent can speak for another's journal, and a key that is refused shares its mark with no group.
func TestAgentsAreApart(t *testing.T) {
	b := newBench(t, ingest.Config{AgentLabel: "agent"}, groupstore.Config{})
	send := func(agent string, k grouping.Key, sequence uint64) (change.Outcome, error) {
		r := from(change.Change{Operation: change.Replace, Key: k, Body: []byte("m 1\n"), At: noon, Agent: agent}, sequence)
		return outcome(b.ingester.Apply(t.Context(), &r))
	}
	j := key(t, "job", "j")
	for _, k := range []grouping.Key{j.With("agent", "a"), j.With("agent", "b"), j.With("agent", "")} {
		if _, err := send("a", k, 9); !errors.Is(err, change.Invalid) {
			t.Fatalf("Push(%v) = %v", k, err)
		}
	}
	for _, agent := range []string{"a", "b"} {
		if result, err := send(agent, j, 3); err != nil || result.Duplicate {
			t.Errorf("Push by %s = %+v, %v", agent, result, err)
		}
	}
	if got, _, ok := b.ingester.Decided("b", journal); !ok || got != 3 {
		t.Errorf("Decided(b) = %d, %v", got, ok)
	}
	if _, _, ok := b.ingester.Decided("c", journal); ok {
		t.Error("an agent that sent nothing has a journal")
	}
	if got := b.store.Stats().Traces; got != 3 {
		t.Errorf("%d traces, want those of the refused keys", got)
	}
	b.ingester.Forget("b", journal, 99)
	b.ingester.Forget("a", journal, 9)
	if got := b.store.Stats().Traces; got != 0 {
		t.Errorf("%d traces after they were forgotten", got)
	}
}
