package groupstore_test

import (
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/metric"
)

// FuzzDecodeChange reads arbitrary records. A store takes each or refuses it, and what it takes it can render, and it comes
// through a cut as it is.
func FuzzDecodeChange(f *testing.F) {
	for _, record := range sampleRecords(f) {
		f.Add(record)
	}
	cfg := groupstore.Config{OwnFamilies: ownOfTests}
	f.Fuzz(func(t *testing.T, record []byte) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		position, c, err := groupstore.DecodeEffect(record)
		runtime.ReadMemStats(&after)
		if took := after.TotalAlloc - before.TotalAlloc; took > uint64(200*len(record)+1<<16) {
			t.Fatalf("decoding %d bytes took %d bytes of memory", len(record), took)
		}
		s := newTester(t, cfg)
		mended := s.store.Mend(record)
		if err != nil {
			if mended == nil {
				t.Fatalf("DecodeChange = %v, and Mend succeeded", err)
			}
			return
		}
		again := groupstore.AppendEffect(nil, position, c)
		if p, _, err := groupstore.DecodeEffect(again); err != nil || p != position {
			t.Fatalf("decoding what was encoded = %d, %v; want %d", p, err, position)
		}
		for _, format := range []exposition.Format{exposition.Text004, exposition.ProtobufDelimited, exposition.OpenMetrics100, exposition.ProtobufText} {
			if err := s.store.Snapshot().Write(io.Discard, groupstore.Form{Format: format, Escaping: metric.AllowUTF8}, nil); err != nil {
				t.Fatalf("Write = %v", err)
			}
		}
		loaded := load(t, cfg, cut(t, s.store))
		if diff := cmp.Diff(s.groups(), loaded.groups()); diff != "" {
			t.Fatalf("groups (-store +loaded):\n%s", diff)
		}
		if diff := cmp.Diff(marksOf(t, s.store), marksOf(t, loaded.store)); diff != "" {
			t.Fatalf("marks (-store +loaded):\n%s", diff)
		}
	})
}

// FuzzLoader reads an arbitrary record in the middle of a cut.
func FuzzLoader(f *testing.F) {
	base := newTester(f, groupstore.Config{Check: groupstore.CheckQuarantine})
	base.put(key(f, "job", "a"), mixture)
	base.put(key(f, "job", "b", "instance", ""), "# TYPE m gauge\nm 1\n")
	base.send(pushing{Operation: change.Delete, Key: key(f, "job", "c")}, "a", 3)
	base.send(pushing{Operation: change.Delete, Key: key(f, "job", "b", "instance", "")}, "b", 4)
	whole := cut(f, base.store)
	former := formerCut(f, base.store)
	for _, record := range slices.Concat(former, whole) {
		f.Add(record)
	}
	f.Fuzz(func(t *testing.T, record []byte) {
		s := newTester(t, groupstore.Config{})
		l := s.store.Loader()
		beginning := whole[:2:2]
		if len(record) > 0 && record[0] < 16 {
			beginning = former[:3:3]
		}
		for _, r := range append(beginning, record) {
			if l.Add(r) != nil {
				return
			}
		}
		if l.Finish() != nil {
			return
		}
		s.full()
		s.groups()
		marksOf(t, s.store)
	})
}

// sampleRecords are the records of a random store.
func sampleRecords(f *testing.F) [][]byte {
	f.Helper()
	j := &journal{}
	u := universe{Rand: rand.New(rand.NewPCG(6, 1))}
	s := newTester(f, groupstore.Config{Check: groupstore.CheckQuarantine, OwnFamilies: ownOfTests, Appender: j})
	for range 20 {
		apply(f.Context(), s.store, pushing{Operation: put, Key: u.key(f), Body: bodyOf(u.families()...), At: noon, Origin: u.origin()})
	}
	s.put(key(f, "job", "a"), mixture)
	s.delete(key(f, "job", "a"))
	if _, err := mark(f.Context(), s.store, pushing{Key: key(f, "job", "a"), Origin: &origin{Source: "a", Sequence: 7}}); err != nil {
		f.Fatal(err)
	}
	forget(s.store, "a", 9)
	if err := wipe(f.Context(), s.store); err != nil {
		f.Fatal(err)
	}
	records := encoded(j)
	for i, e := range j.changes {
		records = append(records, groupstore.AppendFormerEffect(nil, uint64(i+1), e))
	}
	return records
}
