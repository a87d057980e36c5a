package keep_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/keep"
	"pushrelay/internal/wal"
	"pushrelay/internal/waltest"
)

// TestMatrix inflicts every kind of damage on every file of stores of every kind, at many places. The store starts with
// everything; or it starts, and that something may be lost is told; or it refuses, and a repair saves what is sound and
// tells what is lost, and then it starts.
func TestMatrix(t *testing.T) {
	foreign := stores(t)
	for kind, found := range stores(t) {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(4, uint64(len(kind))))
			n := 0
			for damage, damaged := range waltest.Damages(random, found.files, foreign[kind].files) {
				if n++; testing.Short() && n%8 != 0 {
					continue
				}
				found.try(t, damage, damaged)
				if t.Failed() {
					t.Fatal(damage)
				}
			}
		})
	}
}

// memoryDir is the directory of a log in memory.
const memoryDir = "store"

// segmentsOfMatrix makes three or four files of a store.
func segmentsOfMatrix(dir string) keep.Config {
	cfg := config(dir)
	cfg.SegmentBytes = 1500
	return cfg
}

// A madeStore is the files of a store, as a stop or a kill left them, and every state that each of its groups was in.
type madeStore struct {
	files  map[string][]byte
	groups map[string]string
	states map[string][]string
}

// stores makes one of each kind.
func stores(t *testing.T) map[string]madeStore {
	t.Helper()
	made := map[string]madeStore{}
	for kind, begin := range map[string]func(t *testing.T, k *keeper) *keeper{
		"its own": func(_ *testing.T, k *keeper) *keeper { return k },
		"restored": func(t *testing.T, k *keeper) *keeper {
			k.close()
			backup := filepath.Join(t.TempDir(), "backup")
			if _, err := keep.Backup(t.Context(), keep.Place{Dir: k.dir}, nil, backup); err != nil {
				t.Fatal(err)
			}
			dir := filepath.Join(t.TempDir(), "store")
			if _, err := keep.Restore(t.Context(), keep.Place{Dir: dir}, backup, nil); err != nil {
				t.Fatal(err)
			}
			return open(t, segmentsOfMatrix(dir))
		},
		"imported": func(t *testing.T, k *keeper) *keeper {
			for i := range 4 {
				k.importGroup(fmt.Sprint("imported", i))
			}
			if err := k.NoteImport(t.Context(), keep.Import{Name: "/file"}); err != nil {
				t.Fatal(err)
			}
			return k
		},
		"with a snapshot": func(t *testing.T, k *keeper) *keeper {
			if err := k.Snapshot(t.Context()); err != nil {
				t.Fatal(err)
			}
			return k
		},
	} {
		for _, closed := range []bool{true, false} {
			name := kind + ", killed"
			if closed {
				name = kind + ", stopped"
			}
			made[name] = makeStore(t, closed, begin)
		}
	}
	return made
}

func makeStore(t *testing.T, closed bool, begin func(*testing.T, *keeper) *keeper) madeStore {
	t.Helper()
	s := madeStore{states: map[string][]string{}}
	k := open(t, segmentsOfMatrix(t.TempDir()))
	push := func(op change.Operation, job, text string) {
		k.mustPush(op, job, text)
		for key, state := range k.groups() {
			s.states[key] = append(s.states[key], state)
		}
	}
	for i := range 6 {
		push(change.Replace, fmt.Sprint("a", i), fmt.Sprintf("# TYPE m counter\nm{x=\"1\"} %d\nn 1\n", i))
	}
	k = begin(t, k)
	for i := range 6 {
		push(change.Merge, fmt.Sprint("a", i), fmt.Sprintf("n %d\n", 10+i))
		push(change.Replace, fmt.Sprint("b", i), fmt.Sprintf("o %d\n", i))
	}
	s.groups = k.groups()
	if closed {
		k.close()
	}
	s.files = history{dir: k.dir}.files(t)
	delete(s.files, "lock")
	if !closed {
		k.close()
	}
	return s
}

// importGroup takes over a group as an import does.
func (k *keeper) importGroup(job string) {
	k.tb.Helper()
	var p exposition.Parser
	body, err := p.ParseText([]byte("imported 1\n"), exposition.Options{})
	if err != nil {
		k.tb.Fatal(err)
	}
	_, wait, err := k.Store().Import(&groupstore.Import{Key: key(k.tb, job), Body: body, PushedAt: noon})
	if err == nil {
		err = wait(k.tb.Context())
	}
	if err != nil {
		k.tb.Fatal(err)
	}
}

// groups is what each group holds.
func (k *keeper) groups() map[string]string {
	k.tb.Helper()
	groups := map[string]string{}
	for _, part := range strings.Split(k.content(), "{job=")[1:] {
		name, rest, _ := strings.Cut(part, "}")
		groups[name] = rest
	}
	return groups
}

// try starts a store with these files, and repairs it if it does not start.
func (s *madeStore) try(t *testing.T, damage string, files map[string][]byte) {
	t.Helper()
	cfg := segmentsOfMatrix(memoryDir)
	memory := waltest.NewMemory(memoryDir, files)
	cfg.FS = memory
	k, err := tryOpen(t, cfg)
	told := ""
	if err != nil {
		_, damaged := errors.AsType[*wal.DamagedError](err)
		_, contradicts := errors.AsType[*keep.ContradictionError](err)
		if !damaged && !contradicts {
			t.Fatalf("%s: Recover() = %v, which no repair helps against", damage, err)
		}
		report, err := keep.Repair(t.Context(), keep.Place{Dir: memoryDir, FS: memory})
		if err != nil {
			t.Fatalf("%s: Repair() = %v", damage, err)
		}
		told = strings.Join(report.Report("store", "acknowledge-loss"), "\n")
		if k, err = tryOpen(t, cfg); err != nil {
			t.Fatalf("%s: Recover() after Repair() = %v\n%s", damage, err, told)
		}
	}
	defer k.close()
	s.check(t, damage, k, told)
}

// check checks that all is there or that it is told what is not, and that the store goes on.
func (s *madeStore) check(t *testing.T, damage string, k *keeper, told string) {
	t.Helper()
	got := k.groups()
	if !maps.Equal(got, s.groups) {
		if len(k.Losses()) == 0 {
			t.Errorf("%s: %d of %d groups are as they were, and no loss is told\n%s", damage, same(got, s.groups), len(s.groups), told)
		}
		if strings.Contains(told, "nothing that was acknowledged is missing") || strings.Contains(told, "not damaged") {
			t.Errorf("%s: %d of %d groups are as they were, and the repair says\n%s", damage, same(got, s.groups), len(s.groups), told)
		}
	}
	for name, state := range got {
		if !slices.Contains(s.states[name], state) && s.groups[name] != state && len(k.Losses()) == 0 {
			t.Errorf("%s: group %s is as it never was:\n%s", damage, name, state)
		}
	}
	// A single bit costs no more than the batch that it is in.
	if lost := len(s.groups) - same(got, s.groups); strings.Contains(damage, ".log: a bit") && lost > 1 {
		t.Errorf("%s: %d groups are lost\n%s", damage, lost, told)
	}
	k.mustPush(change.Replace, "after", "p 1\n")
}

func same(a, b map[string]string) int {
	n := 0
	for name, state := range a {
		if b[name] == state {
			n++
		}
	}
	return n
}
