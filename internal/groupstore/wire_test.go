package groupstore_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"pushrelay/internal/change"
	storagev1 "pushrelay/internal/gen/storage/v1"
	"pushrelay/internal/groupstore"
)

// messageOf returns an empty message of the kind that a record begins with.
func messageOf(record []byte) proto.Message {
	switch storagev1.PayloadKind(record[0]) {
	case storagev1.PayloadKind_PAYLOAD_KIND_CHANGE:
		return &storagev1.Change{}
	case storagev1.PayloadKind_PAYLOAD_KIND_HEAD:
		return &storagev1.Head{}
	case storagev1.PayloadKind_PAYLOAD_KIND_GROUP:
		return &storagev1.Group{}
	case storagev1.PayloadKind_PAYLOAD_KIND_TRACE:
		return &storagev1.Trace{}
	case storagev1.PayloadKind_PAYLOAD_KIND_ANSWER:
		return &storagev1.Answer{}
	case storagev1.PayloadKind_PAYLOAD_KIND_SOURCE:
		return &storagev1.Source{}
	default:
		return nil
	}
}

// again returns a message as the generated code reads and writes it.
func again(m proto.Message, encoded []byte) ([]byte, error) {
	if err := proto.Unmarshal(encoded, m); err != nil {
		return nil, err
	}
	return proto.MarshalOptions{Deterministic: true}.Marshal(m)
}

// TestRecordsAreAsGenerated: what is written by hand is, byte for byte, what the generated code writes of it.
func TestRecordsAreAsGenerated(t *testing.T) {
	kinds := map[string]int{}
	want := func(what string, m proto.Message, encoded []byte) {
		t.Helper()
		kinds[what]++
		got, err := again(m, encoded)
		if err != nil || !bytes.Equal(got, encoded) {
			t.Fatalf("%s: written by hand\n%x\nand by the generated code, %v\n%x", what, encoded, err, got)
		}
	}
	for round := range 40 {
		u := universe{Rand: rand.New(rand.NewPCG(14, uint64(round))), wide: round%4 == 3}
		c, j := &clock{noon}, &journal{}
		cfg := groupstore.Config{Check: groupstore.Check(round % 2), OwnFamilies: ownOfTests, Appender: j, Now: c.now}
		s := newTester(t, cfg)
		for range 80 {
			u.deed(t, c)(s.store)
		}
		for _, record := range append(encoded(j), cut(t, s.store)...) {
			want(fmt.Sprint(storagev1.PayloadKind(record[0])), messageOf(record), record[1:])
		}
		records, _ := whole(s.store)
		for id, record := range records {
			if id.Kind == groupstore.FamiliesRecord || id.Kind == groupstore.NotesRecord {
				want(fmt.Sprint("record ", id.Kind), &storagev1.Group{}, record)
			}
		}
	}
	if len(kinds) != 8 {
		t.Errorf("not every kind was met: %v", kinds)
	}
}

// FuzzRecords: whatever a change or a group is written as, it is read as the generated code reads it, or refused.
func FuzzRecords(f *testing.F) {
	for _, record := range sampleRecords(f) {
		f.Add(record)
	}
	base := newTester(f, groupstore.Config{Check: groupstore.CheckQuarantine})
	base.put(key(f, "job", "a"), mixture)
	base.put(key(f, "job", "b"), "# TYPE m gauge\nm 1\n")
	base.put(key(f, "job", "c", "instance", ""), "# TYPE m counter\nm 1\n")
	for _, record := range cut(f, base.store) {
		f.Add(record)
	}
	f.Fuzz(func(t *testing.T, record []byte) {
		if len(record) == 0 {
			return
		}
		usual := []byte(nil)
		switch storagev1.PayloadKind(record[0]) {
		case storagev1.PayloadKind_PAYLOAD_KIND_CHANGE, storagev1.PayloadKind_PAYLOAD_KIND_GROUP:
			if encoded, err := again(messageOf(record), record[1:]); err == nil {
				usual = append([]byte{record[0]}, encoded...)
			}
		default:
			return
		}
		got, err := reread(t, record)
		if usual == nil {
			if err == nil {
				t.Fatalf("%x is read, and is no message", record)
			}
			return
		}
		want, wantErr := reread(t, usual)
		if (err == nil) != (wantErr == nil) || !bytes.Equal(got, want) {
			t.Fatalf("%x\nis read as %x, %v\nand as the generated code writes it\n%x\nas %x, %v", record, got, err, usual, want, wantErr)
		}
	})
}

// reread reads a change or a group of a snapshot, and returns what is written of it then.
func reread(t *testing.T, record []byte) ([]byte, error) {
	t.Helper()
	if storagev1.PayloadKind(record[0]) == storagev1.PayloadKind_PAYLOAD_KIND_CHANGE {
		position, e, err := groupstore.DecodeEffect(record)
		if err != nil {
			return nil, err
		}
		return groupstore.AppendEffect(nil, position, e), nil
	}
	head, err := proto.Marshal(&storagev1.Head{Position: 1 << 40})
	if err != nil {
		t.Fatal(err)
	}
	s := groupstore.New(groupstore.Config{})
	l := s.Loader()
	if err := l.Add(append([]byte{byte(storagev1.PayloadKind_PAYLOAD_KIND_HEAD)}, head...)); err != nil {
		t.Fatal(err)
	}
	if err := l.Add(record); err != nil {
		return nil, err
	}
	if err := l.Finish(); err != nil {
		return nil, err
	}
	return bytes.Join(cut(t, s), nil), nil
}

