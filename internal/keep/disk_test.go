package keep_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	"pushrelay/internal/grouping"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/keep"
	"pushrelay/internal/metric"
	"pushrelay/internal/wal"
)

var noon = time.Unix(1_700_000_000, 0)

// A keeper is a log and its store in a test.
type keeper struct {
	*keep.Disk
	tb       testing.TB
	dir      string
	registry *prometheus.Registry
}

func config(dir string) keep.Config {
	return keep.Config{Dir: dir, FS: &disk{}, Logger: slog.New(slog.DiscardHandler)}
}

// tryOpen recovers a log, which the caller closes.
func tryOpen(tb testing.TB, cfg keep.Config) (*keeper, error) {
	tb.Helper()
	k := &keeper{tb: tb, dir: cfg.Dir, registry: prometheus.NewRegistry()}
	cfg.Registerer = k.registry
	k.Disk = keep.NewDisk(cfg)
	return k, k.Recover(tb.Context())
}

func open(tb testing.TB, cfg keep.Config) *keeper {
	tb.Helper()
	k, err := tryOpen(tb, cfg)
	if err != nil {
		tb.Fatalf("Recover() = %v", err)
	}
	return k
}

func (k *keeper) close() {
	k.tb.Helper()
	if err := k.Close(); err != nil {
		k.tb.Fatalf("Close() = %v", err)
	}
}

func key(tb testing.TB, job string) grouping.Key {
	tb.Helper()
	key, err := grouping.New(grouping.Label{Name: "job", Value: job})
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

// push pushes text to a group.
func (k *keeper) push(op change.Operation, job, text string) error {
	k.tb.Helper()
	var p exposition.Parser
	body, err := p.ParseText([]byte(text), exposition.Options{Names: metric.UTF8Names})
	if err != nil {
		k.tb.Fatal(err)
	}
	o, _ := k.Store().Apply(k.tb.Context(), &change.Change{Operation: op, Key: key(k.tb, job), At: noon}, groupstore.Content{Body: body})
	return o.Err()
}

// isInDoubt says that a change was applied and may not outlive a crash.
func isInDoubt(err error) bool {
	o := change.OutcomeOf(err)
	return o.Kind == change.NotWritable && o.Decided.Position > 0 && strings.Contains(o.Detail, wal.ErrInDoubt.Error())
}

// isUnwritable says that the log refused a change, and that nothing has happened.
func isUnwritable(err error) bool {
	o := change.OutcomeOf(err)
	return o.Kind == change.NotWritable && o.Decided.Position == 0 && strings.Contains(o.Detail, wal.ErrUnwritable.Error())
}

func (k *keeper) wipe() error {
	o, _ := k.Store().Apply(k.tb.Context(), &change.Change{Operation: change.Wipe}, groupstore.Content{})
	return o.Err()
}

func (k *keeper) mustPush(op change.Operation, job, text string) {
	k.tb.Helper()
	if err := k.push(op, job, text); err != nil {
		k.tb.Fatalf("Push(%v, %q, %q) = %v", op, job, text, err)
	}
}

// content is all that the store holds, one line per series.
func (k *keeper) content() string {
	k.tb.Helper()
	var b strings.Builder
	for g := range k.Store().Snapshot().Groups() {
		fmt.Fprintln(&b, g.Key(), g.PushTime().UnixNano(), g.FailureTime().UnixNano(), g.FailureReason(), g.Quarantined())
		for f := range g.Families() {
			fmt.Fprintln(&b, f.Name(), f.Type(), f.Help(), f.PushTime().UnixNano(), f.Quarantined())
			for m := range f.Metrics() {
				fmt.Fprintln(&b, " ", strings.ReplaceAll(m.String(), "  ", " "))
			}
		}
	}
	return b.String()
}

// exercise does one of everything.
func (k *keeper) exercise() {
	k.tb.Helper()
	k.mustPush(change.Replace, "a", "# HELP m Help.\n# TYPE m counter\nm{x=\"1\"} 1\nm{x=\"2\"} 2\nn 1e9\n")
	k.mustPush(change.Merge, "a", "n 5\n")
	k.mustPush(change.Replace, "b", "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 3\nh_count 2\n")
	k.mustPush(change.Replace, "c", "n 1\n")
	k.mustPush(change.Delete, "c", "")
	failed := &change.Change{Operation: change.Fail, Key: key(k.tb, "b"), At: noon.Add(time.Second)}
	if o, _ := k.Store().Apply(k.tb.Context(), failed, groupstore.Content{Fault: "it was malformed"}); !o.IsTaken() {
		k.tb.Fatal(o)
	}
	k.mustPush(change.Replace, "d", "{\"utf8.name\",\"l.b\"=\"v\"} 1\n")
}

func TestRecover(t *testing.T) {
	dir := t.TempDir()
	first := open(t, config(dir))
	first.exercise()
	want, id := first.content(), first.ID()
	if id == (keep.ID{}) {
		t.Error("the store has no id")
	}
	first.close()
	for range 3 {
		cfg := config(dir)
		cfg.Store = groupstore.Config{Check: groupstore.CheckQuarantine, MaxSeries: 1, MaxGroups: 1} // other flags
		again := open(t, cfg)
		if diff := cmp.Diff(want, again.content()); diff != "" {
			t.Fatalf("content (-want +got):\n%s", diff)
		}
		if again.ID() != id {
			t.Errorf("ID() = %v, want %v", again.ID(), id)
		}
		again.close()
	}
}

func TestWipeIsDurable(t *testing.T) {
	dir := t.TempDir()
	k := open(t, config(dir))
	k.exercise()
	if err := k.wipe(); err != nil {
		t.Fatal(err)
	}
	k.close()
	k = open(t, config(dir))
	defer k.close()
	if got := k.content(); got != "" {
		t.Errorf("content after a wipe: %q", got)
	}
}

func TestNotRecovered(t *testing.T) {
	cfg := config(t.TempDir())
	cfg.Registerer = prometheus.NewRegistry()
	l := keep.NewDisk(cfg)
	if err := (&keeper{tb: t, Disk: l}).wipe(); err == nil {
		t.Error("a store was changed before it was recovered")
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

// TestOneOwner uses the real file system, which has locks.
func TestOneOwner(t *testing.T) {
	cfg := config(t.TempDir())
	cfg.FS = nil
	first := open(t, cfg)
	defer first.close()
	_, err := tryOpen(t, cfg)
	var locked *wal.LockedError
	if !errors.As(err, &locked) || locked.PID != os.Getpid() {
		t.Errorf("Recover() = %v, want a LockedError of this process", err)
	}
}

// TestSnapshots lets a small log grow over its limit again and again, under pushes.
func TestSnapshots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := config(t.TempDir())
		cfg.SnapshotFloorBytes = 1
		k := open(t, cfg)
		stop := k.run(t)
		for i := range 20 {
			k.mustPush(change.Replace, "a", fmt.Sprintf("m %d\n%s", i, strings.Repeat("# "+strings.Repeat("x", 100)+"\n", 3)))
			k.mustPush(change.Replace, fmt.Sprint("g", i), "n 1\n")
			time.Sleep(1100 * time.Millisecond)
		}
		if got := testutil.ToFloat64(gauge(t, k, "relay_store_snapshot_timestamp_seconds")); got == 0 {
			t.Error("no snapshot was written")
		}
		want, id := k.content(), k.ID()
		stop()
		k.close()
		again := open(t, cfg)
		defer again.close()
		if diff := cmp.Diff(want, again.content()); diff != "" || again.ID() != id {
			t.Errorf("id %v, want %v; content (-want +got):\n%s", again.ID(), id, diff)
		}
	})
}

