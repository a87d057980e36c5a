package spool_test

import (
	"crypto/rand"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/s2"

	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	"pushrelay/internal/grouping"
	"pushrelay/internal/history"
	"pushrelay/internal/lifetime"
	"pushrelay/internal/metric"
	"pushrelay/internal/spool"
)

// fakeRelay is what a relay does with changes: it applies each once, by origin.
type fakeRelay struct {
	asked   int // owned by serve: how many changes it was asked to take
	id      spool.StoreID
	address string

	mu       sync.Mutex
	groups   map[grouping.Key]map[string]string // the line of each metric
	pushed   map[grouping.Key]time.Time
	failed   map[grouping.Key]int
	lives    map[grouping.Key]life
	marks    map[grouping.Key]map[spool.JournalID]uint64
	journals map[spool.JournalID]spool.Decided
	judge    func(r *change.Change) error // nil takes everything
	lose     func() bool                  // whether a verdict is lost
	log      []string                     // what was applied or rejected, in order
	history  history.History
	applied  int
	rejected int
	repeated int
	hides    string // what it says of every push that it takes
}

func newRelay(address string, id byte) *fakeRelay {
	return &fakeRelay{
		id: spool.StoreID{id}, address: address, groups: map[grouping.Key]map[string]string{}, pushed: map[grouping.Key]time.Time{}, failed: map[grouping.Key]int{}, lives: map[grouping.Key]life{},
		marks: map[grouping.Key]map[spool.JournalID]uint64{}, journals: map[spool.JournalID]spool.Decided{},
		history: history.History{Epochs: []history.Epoch{{ID: newEpoch()}}},
	}
}

func newEpoch() (id history.EpochID) {
	rand.Read(id[:])
	return id
}

// restart begins another epoch of the relay's store.
func (r *fakeRelay) restart() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.history.Epochs = history.Begin(r.history.Epochs, history.Epoch{ID: newEpoch(), Began: r.history.Position})
}

// copy returns what a copy of the relay's data dir is at this moment, to be put back or to run elsewhere.
func (r *fakeRelay) copy(address string) *fakeRelay {
	r.mu.Lock()
	defer r.mu.Unlock()
	copied := r.restored(r.id[0])
	copied.address, copied.history = address, r.history
	return copied
}

// take is what a relay does with one change.
func (r *fakeRelay) take(p *change.Change) (change.Outcome, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	journal := spool.JournalID(p.Origin.Journal)
	if r.marks[p.Key][journal] >= p.Origin.Sequence {
		r.repeated++
		return change.Outcome{Kind: change.Applied, Duplicate: true, Decided: history.Point{Epoch: r.history.Current(), Position: r.history.Position}}, nil
	}
	decided := change.Outcome{Kind: change.Applied, Decided: history.Point{Epoch: r.history.Current(), Position: r.history.Position + 1}}
	var refusal error
	if r.judge != nil {
		refusal = r.judge(p)
	}
	if refusal != nil && !isFinal(refusal) {
		return change.Outcome{}, refusal
	}
	if r.marks[p.Key] == nil {
		r.marks[p.Key] = map[spool.JournalID]uint64{}
	}
	r.marks[p.Key][journal] = p.Origin.Sequence
	r.history.Position++
	if p.Origin.Sequence > r.journals[journal].Sequence {
		r.journals[journal] = spool.Decided{Sequence: p.Origin.Sequence, Digest: p.Origin.Digest}
	}
	r.log = append(r.log, p.Operation.String()+" "+p.Key.Job()+" "+shown(p))
	if refusal != nil {
		r.rejected++
		return decided, refusal
	}
	r.applied++
	switch p.Operation {
	case change.Delete:
		delete(r.groups, p.Key)
		delete(r.lives, p.Key)
		return decided, nil
	case change.Fail:
		r.failed[p.Key]++
		return decided, nil
	default:
		r.groups[p.Key] = contentAfter(r.groups[p.Key], p)
	}
	r.lives[p.Key] = r.lives[p.Key].after(p)
	r.pushed[p.Key] = p.At
	if r.hides != "" {
		decided.Kind, decided.Detail = change.Unchecked, r.hides
	}
	return decided, nil
}

