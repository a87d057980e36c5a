package spool_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/promslog"

	"pushrelay/internal/change"
	"pushrelay/internal/spool"
	"pushrelay/internal/wal"
)

// A data dir that was restored from an earlier copy takes a new journal, and nothing of it is called a duplicate (T12).
func TestARestoredCopy(t *testing.T) {
	for _, tt := range []struct {
		name   string
		before func(h *house) // between the restore and the attachment
	}{
		{name: "numbers that were not given yet", before: func(*house) {}},
		{name: "another change under the same number", before: func(h *house) {
			for i := range 5 {
				h.must(change.Spooled, change.Replace, "new", fmt.Sprintf("m %d\n", i))
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t, "a:1")
				defer func() { h.close() }()
				r := newRelay("a:1", 1)
				detach := h.attach(r)
				h.must(change.Applied, change.Replace, "j", "m 1\n")
				yesterday := h.copyTo(t.TempDir() + "/spool")
				for i := range 3 {
					h.must(change.Applied, change.Replace, "j", fmt.Sprintf("m 2%d\n", i))
				}
				detach()
				h.close()
				h.cfg.Dir = yesterday
				h.open()
				journal := h.Journal()
				tt.before(h)
				detach = h.attach(r)
				settle()
				if h.Journal() == journal {
					t.Error("the journal is the old one")
				}
				h.must(change.Applied, change.Replace, "j", "m 3\n")
				detach()
				wantMap(t, "the group", r.has("j"), map[string]string{"m": "m 3"})
				if got := r.counts(); got[2] != 0 {
					t.Errorf("%d changes were called duplicates", got[2])
				}
				journal = h.Journal()
				h.crash()
				defer h.attach(r)()
				if h.Journal() != journal {
					t.Error("the new journal is not kept")
				}
				h.must(change.Applied, change.Replace, "j", "m 4\n")
				wantMap(t, "the group", r.has("j"), map[string]string{"m": "m 4"})
			})
		})
	}
}

// newClones returns a spool that has reached the relay, and another with a copy of its data dir.
func newClones(t *testing.T) (h, clone *house, r *fakeRelay) {
	t.Helper()
	h, r = newHouse(t, "a:1"), newRelay("a:1", 1)
	t.Cleanup(func() { h.close() })
	detach := h.attach(r)
	h.must(change.Applied, change.Replace, "j", "m 0\n")
	detach()
	clone = h.clone()
	t.Cleanup(func() { clone.close() })
	return h, clone, r
}

// Two hosts with one data dir: each finds out that the numbers are not its own.
func TestAClonedHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, clone, r := newClones(t)
		for i := range 10 {
			for j, one := range []*house{h, clone} {
				value := fmt.Sprintf("%d%d", 1+i, j)
				job := fmt.Sprint("of", j)
				one.must(change.Spooled, change.Replace, job, "m "+value+"\n")
				one.must(change.Spooled, change.Merge, job, "n "+value+"\n")
				one.visit(r)
				wantMap(t, job, r.has(job), map[string]string{"m": "m " + value, "n": "n " + value})
			}
		}
		if got := r.counts(); got[2] != 0 {
			t.Errorf("%d changes were called duplicates", got[2])
		}
		if h.Journal() == clone.Journal() {
			t.Error("both have the same journal still")
		}
	})
}

// A journal that is damaged in the middle is refused, and left as it is; once it is repaired, what is left is sent, under a new
// journal.
func TestADamagedJournal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, "a:1")
		for _, job := range []string{"first", "second", "third"} {
			h.must(change.Spooled, change.Replace, job, "m 1\n")
		}
		journal := h.Journal()
		h.close()
		damage(t, h.cfg.Dir, "second")
		cfg := h.cfg
		cfg.Logger, cfg.Registerer = promslog.NewNopLogger(), prometheus.NewRegistry()
		_, damaged := errors.AsType[*wal.DamagedError](spool.New(cfg).Recover(t.Context()))
		if !damaged {
			t.Fatal("a damaged journal was not refused")
		}
		repaired, err := spool.Repair(t.Context(), spool.Place{Dir: cfg.Dir})
		if err != nil || len(repaired.Missing) != 1 {
			t.Fatalf("Repair = %+v, %v", repaired, err)
		}
		h.open()
		if h.Journal() == journal {
			t.Error("the journal is the old one, although numbers are missing")
		}
		journal = h.Journal()
		h.close()
		h.open()
		defer func() { h.close() }()
		if h.Journal() != journal {
			t.Error("what is lost is told at every start")
		}
		r := newRelay("a:1", 1)
		defer h.attach(r)()
		settle()
		if got := r.took(); !slices.Equal(got, []string{"replace first m 1\n", "replace third m 1\n"}) {
			t.Errorf("the relay took %q", got)
		}
	})
}

// damage changes a byte of the journal in the middle of that text.
func damage(t *testing.T, dir, text string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if i := bytes.Index(content, []byte(text)); i >= 0 {
			content[i]++
			if err := os.WriteFile(file, content, 0o600); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatalf("the journal does not have %q", text)
}

// Two copies of a spool that give the same number to the same content are told apart all the same: below it they differ.
func TestClonesWithTheSameContent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, clone, r := newClones(t)
		h.must(change.Spooled, change.Replace, "other", "m 1\n")
		h.must(change.Spooled, change.Replace, "j", "m 1\n")
		h.must(change.Spooled, change.Replace, "top", "m 1\n")
		time.Sleep(time.Nanosecond)
		clone.must(change.Spooled, change.Replace, "j", "m 2\n")
		clone.must(change.Spooled, change.Replace, "other", "m 2\n")
		clone.must(change.Spooled, change.Replace, "top", "m 1\n")
		for _, one := range []*house{h, clone} {
			one.visit(r)
		}
		wantMap(t, "group j", r.has("j"), map[string]string{"m": "m 2"})
		if got := r.counts(); got[2] != 0 {
			t.Errorf("%d changes were called duplicates", got[2])
		}
	})
}