// later is a field that a later release may have added to any message.
var later = []byte("\xa2\x06\x05later")

// TestFieldsOfLaterReleasesAreKept: they are read, outlive changes as long as what they are about, and are written again.
func TestFieldsOfLaterReleasesAreKept(t *testing.T) {
	j := &journal{}
	before := newTester(t, groupstore.Config{Appender: j})
	a, b := key(t, "job", "a"), key(t, "job", "b")
	p := body(t, "m 1\nn 1\n")
	p.Key = a
	before.send(p, "x", 1)
	before.send(pushing{Operation: change.Delete, Key: b}, "x", 2)
	before.once(&clock{noon}, put, "c", "o 1\n", "k")
	mark := func(m proto.Message) { m.ProtoReflect().SetUnknown(later) }
	var records [][]byte
	for _, record := range cut(t, before.store) {
		m := messageOf(record)
		if err := proto.Unmarshal(record[1:], m); err != nil {
			t.Fatal(err)
		}
		switch m := m.(type) {
		case *storagev1.Head:
		case *storagev1.Group:
			mark(m.GetNotes())
			mark(m.GetFamilies())
		default:
			mark(m)
		}
		encoded, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		records = append(records, append([]byte{record[0]}, encoded...))
	}
	// ofNotes and so on say what has them in a store.
	kept := func(s *groupstore.Store) string {
		t.Helper()
		var all []string
		has := func(what string, m proto.Message) {
			if bytes.Equal(m.ProtoReflect().GetUnknown(), later) {
				all = append(all, what)
			}
		}
		for _, record := range cut(t, s) {
			m := messageOf(record)
			if err := proto.Unmarshal(record[1:], m); err != nil {
				t.Fatal(err)
			}
			switch m := m.(type) {
			case *storagev1.Group:
				name := string(m.GetKey()[len(m.GetKey())-1:])
				has("notes "+name, m.GetNotes())
				has("families "+name, m.GetFamilies())
			default:
				has(fmt.Sprintf("%T", m), m)
			}
		}
		slices.Sort(all)
		return strings.ReplaceAll(strings.Join(all, ", "), "*storagev1.", "")
	}
	s := load(t, groupstore.Config{}, records)
	want := func(what, want string) {
		t.Helper()
		if got := kept(s.store); got != want {
			t.Errorf("%s: kept are those of %q, want %q", what, got, want)
		}
		everything, position := whole(s.store)
		follower := newTester(t, groupstore.Config{})
		if err := follower.store.StartFrom(position, everything.all()); err != nil {
			t.Fatal(err)
		}
		if got := kept(follower.store); got != want {
			t.Errorf("%s, at a follower: kept are those of %q, want %q", what, got, want)
		}
	}
	want("loaded", "Answer, Source, Trace, families a, families c, notes a, notes c")
	if _, err := fail(t.Context(), s.store, pushing{Key: a, At: noon}, "odd"); err != nil {
		t.Fatal(err)
	}
	want("a failure", "Answer, Source, Trace, families a, families c, notes a, notes c")
	if _, err := s.push(post, a, "n 2\n"); err != nil {
		t.Fatal(err)
	}
	want("other families", "Answer, Source, Trace, families c, notes a, notes c")
	forget(s.store, "x", 2)
	want("a trace that is passed", "Answer, Source, Trace, families c, notes a, notes c")
	s.put(a, "m 3\n")
	s.delete(key(t, "job", "c"))
	want("a deletion", "Answer, Source, Trace, notes a")
	p = body(t, "m 1\n")
	p.Key = b
	s.send(p, "x", 3)
	want("a group in the place of its trace", "Answer, Source, notes a")

	// In changes, too.
	replica := newTester(t, groupstore.Config{})
	for _, record := range encoded(j) {
		m := &storagev1.Change{}
		if err := proto.Unmarshal(record[1:], m); err != nil {
			t.Fatal(err)
		}
		if m.GetFamilies() != nil {
			mark(m.GetFamilies())
		}
		mark(m.GetNotes())
		encoded, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if err := replica.store.Replay(append([]byte{record[0]}, encoded...)); err != nil {
			t.Fatal(err)
		}
	}
	if got := kept(replica.store); got != "families a, families c, notes a, notes c" {
		t.Errorf("replayed: kept are those of %q", got)
	}
	if diff := cmp.Diff(before.groups(), replica.groups()); diff != "" {
		t.Errorf("groups (-store +replayed):\n%s", diff)
	}
}

