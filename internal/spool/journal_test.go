package spool_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/promslog"

	"pushrelay/internal/push"
	"pushrelay/internal/spool"
	"pushrelay/internal/wal"
)

// What waits is bounded by the newest text of each family (T15).
func TestWhatWaitsIsCompact(t *testing.T) {
	for _, tt := range []struct {
		name string
		push func(h *house)
		took []string
	}{
		{
			name: "PUTs",
			push: func(h *house) {
				for i := range 100 {
					h.must(push.Spooled, push.Replace, "j", fmt.Sprintf("m %d\n", i))
				}
			},
			took: []string{"replace j m 99\n"},
		},
		{
			name: "POSTs of the same families",
			push: func(h *house) {
				for i := range 100 {
					h.must(push.Spooled, push.Merge, "j", fmt.Sprintf("m %d\nn %d\n", i, i))
				}
			},
			took: []string{"merge j m 99\nn 99\n"},
		},
		{
			name: "POSTs of some of the families",
			push: func(h *house) {
				h.must(push.Spooled, push.Replace, "j", "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 1\nm 1\nn 1\n")
				h.must(push.Spooled, push.Merge, "j", "m 2\no 2\n")
				h.must(push.Spooled, push.Merge, "j", "# TYPE h histogram\nh_bucket{le=\"1\"} 2\nh_bucket{le=\"+Inf\"} 2\nh_sum 2\nh_count 2\no 3\n")
			},
			took: []string{"replace j n 1\n", "merge j m 2\n", "merge j # TYPE h histogram\nh_bucket{le=\"1\"} 2\nh_bucket{le=\"+Inf\"} 2\nh_sum 2\nh_count 2\no 3\n"},
		},
		{
			name: "an empty POST says when it was pushed, until the next push does",
			push: func(h *house) {
				h.must(push.Spooled, push.Replace, "j", "m 1\n")
				h.must(push.Spooled, push.Merge, "j", "")
				h.must(push.Spooled, push.Merge, "j", "")
				h.must(push.Spooled, push.Replace, "k", "m 1\n")
				h.must(push.Spooled, push.Merge, "k", "")
				h.must(push.Spooled, push.Merge, "k", "n 1\n")
			},
			took: []string{"replace j m 1\n", "replace k m 1\n", "merge j ", "merge k n 1\n"},
		},
		{
			name: "DELETE",
			push: func(h *house) {
				h.must(push.Spooled, push.Replace, "j", "m 1\n")
				h.must(push.Spooled, push.Merge, "j", "n 1\n")
				h.must(push.Spooled, push.Delete, "j", "")
				h.must(push.Spooled, push.Delete, "k", "")
				h.must(push.Spooled, push.Merge, "k", "m 1\n")
			},
			took: []string{"delete j ", "delete k ", "merge k m 1\n"},
		},
		{
			name: "PUT after everything",
			push: func(h *house) {
				h.must(push.Spooled, push.Delete, "j", "")
				h.must(push.Spooled, push.Merge, "j", "n 1\n")
				h.must(push.Spooled, push.Replace, "j", "m 1\n")
			},
			took: []string{"replace j m 1\n"},
		},
	} {
		for _, restart := range []string{"", "after a kill", "after a snapshot"} {
			t.Run(tt.name+" "+restart, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					h := newHouse(t, "a:1")
					defer func() { h.close() }()
					tt.push(h)
					switch restart {
					case "after a kill":
						h.crash()
					case "after a snapshot":
						if err := h.Snapshot(t.Context()); err != nil {
							t.Fatal(err)
						}
						h.crash()
					}
					r := newRelay("a:1", 1)
					defer h.attach(r)()
					settle()
					if got := r.took(); !slices.Equal(got, tt.took) {
						t.Errorf("the relay took %q, want %q", got, tt.took)
					}
				})
			})
		}
	}
}

func TestTheTimeOfAPushIsThatAtTheAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, "a:1")
		defer func() { h.close() }()
		at := time.Now()
		h.must(push.Spooled, push.Replace, "j", "m 1\n")
		time.Sleep(time.Hour)
		h.crash()
		r := newRelay("a:1", 1)
		defer h.attach(r)()
		settle()
		if got := r.pushed[keyOf("j")]; !got.Equal(at) {
			t.Errorf("the push has the time %s, want %s", got, at)
		}
	})
}

