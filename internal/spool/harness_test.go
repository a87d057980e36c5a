package spool_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	"pushrelay/internal/grouping"
	"pushrelay/internal/history"
	"pushrelay/internal/lifetime"
	"pushrelay/internal/metric"
	"pushrelay/internal/spool"
)

// house is a spool in a directory, and relays that it may be attached to. It lives in a bubble of synctest.
type house struct {
	t   *testing.T
	cfg spool.Config

	*spool.Spool
	end      context.CancelFunc
	running  sync.WaitGroup
	registry *prometheus.Registry // of the current life
}

func newHouse(t *testing.T, relays ...string) *house {
	t.Helper()
	h := &house{t: t, cfg: spool.Config{Dir: t.TempDir() + "/spool", Agent: "site-a", Relays: relays, Wait: 5 * time.Second}}
	h.open()
	return h
}

// open opens the spool, as a start of the agent does.
func (h *house) open() {
	h.t.Helper()
	cfg := h.cfg
	h.registry = prometheus.NewRegistry()
	cfg.Logger, cfg.Registerer = slog.New(slog.NewTextHandler(h.t.Output(), nil)), h.registry
	h.Spool = spool.New(cfg)
	if err := h.Recover(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
	var ctx context.Context
	ctx, h.end = context.WithCancel(context.Background())
	h.running.Go(func() {
		if err := h.Run(ctx); err != nil {
			h.t.Errorf("Run: %v", err)
		}
	})
}

// close closes the spool, as an orderly stop does.
func (h *house) close() {
	h.t.Helper()
	h.end()
	h.running.Wait()
	if err := h.Close(); err != nil {
		h.t.Errorf("Close: %v", err)
	}
}

// crash replaces the spool by one that finds on the disk what a kill would have left there now.
func (h *house) crash() {
	h.t.Helper()
	dir := h.copyTo(h.t.TempDir() + "/spool")
	h.close()
	h.cfg.Dir = dir
	h.open()
}

// clone opens a copy of the spool, as a second host with the same data dir does.
func (h *house) clone() *house {
	h.t.Helper()
	clone := &house{t: h.t, cfg: h.cfg}
	clone.cfg.Dir = h.copyTo(h.t.TempDir() + "/spool")
	clone.open()
	return clone
}

func (h *house) copyTo(dir string) string {
	h.t.Helper()
	if err := os.CopyFS(dir, os.DirFS(h.cfg.Dir)); err != nil {
		h.t.Fatal(err)
	}
	return dir
}

func keyOf(job string) grouping.Key {
	key, err := grouping.New(grouping.Label{Name: "job", Value: job})
	if err != nil {
		panic(err)
	}
	return key
}

func request(op change.Operation, job, body string) *change.Change {
	return &change.Change{Operation: op, Key: keyOf(job), Format: exposition.Text004, Body: []byte(body), At: time.Now()}
}

// outcome returns an outcome and its error.
func outcome(o change.Outcome) (change.Outcome, error) { return o, o.Err() }

// isFinal says that an error is one of a change that will never be taken.
func isFinal(err error) bool { return err != nil && change.OutcomeOf(err).IsFinal() }

func (h *house) do(op change.Operation, job, body string) (change.Outcome, error) {
	return outcome(h.Apply(h.t.Context(), request(op, job, body)))
}

// must pushes and wants that outcome.
func (h *house) must(want change.Kind, op change.Operation, job, body string) {
	h.t.Helper()
	if result, err := h.do(op, job, body); err != nil || result.Kind != want {
		h.t.Fatalf("%v %s %q = %+v, %v, want outcome %d", op, job, body, result, err, want)
	}
}

func (h *house) pending(relay string) int {
	h.t.Helper()
	for _, r := range h.Status().Relays {
		if slices.Contains(r.Addresses, relay) {
			return r.Pending
		}
	}
	h.t.Fatalf("no relay %s in %+v", relay, h.Status().Relays)
	return 0
}

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

// attach opens a session that serves the relay until the function that it returns is called, or the relay loses a verdict.
func (h *house) attach(r *fakeRelay) (detach func()) {
	h.t.Helper()
	journal := h.Journal()
	r.mu.Lock()
	decided, told := r.journals[journal], r.history
	r.mu.Unlock()
	feed, err := h.Attach(spool.Attachment{Relay: r.address, Store: r.id, Journal: journal, Decided: decided, History: told, AgentLabel: "agent"})
	if err != nil {
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var session sync.WaitGroup
	session.Go(func() { h.serve(ctx, feed, r) })
	var once sync.Once
	return func() {
		once.Do(func() {
			cancel()
			session.Wait()
			feed.Detach()
		})
	}
}

// visit attaches the relay until nothing is under way.
func (h *house) visit(r *fakeRelay) {
	h.t.Helper()
	detach := h.attach(r)
	settle()
	detach()
}

func (h *house) serve(ctx context.Context, feed *spool.Feed, r *fakeRelay) {
	var buf bytes.Buffer
	for {
		c, err := feed.Next(ctx)
		if err != nil {
			return
		}
		p, err := r.request(feed, c, buf.AvailableBuffer())
		if err != nil {
			h.t.Errorf("Request: %v", err)
			return
		}
		result, err := r.take(p)
		if r.lose != nil && r.lose() {
			<-ctx.Done() // the session broke before the verdict came
			return
		}
		if err != nil {
			refused := change.OutcomeOf(err)
			refused.Decided = result.Decided
			result = refused
		}
		feed.Decide(c, result)
	}
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

// settle waits until nothing moves any more.
func settle() { synctest.Wait() }

var errClash = change.Refuse(change.Inconsistent, "no fit")

func refuseAll(*change.Change) error { return errClash }

func wantMap(t *testing.T, what string, got, want map[string]string) {
	t.Helper()
	if !maps.Equal(got, want) {
		t.Errorf("%s = %v, want %v", what, got, want)
	}
}

func isKind(err, kind error) bool { return errors.Is(err, kind) }

// attachIdle opens a session in which nobody asks for changes.
func (h *house) attachIdle(r *fakeRelay) *spool.Feed {
	h.t.Helper()
	feed, err := h.Attach(spool.Attachment{Relay: r.address, Store: r.id, AgentLabel: "agent"})
	if err != nil {
		h.t.Fatal(err)
	}
	return feed
}

// attachTo opens a session with what the relay tells, in which nobody asks for changes.
func (h *house) attachTo(r *fakeRelay) *spool.Feed {
	h.t.Helper()
	feed, err := h.Attach(spool.Attachment{Relay: r.address, Store: r.id, History: r.history, AgentLabel: "agent"})
	if err != nil {
		h.t.Fatal(err)
	}
	return feed
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

// counter returns a counter of the current life.
func (h *house) counter(name string) float64 {
	h.t.Helper()
	return h.metric(name).GetCounter().GetValue()
}

// gauge returns a gauge of the current life.
func (h *house) gauge(name string) float64 {
	h.t.Helper()
	return h.metric(name).GetGauge().GetValue()
}

func (h *house) metric(name string) *dto.Metric {
	h.t.Helper()
	families, err := h.registry.Gather()
	if err != nil {
		h.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0]
		}
	}
	h.t.Fatalf("there is no %s", name)
	return nil
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
