package groupstore_test

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pushrelay/internal/change"
	"pushrelay/internal/grouping"
	"pushrelay/internal/groupstore"
)

// TestForget: traces are passed when their source says so, and what groups have stays.
func TestForget(t *testing.T) {
	j := &journal{}
	s := newTester(t, groupstore.Config{Appender: j})
	a, b, c := key(t, "job", "a"), key(t, "job", "b"), key(t, "job", "c")
	remove := func(k grouping.Key, source string, sequence uint64) {
		t.Helper()
		s.send(pushing{Operation: change.Delete, Key: k}, source, sequence)
	}
	live := body(t, "m 1\n")
	live.Key = c
	s.send(live, "x", 1)
	remove(a, "x", 7)
	remove(b, "x", 3)
	remove(b, "y", 1)
	for _, st := range []struct {
		source  string
		through uint64
		traces  int
		logged  bool
	}{{"x", 2, 3, false}, {"z", 9, 3, false}, {"x", 3, 2, true}, {"x", 6, 2, false}, {"y", 1, 1, true}, {"x", 7, 0, true}, {"x", 99, 0, false}} {
		logged := len(j.changes)
		forget(s.store, st.source, st.through)
		if got := s.store.Stats().Traces; got != st.traces || (len(j.changes) > logged) != st.logged {
			t.Errorf("Forget(%s, %d) left %d traces, want %d, and logged %d changes", st.source, st.through, got, st.traces, len(j.changes)-logged)
		}
		wantSame(t, "replayed", s, replayed(t, j))
		wantSame(t, "loaded", s, load(t, groupstore.Config{}, cut(t, s.store)))
	}
	const ofA, ofB = "503b9a301e1f8006", "299741b6a883b909"
	want := map[string]string{
		`{job="c"} 0`: fmt.Sprintf("x 1 0100 false %d", noon.UnixNano()), "source x": "7 0700", "source y": "1 0100",
		"passed x " + ofA: fmt.Sprintf("7 700 %d false", noon.UnixNano()), "passed x " + ofB: fmt.Sprintf("3 300 %d false", noon.UnixNano()),
		"passed y " + ofB: fmt.Sprintf("1 100 %d false", noon.UnixNano()),
		"remembered x 0":  "x " + ofB, "remembered x 1": "x " + ofA, "remembered y 0": "y " + ofB,
	}
	if diff := cmp.Diff(want, marksOf(t, s.store)); diff != "" {
		t.Errorf("marks (-want +got):\n%s", diff)
	}
	s.delete(c) // nobody numbered this, and yet the mark is kept
	if got := s.store.Stats().Traces; got != 1 {
		t.Errorf("%d traces of a group that was deleted directly", got)
	}
	forget(s.store, "x", 1)
	if got := s.store.Stats().Traces; got != 0 {
		t.Errorf("%d traces, marks: %v", got, marksOf(t, s.store))
	}
	empty(t, s)
}