// TestLoaderRefusesRecords: records of groups, traces, answers and sources that no store wrote.
func TestLoaderRefusesRecords(t *testing.T) {
	s := newTester(t, groupstore.Config{})
	s.put(key(t, "job", "a"), "m 1\nn 2\n")
	s.send(pushing{Operation: change.Delete, Key: key(t, "job", "b")}, "x", 3)
	s.once(&clock{noon}, change.Delete, "c", "", "k")
	good := cut(t, s.store) // head, group, trace, answer, source
	edited := func(i int, edit func(m proto.Message)) []byte {
		m := messageOf(good[i])
		if err := proto.Unmarshal(good[i][1:], m); err != nil {
			t.Fatal(err)
		}
		edit(m)
		encoded, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return append([]byte{good[i][0]}, encoded...)
	}
	group := func(edit func(g *storagev1.Group)) [][]byte {
		return [][]byte{good[0], edited(1, func(m proto.Message) { edit(m.(*storagev1.Group)) })}
	}
	for name, records := range map[string][][]byte{
		"no head":                        good[1:],
		"two heads":                      {good[0], good[0]},
		"a head with more":               {append(slices.Clone(good[0]), later...)},
		"a group twice":                  {good[0], good[1], good[1]},
		"a group with more":              {good[0], append(slices.Clone(good[1]), later...)},
		"a group of the future":          group(func(g *storagev1.Group) { g.Version = 99 }),
		"a group that is older":          group(func(g *storagev1.Group) { g.Born = g.GetVersion() + 1 }),
		"a group without a key":          group(func(g *storagev1.Group) { g.Key = nil }),
		"a set that is not there":        group(func(g *storagev1.Group) { g.Families.SetNumbers[1] = 7 }),
		"sets with a gap":                group(func(g *storagev1.Group) { g.Families.FirstSet = 1 }),
		"sets in another order":          group(func(g *storagev1.Group) { slices.Reverse(g.Families.SetNumbers) }),
		"too few sets":                   group(func(g *storagev1.Group) { g.Families.Sets = g.Families.Sets[:9] }),
		"too many sets":                  group(func(g *storagev1.Group) { g.Families.Sets = append(g.Families.Sets, 0) }),
		"values of other sizes":          group(func(g *storagev1.Group) { g.Families.ValueSizes[0] = 99 }),
		"values without sizes":           group(func(g *storagev1.Group) { g.Families.ValueSizes = nil }),
		"values that are none":           group(func(g *storagev1.Group) { g.Families.Values[0] = 'x' }),
		"times of other families":        group(func(g *storagev1.Group) { g.Families.Pushed = []int64{1} }),
		"a family that hides without":    group(func(g *storagev1.Group) { g.Families.Hidden = []*storagev1.Hiding{{Order: 1, Family: 2}} }),
		"hidden by a group that is not":  group(func(g *storagev1.Group) { g.Families.Hidden = []*storagev1.Hiding{{Order: 1, By: []byte("job\xffz")}} }),
		"a group that is hidden in part": group(func(g *storagev1.Group) { g.Notes.Hidden = []byte("why") }),
		"a life that is none":            group(func(g *storagev1.Group) { g.Notes.Life = &storagev1.Life{Ttl: []byte("x")} }),
		"a mark of sequence 0": group(func(g *storagev1.Group) {
			g.Notes.Marks = []*storagev1.Mark{{Source: []byte("x"), Digest: make([]byte, 16)}}
		}),
		"a mark with a short digest": group(func(g *storagev1.Group) {
			g.Notes.Marks = []*storagev1.Mark{{Source: []byte("x"), Sequence: 1, Digest: make([]byte, 15)}}
		}),
		"a trace twice":                   {good[0], good[2], good[2]},
		"a trace of sequence 0":           {good[0], edited(2, func(m proto.Message) { m.(*storagev1.Trace).Sequence = 0 })},
		"a trace of no source":            {good[0], edited(2, func(m proto.Message) { m.(*storagev1.Trace).Source = nil })},
		"a source without marks":          {good[0], good[4]},
		"a source behind its marks":       {good[0], good[2], edited(4, func(m proto.Message) { m.(*storagev1.Source).Sequence = 2 })},
		"a source with a long digest":     {good[0], good[2], edited(4, func(m proto.Message) { m.(*storagev1.Source).Digest = make([]byte, 17) })},
		"an answer twice":                 {good[0], good[3], good[3]},
		"an answer of another kind":       {good[0], edited(3, func(m proto.Message) { m.(*storagev1.Answer).Kind = 9 })},
		"an answer of no position":        {good[0], edited(3, func(m proto.Message) { m.(*storagev1.Answer).Position = 0 })},
		"a kind that is none":             {good[0], {99}},
		"half a message":                  {good[0], good[1][:len(good[1])-1]},
		"a change in the place of groups": {good[0], groupstore.AppendEffect(nil, 1, groupstore.Effect{Operation: change.Wipe})},
	} {
		t.Run(name, func(t *testing.T) {
			l := groupstore.New(groupstore.Config{}).Loader()
			var err error
			for _, r := range records {
				if err = l.Add(r); err != nil {
					return
				}
			}
			if l.Finish() == nil {
				t.Error("no error")
			}
		})
	}
	load(t, groupstore.Config{}, good)
}