// life is what a relay keeps of what the pushes to a group said of it.
type life struct {
	declared lifetime.Declaration
	failed   string
}

func (l life) after(p *change.Change) life {
	return life{declared: l.declared.And(p.Life), failed: p.Failed}
}

func (r *fakeRelay) lifeOf(job string) life {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lives[keyOf(job)]
}

// A sample is a line of a body.
type sample struct {
	family, series string
	value          float64
	isCounter      bool
}

func (s sample) line() string { return fmt.Sprint(s.series, " ", s.value) }

// samplesOf returns the samples of a body whose families are of simple types.
func samplesOf(p *change.Change) (all []sample) {
	body, err := new(exposition.Parser).Parse(p.Format, p.Body, exposition.Options{})
	if err != nil {
		panic(err)
	}
	for _, f := range body.Families {
		for _, m := range body.Metrics[f.Metrics.Start:f.Metrics.End] {
			series := string(f.Name)
			for _, l := range body.Labels[m.Labels.Start:m.Labels.End] {
				series += fmt.Sprintf("{%s=%q}", l.Name, l.Value)
			}
			all = append(all, sample{string(f.Name), series, body.Points[m.Points.Start].Value, f.Type == metric.Counter})
		}
	}
	return all
}

// shown returns a body as text; without types if it comes in protobuf.
func shown(p *change.Change) string {
	if p.Format != exposition.ProtobufDelimited {
		return string(p.Body)
	}
	var text strings.Builder
	for _, s := range samplesOf(p) {
		text.WriteString(s.line() + "\n")
	}
	return text.String()
}

// contentAfter returns what a group has after a push, by series.
func contentAfter(before map[string]string, p *change.Change) map[string]string {
	all := map[string]string{}
	if p.Operation != change.Replace {
		maps.Copy(all, before)
	}
	pushed := samplesOf(p)
	for _, s := range pushed {
		if p.Operation == change.Merge {
			maps.DeleteFunc(all, func(series, _ string) bool { return series == s.family || strings.HasPrefix(series, s.family+"{") })
		}
	}
	for _, s := range pushed {
		if old, has := all[s.series]; has && p.Operation == change.Add {
			var base float64
			fmt.Sscan(old[len(s.series):], &base)
			if s.isCounter {
				s.value += base
			} else {
				s.value = p.Gauges.Of(base, s.value)
			}
		}
		all[s.series] = s.line()
	}
	return all
}

func (r *fakeRelay) has(job string) map[string]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.groups[keyOf(job)])
}

// request returns the push as the relay has it in the end: every other body came packed.
func (r *fakeRelay) request(feed *spool.Feed, c *spool.Transfer, buf []byte) (*change.Change, error) {
	r.asked++
	if r.asked%2 == 0 {
		return feed.Request(c, buf, nil)
	}
	p, err := feed.Request(c, buf, func(packed, size uint64) bool { return packed < size })
	if err != nil || c.Packed == nil {
		return p, err
	}
	if p.Body != nil {
		return nil, fmt.Errorf("a packed body came unpacked as well: %q", p.Body)
	}
	if p.Body, err = s2.Decode(nil, c.Packed); err == nil && len(p.Body) != c.Bytes {
		err = fmt.Errorf("the body has %d bytes of %d", len(p.Body), c.Bytes)
	}
	return p, err
}

// with calls f while the relay does nothing.
func (r *fakeRelay) with(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

// took returns what the relay decided, in order.
func (r *fakeRelay) took() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.log)
}

// counts are what the relay applied, rejected and knew already.
func (r *fakeRelay) counts() [3]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return [3]int{r.applied, r.rejected, r.repeated}
}

// backup returns a relay that is made again from a backup of this one: another store, with the same groups and marks.
func (r *fakeRelay) backup(id byte) *fakeRelay {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.restored(id)
}

// restored returns a relay with what this one holds, and a history of its own. The caller holds mu.
func (r *fakeRelay) restored(id byte) *fakeRelay {
	restored := newRelay(r.address, id)
	restored.journals = maps.Clone(r.journals)
	for key, content := range r.groups {
		restored.groups[key] = maps.Clone(content)
	}
	maps.Copy(restored.lives, r.lives)
	for key, marks := range r.marks {
		restored.marks[key] = maps.Clone(marks)
	}
	return restored
}