// gauge returns one metric of the log as a collector.
func gauge(t *testing.T, k *keeper, name string) prometheus.Collector {
	t.Helper()
	families, err := k.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			g := prometheus.NewGauge(prometheus.GaugeOpts{Name: "found"})
			g.Set(f.Metric[0].GetGauge().GetValue())
			return g
		}
	}
	t.Fatalf("there is no metric %s", name)
	return nil
}

// run runs the log until the function that it returns is called.
func (k *keeper) run(t *testing.T) (stop func()) {
	t.Helper()
	quit := make(chan struct{})
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { done <- k.Run(ctx); close(quit) }()
	return func() {
		cancel()
		<-quit
		if err := <-done; err != nil {
			t.Errorf("Run() = %v", err)
		}
	}
}

// TestFullDisk fills the disk and frees it again (S20): what was taken stays readable, pushes are refused, and service
// resumes by itself with everything that was applied.
func TestFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{}
		cfg := config(t.TempDir())
		cfg.FS = d
		k := open(t, cfg)
		stop := k.run(t)
		k.mustPush(change.Replace, "a", "m 1\n")

		d.full.Store(true)
		if err := k.push(change.Replace, "b", "m 2\n"); !isInDoubt(err) {
			t.Errorf("the push that meets the full disk: %v, want in doubt", err)
		}
		for range 3 {
			if err := k.push(change.Replace, "c", "m 3\n"); !isUnwritable(err) {
				t.Errorf("a later push: %v, want %v", err, wal.ErrUnwritable)
			}
			time.Sleep(20 * time.Second)
		}
		if k.Failure() == nil {
			t.Error("Failure() = nil on a full disk")
		}
		if got := k.content(); !strings.Contains(got, `{job="b"}`) || strings.Contains(got, `{job="c"}`) {
			t.Errorf("content while the disk is full:\n%s", got)
		}

		d.full.Store(false)
		time.Sleep(11 * time.Second)
		k.mustPush(change.Replace, "c", "m 4\n")
		want := k.content()
		stop()
		k.close()
		again := open(t, config(cfg.Dir))
		defer again.close()
		if diff := cmp.Diff(want, again.content()); diff != "" {
			t.Errorf("content (-want +got):\n%s", diff)
		}
	})
}

