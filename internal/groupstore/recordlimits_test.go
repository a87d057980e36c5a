package groupstore_test

import (
	"strings"
	"testing"

	"pushrelay/internal/addup"
	"pushrelay/internal/change"
	"pushrelay/internal/groupstore"
)

// TestRecordLimits: a group that would be too large to be kept is refused before anything changes, whichever way it grows (C5).
func TestRecordLimits(t *testing.T) {
	asked := 0
	s := newTester(t, groupstore.Config{Records: groupstore.RecordLimits{
		Bytes: 200, Name: "a limit", Packed: func(record []byte) int { asked++; return len(record) - strings.Count(string(record), "z") },
	}})
	k, j := key(t, "job", "k"), key(t, "job", "j")
	refused := func(op change.Operation, body string) {
		t.Helper()
		before := s.full()
		o, _ := s.push(op, k, body)
		if o.Kind != change.TooLarge || !strings.Contains(o.Detail, "(a limit)") || o.Decided.Position != 0 {
			t.Errorf("a group that is too large: %+v", o)
		}
		if s.full() != before {
			t.Error("something has changed")
		}
	}
	large := `m{l="` + strings.Repeat("x", 100) + "\"} 1\n"
	larger := `n{l="` + strings.Repeat("y", 300) + "\"} 1\n"
	refused(put, larger)
	s.put(k, large)
	if asked != 1 {
		t.Errorf("records were packed %d times, and one was too large as it is", asked)
	}
	refused(put, larger)
	refused(post, larger)
	refused(post, strings.ReplaceAll(large, "m{", "n{"))
	if err := s.onto(change.Add, addup.Last, strings.ReplaceAll(large, "m{", "n{"), noon); err != nil {
		t.Errorf("another group: %v", err)
	}
	refused(change.MergeSeries, strings.ReplaceAll(large, "x", "w"))
	s.put(k, `m{l="`+strings.Repeat("z", 300)+"\"} 1\n") // which packs well
	s.put(j, large)
	s.delete(k)
}

// TestFull: while there is no room nothing is taken but what takes things away, and it may be sent again (C19).
func TestFull(t *testing.T) {
	reason := ""
	s := newTester(t, groupstore.Config{Records: groupstore.RecordLimits{Full: func() string { return reason }}})
	a, b := key(t, "job", "a"), key(t, "job", "b")
	s.put(a, "m 1\n")
	reason = "no disk"
	for _, k := range []string{"a", "b"} {
		if o, _ := s.push(put, key(t, "job", k), "m 2\n"); o.Kind != change.Full || !strings.Contains(o.Detail, "no disk") || o.Decided.Position != 0 {
			t.Errorf("a push to a store that is full: %+v", o)
		}
	}
	s.delete(a)
	reason = ""
	s.put(b, "m 2\n")
}