// A relay that lost its data gets it back, and one that was met does not get again what was deleted there (T18).
func TestARelayThatLostItsData(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, "a:1")
		defer func() { h.close() }()
		r := newRelay("a:1", 1)
		detach := h.attach(r)
		h.must(push.Applied, push.Replace, "j", "m 1\n")
		h.must(push.Applied, push.Merge, "j", "n 1\n")
		h.must(push.Applied, push.Replace, "gone", "m 1\n")
		h.must(push.Applied, push.Delete, "gone", "")
		detach()
		r.with(func() { delete(r.groups, keyOf("j")) }) // somebody deleted it there
		detach = h.attach(r)
		settle()
		if got := r.has("j"); len(got) != 0 {
			t.Errorf("a group that was deleted at the relay is back: %v", got)
		}
		detach()
		h.crash()
		h.must(push.Spooled, push.Replace, "waited", "m 1\n")
		fresh := newRelay("a:1", 2)
		detach = h.attach(fresh)
		settle()
		wantMap(t, "group j at the new store", fresh.has("j"), map[string]string{"m": "m 1", "n": "n 1"})
		wantMap(t, "what waited at the new store", fresh.has("waited"), map[string]string{"m": "m 1"})
		if got := fresh.took(); len(got) != 3 {
			t.Errorf("the new store took %q, want these three changes", got)
		}
		if st := h.Status(); st.Entries != 0 || !st.Oldest.IsZero() {
			t.Errorf("%d changes since %v are said to wait for a store that nothing leads to", st.Entries, st.Oldest)
		}
		detach()
		defer h.attach(r)() // the old one is back
		h.must(push.Applied, push.Replace, "k", "m 1\n")
		settle()
		if got := r.took(); !slices.Equal(got[len(got)-2:], []string{"replace waited m 1\n", "replace k m 1\n"}) {
			t.Errorf("the old store took %q", got)
		}
	})
}

// What a newer push made pointless before it was sent is not sent after a kill either, when the relay has decided the newer one,
// and, as a relay does with a group that is gone, may have forgotten that it did.
func TestPointlessChangesStayUnsent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, "a:1")
		defer func() { h.close() }()
		r := newRelay("a:1", 1)
		feed := h.attachIdle(r)
		h.must(push.Spooled, push.Replace, "j", "m 1\n")
		h.must(push.Spooled, push.Merge, "j", "n 1\n")
		h.must(push.Spooled, push.Delete, "j", "")
		c, err := feed.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got, err := feed.Request(c, nil); err != nil || got.Operation != push.Delete {
			t.Fatalf("the first change that is sent is %+v, %v, want the DELETE", got, err)
		}
		feed.Decide(c, push.Result{Outcome: push.Applied}, nil)
		if _, _, _, err := feed.State(t.Context()); err != nil { // Only now may the relay forget.
			t.Fatal(err)
		}
		h.crash()
		defer h.attach(r)()
		settle()
		if got := r.took(); len(got) > 0 {
			t.Errorf("after the DELETE the relay got %q", got)
		}
		if n := h.pending(r.address); n != 0 {
			t.Errorf("%d changes wait", n)
		}
	})
}

// Two addresses of one store share its cursor and have one sender (T17).
func TestTwoAddressesOfOneStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, "a:1", "b:1")
		defer func() { h.close() }()
		h.must(push.Spooled, push.Replace, "j", "m 1\n")
		a, b := newRelay("a:1", 1), newRelay("b:1", 1)
		detach := h.attach(a)
		settle()
		defer h.attach(b)()
		h.must(push.Applied, push.Replace, "j", "m 2\n")
		if len(b.took()) != 0 || len(a.took()) != 2 || len(h.Status().Relays) != 1 {
			t.Errorf("a took %q, b took %q, the spool knows %+v", a.took(), b.took(), h.Status().Relays)
		}
		detach()
		h.must(push.Applied, push.Replace, "j", "m 3\n")
		if got := b.took(); !slices.Equal(got, []string{"replace j m 3\n"}) {
			t.Errorf("b took %q", got)
		}
	})
}

