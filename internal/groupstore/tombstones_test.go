package groupstore_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pushrelay/internal/grouping"
	"pushrelay/internal/groupstore"
)

// TestForget: tombstones go when their marks are passed, and what groups have stays.
func TestForget(t *testing.T) {
	j := &journal{}
	s := newTester(t, groupstore.Config{Log: j})
	a, b, c := key(t, "job", "a"), key(t, "job", "b"), key(t, "job", "c")
	remove := func(k grouping.Key, source string, sequence uint64) {
		t.Helper()
		s.send(groupstore.Push{Operation: groupstore.Delete, Key: k}, source, sequence)
	}
	live := body(t, "m 1\n")
	live.Key = c
	s.send(live, "x", 1)
	remove(a, "x", 7)
	remove(b, "x", 3)
	remove(b, "y", 1)
	for _, st := range []struct {
		source     string
		through    uint64
		tombstones int
		logged     bool
	}{{"x", 2, 2, false}, {"z", 9, 2, false}, {"x", 3, 2, true}, {"x", 6, 2, false}, {"y", 1, 1, true}, {"x", 7, 0, true}, {"x", 99, 0, false}} {
		logged := len(j.changes)
		s.store.Forget(st.source, st.through)
		if got := s.store.Stats().Tombstones; got != st.tombstones || (len(j.changes) > logged) != st.logged {
			t.Errorf("Forget(%s, %d) left %d tombstones, want %d, and logged %d changes", st.source, st.through, got, st.tombstones, len(j.changes)-logged)
		}
		wantSame(t, "replayed", s, replayed(t, j))
		wantSame(t, "loaded", s, load(t, groupstore.Config{}, cut(t, s.store)))
	}
	want := map[string]string{
		`+{job="c"} 0`: fmt.Sprintf("x 1 0100 false %d", noon.UnixNano()), "source x": "7 0700", // exact although the 7 is forgotten
		"deletion x 503b9a30": fmt.Sprintf("x 7 %d", noon.UnixNano()), // of group a
		"deletion x 299741b6": fmt.Sprintf("x 3 %d", noon.UnixNano()), // of group b
		"deletion y 299741b6": fmt.Sprintf("y 1 %d", noon.UnixNano()),
	}
	if diff := cmp.Diff(want, marksOf(t, s.store)); diff != "" {
		t.Errorf("marks (-want +got):\n%s", diff)
	}
	s.delete(c) // nobody numbered this, and yet the mark is kept
	if got := s.store.Stats().Tombstones; got != 1 {
		t.Errorf("%d tombstones of a group that was deleted directly", got)
	}
	s.store.Forget("x", 1)
	if got := s.store.Stats().Tombstones; got != 0 || len(marksOf(t, s.store)) != 4 {
		t.Errorf("%d tombstones, marks: %v", got, marksOf(t, s.store))
	}
	empty(t, s)
}

// TestMarksAreBounded: in a group, and in those that are not there.
func TestMarksAreBounded(t *testing.T) {
	j := &journal{}
	s := newTester(t, groupstore.Config{Log: j})
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

	flooded := newTester(t, groupstore.Config{})
	flooded.store.SetMaxTombstones(100)
	for i := range 1000 {
		p := groupstore.Push{Operation: groupstore.Delete, Key: key(t, "job", fmt.Sprint(i))}
		flooded.send(p, fmt.Sprint("journal ", i%300), uint64(i)+1)
	}
	if stats := flooded.store.Stats(); stats.Tombstones != 100 || len(marksOf(t, flooded.store)) > 200 {
		t.Errorf("Stats() = %+v, %d marks and sources", stats, len(marksOf(t, flooded.store)))
	}
	loaded := newTester(t, groupstore.Config{})
	loaded.store.SetMaxTombstones(100)
	l := loaded.store.Loader()
	for _, r := range cut(t, flooded.store) {
		if err := l.Add(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Finish(); err != nil {
		t.Fatal(err)
	}
	for i := range 500 {
		p := groupstore.Push{Operation: groupstore.Delete, Key: key(t, "job", fmt.Sprint("later ", i))}
		flooded.send(p, "y", uint64(i)+1)
		loaded.send(p, "y", uint64(i)+1)
	}
	wantSame(t, "loaded, and flooded further", flooded, loaded)
}

// TestImportKeepsMarks: what a file brings does not make changes of before it come back.
func TestImportKeepsMarks(t *testing.T) {
	s := newTester(t, groupstore.Config{})
	a := body(t, "m 1\n")
	a.Key = key(t, "job", "a")
	s.send(a, "x", 3)
	if _, _, err := s.store.Import(groupstore.Import{Key: a.Key, Body: bodyOf(parse(t, "m 2\n")...), PushedAt: noon}); err != nil {
		t.Fatal(err)
	}
	if before := s.full(); !s.send(a, "x", 2) || s.full() != before {
		t.Error("a change of before the import came back")
	}
}

// TestLoaderRefusesMarks: records of tombstones and sources that no store wrote.
func TestLoaderRefusesMarks(t *testing.T) {
	s := newTester(t, groupstore.Config{})
	s.put(key(t, "job", "a"), "m 1\n")
	s.send(groupstore.Push{Operation: groupstore.Delete, Key: key(t, "job", "b")}, "x", 3)
	whole := cut(t, s.store) // position, skeleton, group, tombstone, source
	tombstone, source := whole[3], whole[4]
	edit := func(record []byte, old, replacement string) []byte {
		if !strings.Contains(string(record), old) {
			t.Fatalf("%q lacks %q", record, old)
		}
		return []byte(strings.Replace(string(record), old, replacement, 1))
	}
	for name, records := range map[string][][]byte{
		"a tombstone twice":             {tombstone, tombstone, source},
		"a tombstone of a group":        {edit(tombstone, "\xffb", "\xffa"), source},
		"a tombstone without marks":     {tombstone[:len(tombstone)-1-16-1-2-1]},
		"a tombstone with more":         {append(slices.Clone(tombstone), 0)},
		"a source without marks":        {source},
		"a source behind its marks":     {tombstone, edit(source, "x\x03", "x\x02")},
		"a source that is cut off":      {tombstone, source[:len(source)-1]},
		"a source of another name":      {tombstone, edit(source, "x\x03", "y\x03")},
		"a mark of sequence 0":          {edit(tombstone, "x\x03", "x\x00")},
		"a tombstone of no proper key ": {edit(tombstone, "job\xff", "jub\xff")},
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

// TestMendMarks replays a log of which the making of a group is lost: its mark is not.
func TestMendMarks(t *testing.T) {
	j := &journal{}
	s := newTester(t, groupstore.Config{Log: j})
	p := body(t, "m 1\n")
	p.Key, p.At = key(t, "job", "a"), noon
	s.send(p, "x", 1)
	s.send(p, "x", 2)
	if _, err := s.store.Mark(t.Context(), groupstore.Push{Key: p.Key, Origin: &groupstore.Origin{Source: "x", Sequence: 3}}); err != nil {
		t.Fatal(err)
	}
	s.send(groupstore.Push{Operation: groupstore.Delete, Key: p.Key}, "x", 4)
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
		if got, _, _ := mended.store.Decided("x"); got != want {
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
