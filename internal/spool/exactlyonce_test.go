package spool_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"

	"pushrelay/internal/change"
)

// Random pushes, sessions that break, verdicts that are lost, kills and snapshots, two relays: at the end both hold the newest
// accepted state, every change was decided once by each, and what is sent equals what was applied and rejected.
func TestExactlyOnce(t *testing.T) {
	seeds := uint64(8)
	if testing.Short() {
		seeds = 2
	}
	for seed := range seeds {
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
			op := []change.Operation{change.Replace, change.Merge, change.Merge, change.Delete}[random.IntN(4)]
			body := ""
			if op != change.Delete {
				for _, family := range []string{"a", "b", "c"} {
					if random.IntN(2) == 0 {
						body += fmt.Sprintf("%s %d\n", family, step)
					}
				}
			}
			if _, err := h.do(op, job, body); err != nil {
				t.Fatalf("%v %s: %v", op, job, err)
			}
			if op == change.Delete {
				delete(want, job)
				continue
			}
			want[job] = contentAfter(want[job], request(op, job, body))
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
					h.must(change.Applied, change.Replace, fmt.Sprint("j", i), "m 1\n")
				}
				if told {
					other := h.attachIdle(r)
					if st := other.State(t.Context()); st.Pending != 0 || st.DecidedThrough != 3 || st.Journal != h.Journal() {
						t.Fatalf("State = %+v, want nothing that waits and all up to 3 decided", st)
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