// TestMarksAreBounded: in a group the mark goes that was moved longest ago; and what an author, or all, leave in groups that are not there
// comes later when it is too much, until it is passed. Nobody else is held up, and a wipe is never refused.
func TestMarksAreBounded(t *testing.T) {
	j := &journal{}
	s := newTester(t, groupstore.Config{Appender: j})
	a := body(t, "m 1\n")
	a.Key = key(t, "job", "a")
	for i := range 20 {
		s.send(a, fmt.Sprint("journal ", i), 1)
		s.send(a, "journal 0", uint64(i)+2)
	}
	if got := len(marksOf(t, s.store)); got != 2*16 {
		t.Errorf("%d marks and sources", got)
	}
	if !s.send(a, "journal 0", 21) || !s.send(a, "journal 19", 1) || s.send(a, "journal 1", 1) {
		t.Error("not the mark that was moved longest ago was dropped")
	}
	wantSame(t, "replayed", s, replayed(t, j))

	flooded := newTester(t, groupstore.Config{Appender: &journal{}})
	flooded.store.SetMaxTraces(10, 25, 10, 25)
	try := func(op change.Operation, source string, sequence uint64) error {
		o := &origin{Source: source, Sequence: sequence}
		k := key(t, "job", fmt.Sprint(source, sequence))
		if op == change.Mark {
			_, err := mark(t.Context(), flooded.store, pushing{Key: k, Origin: o})
			return err
		}
		_, err := apply(t.Context(), flooded.store, pushing{Operation: op, Key: k, At: noon, Origin: o})
		return err
	}
	for _, tt := range []struct {
		op     change.Operation
		source string
		from   uint64
		n      int
		taken  int
	}{
		{change.Mark, "site-a\x00j", 1, 8, 8},
		{change.Delete, "site-a\x00k", 1, 8, 2}, // another journal of the same author
		{change.Replace, "site-a\x00j", 100, 3, 3},
		{change.Delete, "site-b\x00j", 1, 20, 10},
		{change.Delete, "site-c\x00j", 1, 20, 5}, // all together
	} {
		taken := 0
		for i := range tt.n {
			err := try(tt.op, tt.source, tt.from+uint64(i))
			if err == nil {
				taken++
			} else if !errors.Is(err, change.Full) {
				t.Fatalf("%v by %q = %v", tt.op, tt.source, err)
			}
		}
		if taken != tt.taken {
			t.Errorf("%d of %d changes (%v) by %q were taken, want %d", taken, tt.n, tt.op, tt.source, tt.taken)
		}
	}
	if err := wipe(t.Context(), flooded.store); err != nil || flooded.store.Stats().Traces != 28 {
		t.Errorf("a wipe = %v, %d traces", err, flooded.store.Stats().Traces)
	}
	forget(flooded.store, "site-a\x00j", 1000)
	if err := try(change.Delete, "site-a\x00j", 1001); err != nil {
		t.Errorf("a deletion after the others were passed = %v", err)
	}
	marksOf(t, flooded.store)
}

// TestATraceIsSmall: it costs less than 100 bytes, whatever the grouping key.
func TestATraceIsSmall(t *testing.T) {
	const n = 60000
	keys := make([]grouping.Key, n)
	for i := range keys {
		keys[i] = key(t, "job", fmt.Sprint(strings.Repeat("x", 200), i))
	}
	s := newTester(t, groupstore.Config{})
	before := heapInUse()
	for i, k := range keys {
		if _, err := mark(t.Context(), s.store, pushing{Key: k, Origin: &origin{Source: "site\x00journal", Sequence: uint64(i) + 1}}); err != nil {
			t.Fatal(err)
		}
	}
	each := (heapInUse() - before) / n
	t.Logf("a trace takes %d bytes", each)
	if each > 100 {
		t.Errorf("a trace takes %d bytes", each)
	}
	if s.store.Stats().Traces != n {
		t.Errorf("%d traces", s.store.Stats().Traces)
	}
	runtime.KeepAlive(keys)
}

// TestImportKeepsMarks: what a file brings does not make changes of before it come back.
func TestImportKeepsMarks(t *testing.T) {
	s := newTester(t, groupstore.Config{})
	a := body(t, "m 1\n")
	a.Key = key(t, "job", "a")
	s.send(a, "x", 3)
	if _, _, err := s.store.Import(&groupstore.Import{Key: a.Key, Body: bodyOf(parse(t, "m 2\n")...), PushedAt: noon}); err != nil {
		t.Fatal(err)
	}
	if before := s.full(); !s.send(a, "x", 2) || s.full() != before {
		t.Error("a change of before the import came back")
	}
}

