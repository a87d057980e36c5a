package ingest_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pushrelay/internal/grouping"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/history"
	"pushrelay/internal/ingest"
	"pushrelay/internal/push"
)

var journal = [16]byte{7}

// from returns the origin with that number, whose digest is that of the push.
func from(r push.Request, sequence uint64) push.Request {
	r.Origin = &push.Origin{Journal: journal, Sequence: sequence, Digest: push.DigestOf(&r)}
	return r
}

// A memory is a log that remembers how often it was waited for.
type memory struct {
	changes []groupstore.Change
	waited  int
	refuse  error
}

func (m *memory) Append(_ uint64, c groupstore.Change) (func(context.Context) error, error) {
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
		outcome := push.Applied
		if check == groupstore.CheckQuarantine {
			outcome = push.Unchecked
		}
		for _, tt := range []struct {
			name    string
			request push.Request
			outcome push.Outcome // 0 if it is refused
			kind    error
			failure bool
		}{
			{name: "put", request: push.Request{Operation: push.Replace, Key: k, Body: []byte(repeated)}, outcome: outcome},
			{name: "post", request: push.Request{Operation: push.Merge, Key: k, Body: []byte(repeated)}, outcome: outcome},
			{name: "delete", request: push.Request{Operation: push.Delete, Key: k}, outcome: push.Applied},
			{name: "failure", request: push.Request{Operation: push.Fail, Key: k}, outcome: push.Applied, failure: true},
			{name: "malformed", request: push.Request{Operation: push.Replace, Key: k, Body: []byte("m\n")}, kind: push.ErrInvalid},
			{name: "refused on its way", request: push.Request{Operation: push.Replace, Key: k, Refused: push.Errorf(push.ErrTooLarge, "x")}, kind: push.ErrTooLarge},
			{name: "unknown operation", request: push.Request{Operation: 99, Key: k}, kind: push.ErrInvalid},
			{name: "with the label", request: push.Request{Operation: push.Replace, Key: k.With("agent", "other"), Body: []byte("m 1\n")}, kind: push.ErrInvalid},
		} {
			t.Run(fmt.Sprint(tt.name, " ", check), func(t *testing.T) {
				log := &memory{}
				b := newBench(t, ingest.Config{AgentLabel: "agent"}, groupstore.Config{Check: check, Log: log})
				tt.request.Agent, tt.request.ReceivedAt = "site", noon
				r := from(tt.request, 3)
				result, err := b.ingester.Push(t.Context(), &r)
				if tt.outcome == 0 && !errors.Is(err, tt.kind) || tt.outcome != 0 && (err != nil || result.Outcome != tt.outcome || result.Duplicate) {
					t.Errorf("Push = %+v, %v", result, err)
				}
				if got, digest, ok := b.ingester.Decided("site", journal); got != 3 || digest != r.Origin.Digest || !ok || log.waited != 1 {
					t.Errorf("Decided = %d, %x, %v after waiting %d times", got, digest, ok, log.waited)
				}
				if got := strings.Contains(b.exposition(), `push_failure_time_seconds{agent="site",instance="",job="j"} 1.7e+09`); got != tt.failure {
					t.Errorf("failure time set: %v:\n%s", got, b.exposition())
				}
				before := b.exposition()
				result, err = b.ingester.Push(t.Context(), &r)
				want := push.Result{Duplicate: true, Decided: history.Point{Position: 2}}
				if tt.outcome != 0 {
					want.Outcome = push.Applied
				}
				if diff := cmp.Diff(want, result); diff != "" || (tt.kind == nil) != (err == nil) || !errors.Is(err, tt.kind) || log.waited != 2 || b.exposition() != before {
					t.Errorf("again it is %+v, %v, after waiting %d times", result, err, log.waited)
				}
				log.refuse = errors.New("no space left")
				next := from(tt.request, 4)
				if _, err := b.ingester.Push(t.Context(), &next); !errors.Is(err, push.ErrNotWritable) {
					t.Errorf("with a log that refuses: %v", err)
				}
				next.Current = func() bool { return false }
				if _, err := b.ingester.Push(t.Context(), &next); !errors.Is(err, push.ErrNotCurrent) {
					t.Errorf("of a session that is over: %v", err)
				}
			})
		}
	}
}

// TestInconsistentOnce: a rejection for which the failure time is set is decided as durably as any.
func TestInconsistentOnce(t *testing.T) {
	log := &memory{}
	b := newBench(t, ingest.Config{}, groupstore.Config{Log: log})
	if _, err := b.put(key(t, "job", "other"), "# TYPE m counter\nm 1\n"); err != nil {
		t.Fatal(err)
	}
	for i, tt := range [][2]string{{"# TYPE m gauge\nm 1\n", "is not a COUNTER"}, {"m 1 5000\n", "must not have timestamps"}} {
		text, says := tt[0], tt[1]
		r := from(push.Request{Operation: push.Replace, Key: key(t, "job", "j"), Body: []byte(text), ReceivedAt: noon, Agent: "site"}, uint64(i)+1)
		waited := log.waited
		if _, err := b.ingester.Push(t.Context(), &r); !errors.Is(err, push.ErrInconsistent) || log.waited != waited+1 {
			t.Errorf("Push(%q) = %v after waiting %d times", text, err, log.waited-waited)
		}
		if last := log.changes[len(log.changes)-1]; last.Operation != groupstore.Fail {
			t.Errorf("Push(%q) was logged as %v", text, last.Operation)
		}
		if i == 0 { // what it clashed with is gone: it is a duplicate all the same, and keeps its verdict
			if _, err := b.ingester.Push(t.Context(), &push.Request{Operation: push.Delete, Key: key(t, "job", "other")}); err != nil {
				t.Fatal(err)
			}
		}
		result, err := b.ingester.Push(t.Context(), &r)
		if !errors.Is(err, push.ErrInconsistent) || !result.Duplicate || !strings.Contains(err.Error(), says) {
			t.Errorf("again it is %+v, %v, want it to say %q", result, err, says)
		}
	}
}

// TestOnceByTemplate: bodies that are matched and not parsed are numbered as any.
func TestOnceByTemplate(t *testing.T) {
	b, store := newCounting(t)
	send := func(value, sequence int) push.Result {
		r := from(push.Request{Operation: push.Replace, Key: key(t, "job", "j"), Body: fmt.Appendf(nil, "m %d\n", value), ReceivedAt: noon, Agent: "site"}, uint64(sequence))
		result, err := b.ingester.Push(t.Context(), &r)
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
	send := func(agent string, k grouping.Key, sequence uint64) (push.Result, error) {
		r := from(push.Request{Operation: push.Replace, Key: k, Body: []byte("m 1\n"), ReceivedAt: noon, Agent: agent}, sequence)
		return b.ingester.Push(t.Context(), &r)
	}
	j := key(t, "job", "j")
	for _, k := range []grouping.Key{j.With("agent", "a"), j.With("agent", "b"), j.With("agent", "")} {
		if _, err := send("a", k, 9); !errors.Is(err, push.ErrInvalid) {
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