// What waits for a relay that is configured no more is dropped at the start, and its slot is free.
func TestARelayThatIsConfiguredNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, "a:1", "b:1")
		defer func() { h.close() }()
		a := newRelay("a:1", 1)
		detach := h.attach(a)
		h.must(push.Applied, push.Replace, "j", "m 1\n")
		h.must(push.Applied, push.Delete, "j", "")
		detach()
		if n := h.pending("b:1"); n != 1 {
			t.Errorf("%d changes wait for b, want the deletion", n)
		}
		h.close()
		h.cfg.Relays = []string{"a:1"}
		h.open()
		if st := h.Status(); len(st.Relays) != 1 || st.Entries != 0 || st.Groups != 0 {
			t.Errorf("Status = %+v, want nothing that waits", st)
		}
		h.crash()
		if st := h.Status(); len(st.Relays) != 1 {
			t.Errorf("after another start the spool knows %+v", st.Relays)
		}
	})
}

// A data dir that was restored from an earlier copy takes a new journal, and nothing of it is called a duplicate (T12).
func TestARestoredCopy(t *testing.T) {
	for _, tt := range []struct {
		name   string
		before func(h *house) // between the restore and the attachment
	}{
		{name: "numbers that were not given yet", before: func(*house) {}},
		{name: "another change under the same number", before: func(h *house) {
			for i := range 5 {
				h.must(push.Spooled, push.Replace, "new", fmt.Sprintf("m %d\n", i))
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t, "a:1")
				defer func() { h.close() }()
				r := newRelay("a:1", 1)
				detach := h.attach(r)
				h.must(push.Applied, push.Replace, "j", "m 1\n")
				yesterday := h.copyTo(t.TempDir() + "/spool")
				for i := range 3 {
					h.must(push.Applied, push.Replace, "j", fmt.Sprintf("m 2%d\n", i))
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
				h.must(push.Applied, push.Replace, "j", "m 3\n")
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
				h.must(push.Applied, push.Replace, "j", "m 4\n")
				wantMap(t, "the group", r.has("j"), map[string]string{"m": "m 4"})
			})
		})
	}
}

// Two hosts with one data dir: each finds out that the numbers are not its own.
func TestAClonedHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, "a:1")
		defer func() { h.close() }()
		r := newRelay("a:1", 1)
		detach := h.attach(r)
		h.must(push.Applied, push.Replace, "j", "m 0\n")
		detach()
		clone := &house{t: t, cfg: h.cfg}
		clone.cfg.Dir = h.copyTo(t.TempDir() + "/spool")
		clone.open()
		defer func() { clone.close() }()
		for i := range 10 {
			for j, one := range []*house{h, clone} {
				value := fmt.Sprintf("%d%d", i, j)
				job := fmt.Sprint("of", j)
				one.must(push.Spooled, push.Replace, job, "m "+value+"\n")
				one.must(push.Spooled, push.Merge, job, "n "+value+"\n")
				detach := one.attach(r)
				settle()
				detach()
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

// Random pushes, sessions that break, verdicts that are lost, kills and snapshots, two relays: at the end both hold the newest
// accepted state, every change was decided once by each, and what is sent equals what was applied and rejected.
func TestExactlyOnce(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { exactlyOnce(t, rand.New(rand.NewPCG(seed, 1))) })
		})
	}
}

func exactlyOnce(t *testing.T, random *rand.Rand) {
	h := newHouse(t, "a:1", "b:1")
	defer func() { h.close() }()
	relays := []*fakeRelay{newRelay("a:1", 1), newRelay("b:1", 2)}
	for i, r := range relays {
		losses := rand.New(rand.NewPCG(random.Uint64(), uint64(i)))
		r.lose = func() (lost bool) { r.with(func() { lost = losses.IntN(10) == 0 }); return lost }
	}
	detach := make([]func(), len(relays))
	want := map[string]map[string]string{}
	for step := range 300 {
		job := fmt.Sprint("j", random.IntN(4))
		i := random.IntN(len(relays))
		switch n := random.IntN(20); {
		case n < 6:
			if detach[i] != nil {
				detach[i]()
				detach[i] = nil
			} else {
				detach[i] = h.attach(relays[i])
			}
		case n == 6:
			for i := range detach {
				if detach[i] != nil {
					detach[i]()
					detach[i] = nil
				}
			}
			h.crash()
		case n == 7:
			if err := h.Snapshot(t.Context()); err != nil {
				t.Fatal(err)
			}
		default:
			op := []push.Operation{push.Replace, push.Merge, push.Merge, push.Delete}[random.IntN(4)]
			body := ""
			if op != push.Delete {
				for _, family := range []string{"a", "b", "c"} {
					if random.IntN(2) == 0 {
						body += fmt.Sprintf("%s %d\n", family, step)
					}
				}
			}
			if _, err := h.do(op, job, body); err != nil {
				t.Fatalf("%v %s: %v", op, job, err)
			}
			switch op {
			case push.Delete:
				delete(want, job)
				continue
			case push.Replace:
				want[job] = nil
			}
			next := map[string]string{}
			maps.Copy(next, want[job])
			maps.Copy(next, lines(body))
			want[job] = next
		}
		if err := h.Check(); err != nil {
			t.Fatalf("step %d: %v", step, err)
		}
	}
	for i, r := range relays {
		r.with(func() { r.lose = nil })
		if detach[i] != nil {
			detach[i]()
		}
		defer h.attach(r)()
	}
	settle()
	for _, r := range relays {
		if n := h.pending(r.address); n != 0 {
			t.Errorf("%d changes wait for %s", n, r.address)
		}
		for i := range 4 {
			job := fmt.Sprint("j", i)
			wantMap(t, r.address+" "+job, r.has(job), want[job])
		}
		seen := map[string]bool{}
		for _, line := range r.took() {
			if seen[line] && line[0] != 'd' && len(line) > len("replace j0 ") {
				t.Errorf("%s decided twice: %q", r.address, line)
			}
			seen[line] = true
		}
	}
}