// TestRoomForTheLogOnly: after a full disk there is room for the log and for no snapshot. Service resumes with all that was applied,
// also after a start on the full disk, which has marks of its own to note.
func TestRoomForTheLogOnly(t *testing.T) {
	for name, restart := range map[string]bool{"running": false, "started on the full disk": true} {
		synctest.Test(t, func(t *testing.T) {
			d := &disk{}
			cfg := config(t.TempDir())
			cfg.FS, cfg.Release = d, "0.5"
			k := open(t, cfg)
			stop := k.run(t)
			k.exercise()
			id := k.ID()
			d.narrow.Store(true)
			d.full.Store(true)
			if err := k.push(change.Replace, "b", "o 2\n"); !isInDoubt(err) {
				t.Errorf("%s: the push that meets the full disk: %v, want in doubt", name, err)
			}
			if restart {
				stop()
				if err := k.Close(); !errors.Is(err, wal.ErrUnwritable) {
					t.Errorf("%s: Close() = %v", name, err)
				}
				cfg.Release = "0.6"
				k = open(t, cfg)
				stop = k.run(t)
			}
			time.Sleep(time.Minute)
			if err := k.push(change.Replace, "c", "o 3\n"); !isUnwritable(err) {
				t.Errorf("%s: a push on the full disk: %v", name, err)
			}
			d.full.Store(false)
			time.Sleep(2 * time.Second)
			k.mustPush(change.Replace, "c", "o 4\n")
			want, epochs := k.content(), k.History().Epochs
			if got := testutil.ToFloat64(gauge(t, k, "relay_store_snapshot_timestamp_seconds")); got != 0 {
				t.Errorf("%s: a snapshot was written", name)
			}
			stop()
			k.close()
			again := open(t, cfg)
			defer again.close()
			if diff := cmp.Diff(want, again.content()); diff != "" || again.ID() != id {
				t.Errorf("%s: id %v, want %v; content (-want +got):\n%s", name, again.ID(), id, diff)
			}
			if got := again.History().Epochs; len(got) != len(epochs)+1 || !slices.Equal(got[:len(epochs)], epochs) {
				t.Errorf("%s: epochs %v, want %v and another", name, got, epochs)
			}
		})
	}
}

// TestStartOnFullDisk: what is there is served, and changes are taken once there is space.
func TestStartOnFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{}
		cfg := config(t.TempDir())
		cfg.FS = d
		k := open(t, cfg)
		k.exercise()
		want, id := k.content(), k.ID()
		k.close()
		d.full.Store(true)
		k = open(t, cfg)
		stop := k.run(t)
		if diff := cmp.Diff(want, k.content()); diff != "" || k.ID() != id {
			t.Errorf("id %v, want %v; content (-want +got):\n%s", k.ID(), id, diff)
		}
		if err := k.push(change.Replace, "c", "n 3\n"); !isUnwritable(err) {
			t.Errorf("Push() = %v, want %v", err, wal.ErrUnwritable)
		}
		d.full.Store(false)
		time.Sleep(11 * time.Second)
		k.mustPush(change.Replace, "c", "n 3\n")
		stop()
		k.close()
	})
}

func TestImports(t *testing.T) {
	dir := t.TempDir()
	k := open(t, config(dir))
	i := keep.Import{Name: "/var/lib/pushgateway", Size: 3, SHA256: "abc", At: noon.UTC()}
	if k.Imported(i.Name) {
		t.Error("Imported before it was")
	}
	if err := k.NoteImport(t.Context(), i); err != nil {
		t.Fatal(err)
	}
	k.close()
	k = open(t, config(dir))
	defer k.close()
	if !k.Imported(i.Name) || k.Imported("/another") {
		t.Error("what was imported is forgotten, or something else is remembered")
	}
}

// TestReservedNamesAreTold: what is hidden since its name is the relay's own is told at the start.
func TestReservedNamesAreTold(t *testing.T) {
	cfg := config(t.TempDir())
	cfg.Store.Check = groupstore.CheckQuarantine
	k := open(t, cfg)
	k.mustPush(change.Replace, "a", "m 1\npush_up 1\n")
	k.close()
	var log bytes.Buffer
	cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
	open(t, cfg).close()
	if !strings.Contains(log.String(), "names=[push_up]") {
		t.Errorf("the log does not tell it:\n%s", &log)
	}
}
