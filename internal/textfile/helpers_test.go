package textfile_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	"pushrelay/internal/grouping"
	"pushrelay/internal/lifetime"
	"pushrelay/internal/metric"
	"pushrelay/internal/series"
	"pushrelay/internal/textfile"
)

// groups is a spool that remembers in memory.
type groups struct {
	tb testing.TB

	mu     sync.Mutex
	owned  map[grouping.Key]change.Digest
	bodies map[grouping.Key]string
	lives  map[grouping.Key]lifetime.Declaration // what was said, and never forgotten
	ages   map[grouping.Key]time.Duration        // of each push as it came
	log    []string                              // "replace {…}" and so on, what was asked for
	times  []time.Time                           // of each
	fail   func(r *change.Change) error          // nil for never
}

func newGroups(tb testing.TB) *groups {
	tb.Helper()
	return &groups{tb: tb, owned: map[grouping.Key]change.Digest{}, bodies: map[grouping.Key]string{}, lives: map[grouping.Key]lifetime.Declaration{}, ages: map[grouping.Key]time.Duration{}}
}

func (g *groups) Apply(ctx context.Context, r *change.Change) change.Outcome {
	if _, ok := ctx.Deadline(); !ok {
		g.tb.Error("a push without a deadline")
	}
	if r.Owner != textfile.Owner {
		g.tb.Errorf("owner %q", r.Owner)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.log = append(g.log, r.Operation.String()+" "+r.Key.String())
	g.times = append(g.times, time.Now())
	if g.fail != nil {
		if err := g.fail(r); err != nil {
			return change.OutcomeOf(err)
		}
	}
	if r.Operation == change.Delete {
		delete(g.owned, r.Key)
		delete(g.bodies, r.Key)
		return change.Outcome{Kind: change.Spooled}
	}
	body, err := new(exposition.Parser).ParseText(r.Body, exposition.Options{Names: metric.UTF8Names})
	if inconsistent, ok := errors.AsType[*exposition.InconsistentError](err); ok {
		return *change.Refuse(change.Inconsistent, "%v", inconsistent)
	}
	if err != nil || r.Operation != change.Replace || r.Format != exposition.Text004 {
		g.tb.Errorf("%s of format %d with a malformed body: %v\n%s", r.Operation, r.Format, err, r.Body)
		return *change.Refuse(change.Invalid, "%v", err)
	}
	if fault := series.Check(body, r.Key, names(r.Key)); fault != "" {
		return *change.Contradiction(fault)
	}
	g.lives[r.Key], g.ages[r.Key] = g.lives[r.Key].Then(r.Life), time.Since(r.At)
	g.owned[r.Key], g.bodies[r.Key] = change.DigestOf(r), string(r.Body)
	return change.Outcome{Kind: change.Spooled}
}

func (g *groups) Owned(string) map[grouping.Key]change.Digest {
	g.mu.Lock()
	defer g.mu.Unlock()
	return maps.Clone(g.owned)
}

func (g *groups) Retraction(key grouping.Key) lifetime.Declaration {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.lives[key].Retraction()
}

// took returns what was asked for since it was called last.
func (g *groups) took() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	log := g.log
	g.log, g.times = nil, nil
	return log
}

func (g *groups) setFail(fail func(r *change.Change) error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.fail = fail
}

// A log is what was logged, for several goroutines.
type log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// A bench is a collector over a directory.
type bench struct {
	tb       testing.TB
	dir      string
	groups   *groups
	registry *prometheus.Registry
	log      *log
	*textfile.Collector
}

func newBench(tb testing.TB) *bench {
	tb.Helper()
	b := &bench{tb: tb, dir: tb.TempDir(), groups: newGroups(tb)}
	b.restart()
	b.apply(textfile.Directory{Path: b.dir, Job: "node"})
	return b
}

// restart makes a new collector for the same groups and no directories.
func (b *bench) restart() {
	b.tb.Helper()
	b.registry, b.log = prometheus.NewPedanticRegistry(), &log{}
	b.Collector = textfile.New(textfile.Config{
		Groups: b.groups, Registerer: b.registry, Logger: slog.New(slog.NewTextHandler(b.log, nil)),
		Limits: exposition.Limits{MaxBodyBytes: 1 << 20, MaxLabels: 3},
	})
}

func (b *bench) apply(directories ...textfile.Directory) {
	b.tb.Helper()
	if err := b.Apply(directories); err != nil {
		b.tb.Fatal(err)
	}
}

// write puts a file in place by renaming, last modified a while before any bubble begins.
func (b *bench) write(name, content string) {
	b.tb.Helper()
	path := filepath.Join(b.dir, name)
	if err := os.WriteFile(path+".tmp", []byte(content), 0o600); err != nil {
		b.tb.Fatal(err)
	}
	if err := os.Chtimes(path+".tmp", modified, modified); err != nil {
		b.tb.Fatal(err)
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		b.tb.Fatal(err)
	}
}

// modified is when files were modified.
var modified = time.Unix(900_000_000, 250_000_000)

func (b *bench) remove(name string) {
	b.tb.Helper()
	if err := os.RemoveAll(filepath.Join(b.dir, name)); err != nil {
		b.tb.Fatal(err)
	}
}

// look looks once and compares what is asked for.
func (b *bench) look(want ...string) {
	b.tb.Helper()
	b.Look(b.tb.Context())
	if diff := cmp.Diff(want, b.groups.took()); diff != "" {
		b.tb.Errorf("what was pushed (-want +got):\n%s", diff)
	}
}

// metrics compares the lines of the collector's metrics but the counter.
func (b *bench) metrics(want string) {
	b.tb.Helper()
	want = strings.ReplaceAll(want, "DIR", b.dir)
	names := []string{"files", "waiting_files", "error", "directory_error", "mtime_seconds"}
	families, err := b.registry.Gather()
	if err != nil {
		b.tb.Fatal(err)
	}
	var got []string
	for _, f := range families {
		for _, name := range names {
			if f.GetName() != "relay_agent_textfile_"+name {
				continue
			}
			for _, m := range f.Metric {
				label := ""
				for _, l := range m.Label {
					label = "{" + l.GetValue() + "}"
				}
				got = append(got, fmt.Sprintf("%s%s %v", name, label, m.Gauge.GetValue()))
			}
		}
	}
	if diff := cmp.Diff(strings.Fields(want), strings.Fields(strings.Join(got, "\n"))); diff != "" {
		b.tb.Errorf("metrics (-want +got):\n%s", diff)
	}
	if problems, err := testutil.GatherAndLint(b.registry); err != nil || len(problems) > 0 {
		b.tb.Errorf("linting the metrics: %v, %v", err, problems)
	}
}

// bubble runs a test with a collector that runs, and that hears of changes by events only.
func bubble(t *testing.T, test func(t *testing.T, b *bench, events chan<- fsnotify.Event)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := &bench{tb: t, dir: dir, groups: newGroups(t)}
		b.restart()
		b.apply(textfile.Directory{Path: b.dir, Job: "node"})
		events := make(chan fsnotify.Event)
		b.SetEvents(events, nil)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- b.Run(ctx) }()
		synctest.Wait()
		test(t, b, events)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v", err)
		}
	})
}

const replaceX, deleteX = `replace {job="node",textfile="x"}`, `delete {job="node",textfile="x"}`

// names returns the names of a key's labels.
func names(key grouping.Key) (list []string) {
	for _, l := range key.Labels() {
		list = append(list, l.Name)
	}
	return list
}
