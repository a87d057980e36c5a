package spool_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"

	"pushrelay/internal/addup"
	"pushrelay/internal/change"
	"pushrelay/internal/spool"
)

// Random additions beside all else that is pushed, with all that happens to agents and relays: two relays that lose verdicts, their data, or
// are put back to a copy, kills, snapshots, journals that begin anew. Again and again both have exactly what was accepted.
func TestAddsExactlyOnce(t *testing.T) {
	seeds := uint64(8)
	if testing.Short() {
		seeds = 2
	}
	for seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newAddModel(t, rand.New(rand.NewPCG(seed, 2)))
				defer func() { m.h.close() }()
				for step := range 400 {
					m.step(step)
					if step%40 == 39 {
						m.settle(step)
					}
				}
			})
		})
	}
}

// addModel is a spool and two relays, and what they should come to.
type addModel struct {
	t      *testing.T
	random *rand.Rand
	h      *house
	relays []*fakeRelay
	copies []*fakeRelay // of each relay, as it once was
	detach []func()
	want   map[string]map[string]string
	stores byte
}

func newAddModel(t *testing.T, random *rand.Rand) *addModel {
	m := &addModel{t: t, random: random, h: newHouse(t, "a:1", "b:1"), detach: make([]func(), 2), want: map[string]map[string]string{}, stores: 2}
	m.relays = []*fakeRelay{newRelay("a:1", 1), newRelay("b:1", 2)}
	m.copies = []*fakeRelay{m.relays[0].copy("a:1"), m.relays[1].copy("b:1")}
	for _, r := range m.relays {
		m.lose(r)
	}
	return m
}

// lose has a relay lose some verdicts.
func (m *addModel) lose(r *fakeRelay) {
	losses := rand.New(rand.NewPCG(m.random.Uint64(), 3))
	r.lose = func() (lost bool) { r.with(func() { lost = losses.IntN(20) == 0 }); return lost }
}

func (m *addModel) leave(i int) {
	if m.detach[i] != nil {
		m.detach[i]()
		m.detach[i] = nil
	}
}

func (m *addModel) step(step int) {
	i := m.random.IntN(len(m.relays))
	switch n := m.random.IntN(60); {
	case n < 6:
		if m.detach[i] != nil {
			m.leave(i)
		} else {
			m.detach[i] = m.h.attach(m.relays[i])
		}
	case n < 8:
		m.leave(0)
		m.leave(1)
		m.h.crash()
	case n < 10:
		if err := m.h.Snapshot(m.t.Context()); err != nil {
			m.t.Fatal(err)
		}
	case n == 10:
		m.leave(i)
		m.stores++
		m.relays[i] = newRelay(m.relays[i].address, m.stores)
		m.copies[i] = m.relays[i].copy(m.relays[i].address)
		m.lose(m.relays[i])
	case n == 11, n == 14:
		m.copies[i] = m.relays[i].copy(m.relays[i].address)
	case n == 12:
		m.leave(i)
		m.relays[i] = m.copies[i].copy(m.relays[i].address)
		m.relays[i].restart()
		m.lose(m.relays[i])
	case n == 13:
		m.leave(i)
		journal := m.h.Journal()
		m.relays[i].with(func() { m.relays[i].journals[journal] = spool.Decided{Sequence: 1 << 40} })
	default:
		m.push(step)
	}
	if err := m.h.Check(); err != nil {
		m.t.Fatalf("step %d: %v", step, err)
	}
}

func (m *addModel) push(step int) {
	job := fmt.Sprint("j", m.random.IntN(2))
	op := change.Add
	if m.random.IntN(5) == 0 {
		op = []change.Operation{change.Replace, change.Merge, change.Merge, change.MergeSeries, change.MergeSeries, change.Delete}[m.random.IntN(6)]
	}
	p := request(op, job, "")
	if op != change.Delete {
		p.Body = []byte(m.body(step))
	}
	if op == change.Add {
		p.Gauges = addup.Sum
	}
	if err := m.h.Apply(m.t.Context(), p).Err(); err != nil {
		m.t.Fatalf("%v %s: %v", op, job, err)
	}
	if op == change.Delete {
		delete(m.want, job)
		return
	}
	m.want[job] = contentAfter(m.want[job], p)
}

// body returns some counters of several series, and a gauge.
func (m *addModel) body(step int) string {
	var text strings.Builder
	for _, family := range []string{"a", "b", "c"} {
		if m.random.IntN(2) == 0 {
			continue
		}
		fmt.Fprintf(&text, "# TYPE %s counter\n", family)
		for w := range 3 {
			if m.random.IntN(2) == 0 {
				fmt.Fprintf(&text, "%s{w=\"%d\"} %d\n", family, w, 1+m.random.IntN(9))
			}
		}
	}
	if m.random.IntN(3) == 0 {
		fmt.Fprintf(&text, "# TYPE g gauge\ng %d\n", step)
	}
	return text.String()
}

// settle lets both relays catch up, and compares what they have with what was accepted.
func (m *addModel) settle(step int) {
	m.t.Helper()
	for i, r := range m.relays {
		m.leave(i)
		lose := r.lose
		r.with(func() { r.lose = nil })
		m.h.visit(r)
		r.with(func() { r.lose = lose })
		if n := m.h.pending(r.address); n != 0 {
			m.t.Fatalf("step %d: %d changes wait for %s", step, n, r.address)
		}
		for i := range 2 {
			if got, want := r.has(fmt.Sprint("j", i)), m.want[fmt.Sprint("j", i)]; !maps.Equal(got, want) {
				m.t.Fatalf("step %d: %s has %v of j%d, want %v", step, r.address, got, i, want)
			}
		}
	}
}