// TestLoaderRefusesMarks: records of traces and sources that no store wrote.
func TestLoaderRefusesMarks(t *testing.T) {
	s := newTester(t, groupstore.Config{})
	s.put(key(t, "job", "a"), "m 1\n")
	s.send(pushing{Operation: change.Delete, Key: key(t, "job", "b")}, "x", 3)
	whole := formerCut(t, s.store) // position, set, group, trace, source
	trace, source := whole[3], whole[4]
	edit := func(record []byte, old, replacement string) []byte {
		if !strings.Contains(string(record), old) {
			t.Fatalf("%q lacks %q", record, old)
		}
		return []byte(strings.Replace(string(record), old, replacement, 1))
	}
	for name, records := range map[string][][]byte{
		"a trace twice":             {trace, trace, source},
		"a trace with more":         {append(slices.Clone(trace), 0)},
		"a trace that is cut off":   {trace[:12]},
		"a trace of sequence 0":     {[]byte("\x02\x07\x01x\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00")},
		"a trace of no source":      {[]byte("\x02\x07\x00\x00\x00\x00\x00\x00\x00\x00\x01\x01\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00")},
		"a source without marks":    {source},
		"a source behind its marks": {trace, edit(source, "\x00\x03", "\x00\x02")},
		"a source that is cut off":  {trace, source[:len(source)-1]},
		"a source of another name":  {trace, edit(source, "\x12x", "\x12y")},
		// Of format 1.
		"a tombstone of a group":        {[]byte("\x01\x05\x05job\xffa\x01\x01x\x01................\x00")},
		"a tombstone without marks":     {[]byte("\x01\x05\x05job\xffb\x00")},
		"a tombstone with more":         {[]byte("\x01\x05\x05job\xffb\x01\x01x\x01................\x00\x00")},
		"a mark of sequence 0":          {[]byte("\x01\x05\x05job\xffb\x01\x01x\x00................\x00")},
		"a tombstone of no proper key ": {[]byte("\x01\x05\x05jub\xffb\x01\x01x\x01................\x00")},
	} {
		t.Run(name, func(t *testing.T) {
			l := groupstore.New(groupstore.Config{}).Loader()
			var err error
			for _, r := range append(whole[:3:3], records...) {
				err = errors.Join(err, l.Add(r))
			}
			if errors.Join(err, l.Finish()) == nil {
				t.Error("no error")
			}
		})
	}
}

// TestTombstonesOfFormat1 are read: what they say is a duplicate.
func TestTombstonesOfFormat1(t *testing.T) {
	s := newTester(t, groupstore.Config{})
	l := s.store.Loader()
	x, y := "\x12x"+strings.Repeat("\x00", 17), "\x12y"+strings.Repeat("\x00", 17)
	for _, r := range []string{"\x01\x02\x05", "\x01\x05\x05job\xffb\x02" + x + "\x04................\x00" + y + "\x07................\x01", "\x01\x06" + x + "\x09................"} {
		if err := l.Add([]byte(r)); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Finish(); err != nil {
		t.Fatal(err)
	}
	if got, _, _ := decided(s.store, "x"); got != 9 || s.store.Stats().Traces != 2 {
		t.Errorf("Decided = %d, %d traces", got, s.store.Stats().Traces)
	}
	p := body(t, "m 1\n")
	p.Key = key(t, "job", "b")
	if !s.send(p, "x", 3) || !s.send(p, "y", 6) || s.send(p, "x", 5) {
		t.Error("the marks of a tombstone are not those that it had")
	}
}

// TestMendMarks replays a log of which the making of a group is lost: its mark is not.
func TestMendMarks(t *testing.T) {
	j := &journal{}
	s := newTester(t, groupstore.Config{Appender: j})
	p := body(t, "m 1\n")
	p.Key, p.At = key(t, "job", "a"), noon
	s.send(p, "x", 1)
	s.send(p, "x", 2)
	if _, err := mark(t.Context(), s.store, pushing{Key: p.Key, Origin: &origin{Source: "x", Sequence: 3}}); err != nil {
		t.Fatal(err)
	}
	s.send(pushing{Operation: change.Delete, Key: p.Key}, "x", 4)
	s.send(p, "x", 5)
	records := encoded(j)
	for lost := range records {
		mended := newTester(t, groupstore.Config{})
		for i, r := range records[:4] {
			if i == lost {
				continue
			}
			if err := mended.store.Mend(r); err != nil {
				t.Fatal(err)
			}
		}
		want := uint64(4)
		if lost == 3 {
			want = 3
		}
		if got, _, _ := decided(mended.store, "x"); got != want {
			t.Errorf("without record %d: Decided = %d, want %d", lost, got, want)
		}
		for g := range mended.store.Snapshot().Groups() {
			if lost == 3 && g.PushTime().Equal(time.Time{}) {
				t.Errorf("a mark took the push time of %v", g.Key())
			}
		}
		marksOf(t, mended.store)
	}
}