// Verdicts wait for company on their way to the disk: what a crash loses of them is asked again, and applied once. What the
// relay was told to be decided is not among it.
func TestVerdictsThatACrashLost(t *testing.T) {
	for _, told := range []bool{false, true} {
		t.Run(fmt.Sprint("told ", told), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t, "a:1")
				defer func() { h.close() }()
				r := newRelay("a:1", 1)
				detach := h.attach(r)
				for i := range 3 {
					h.must(push.Applied, push.Replace, fmt.Sprint("j", i), "m 1\n")
				}
				if told {
					other := h.attachIdle(r)
					pending, through, _, err := other.State(t.Context())
					if err != nil || pending != 0 || through != 3 {
						t.Fatalf("State = %d pending, decided through %d, %v, want 0, 3", pending, through, err)
					}
					other.Detach()
				}
				detach()
				journal := h.Journal()
				h.crash()
				lost := 1 // the others were written before the pushes after them
				if told {
					lost = 0
				}
				if got := h.pending("a:1"); got != lost {
					t.Errorf("%d changes wait after the crash, want %d", got, lost)
				}
				defer h.attach(r)()
				settle()
				if got := r.counts(); got != [3]int{3, 0, lost} || h.pending("a:1") != 0 || h.Journal() != journal {
					t.Errorf("applied, rejected, repeated = %d, pending %d, journal %v, want 3, 0, %d, 0 and %v", got, h.pending("a:1"), h.Journal(), lost, journal)
				}
			})
		})
	}
}

// A change that was withdrawn while another relay may have been deciding it has a number that this relay knows: that makes no
// copy of the spool.
func TestWithdrawnInFlight(t *testing.T) {
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprint("restart ", restart), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t, "a:1", "b:1")
				defer func() { h.close() }()
				a, b := newRelay("a:1", 1), newRelay("b:1", 2)
				taken := make(chan struct{})
				b.lose = func() bool { close(taken); return true }
				a.judge = func(*push.Request) error { <-taken; return errClash }
				detachA, detachB := h.attach(a), h.attach(b)
				if _, err := h.do(push.Replace, "j", "m 1\n"); !isKind(err, push.ErrInconsistent) {
					t.Fatalf("Push = %v, want a refusal", err)
				}
				settle()
				journal := h.Journal()
				detachA()
				detachB()
				if restart {
					h.crash()
				}
				b.with(func() { b.lose = nil })
				defer h.attach(b)()
				settle()
				if h.Journal() != journal {
					t.Error("the journal began anew")
				}
				if got := b.counts(); got != [3]int{1, 0, 0} || h.pending("b:1") != 0 {
					t.Errorf("applied, rejected, repeated = %d, pending %d, want 1, 0, 0 and 0", got, h.pending("b:1"))
				}
			})
		})
	}
}

// A journal that is damaged in the middle is refused, and left as it is; once it is repaired, what is left is sent, under a new
// journal.
func TestADamagedJournal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, "a:1")
		for _, job := range []string{"first", "second", "third"} {
			h.must(push.Spooled, push.Replace, job, "m 1\n")
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
		repaired, err := wal.Repair(t.Context(), wal.Config{Dir: cfg.Dir})
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
