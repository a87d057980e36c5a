package textfile_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"pushrelay/internal/change"
	"pushrelay/internal/lifetime"
	"pushrelay/internal/spool"
	"pushrelay/internal/textfile"
)

// said returns what the pushes to the group of a file have said of its life, and how old the last one was when it came.
func (b *bench) said(file string) (lifetime.Texts, time.Duration) {
	b.tb.Helper()
	b.groups.mu.Lock()
	defer b.groups.mu.Unlock()
	key := keyOf(b.tb, "job", "node", "textfile", file)
	return b.groups.lives[key].Texts(), b.groups.ages[key]
}

// TestLifeOfFiles: what the configuration says of a directory travels with every push; what it says no more is taken back. The time of such a
// push is that of the file, so that a change of the configuration is no sign of life.
func TestLifeOfFiles(t *testing.T) {
	b := newBench(t)
	old := time.Since(modified)
	b.write("x.prom", "m 1\n")
	for _, tt := range []struct {
		name   string
		config textfile.Directory
		pushed bool
		want   lifetime.Texts
		isNow  bool // and not when the file was modified
	}{
		{name: "nothing", pushed: true, isNow: true},
		{name: "some", config: textfile.Directory{Every: "1d", Grace: "30m"}, pushed: true, want: lifetime.Texts{TTL: "0", Every: "1d", Grace: "30m"}},
		{name: "the same in other words", config: textfile.Directory{Every: "24h", Grace: "30m"}, want: lifetime.Texts{TTL: "0", Every: "1d", Grace: "30m"}},
		{name: "others", config: textfile.Directory{Every: "none", TTL: "3d"}, pushed: true, want: lifetime.Texts{TTL: "3d", Every: "none", Grace: "0"}},
		{name: "one", config: textfile.Directory{TTL: "3d"}, pushed: true, want: lifetime.Texts{TTL: "3d", Every: "0", Grace: "0"}},
		{name: "none any more", pushed: true, want: lifetime.Texts{TTL: "0", Every: "0", Grace: "0"}},
	} {
		tt.config.Path, tt.config.Job = b.dir, "node"
		var want []string
		if tt.pushed {
			want = []string{replaceX}
		}
		b.apply(tt.config)
		b.look(want...)
		b.look()
		got, age := b.said("x")
		if got != tt.want || tt.isNow != (age < time.Hour) || !tt.isNow && (age < old || age > old+time.Hour) {
			t.Errorf("%s: the pushes said %+v, the last one %s old, want %+v", tt.name, got, age, tt.want)
		}
		b.restart()
		b.apply(tt.config)
		b.look()
	}
	b.write("y.prom", "n 1\n")
	b.look(`replace {job="node",textfile="y"}`)
	if got, age := b.said("y"); got != (lifetime.Texts{}) || age > time.Hour {
		t.Errorf("a file that never had a life: %+v, %s old", got, age)
	}
}

// TestRewrittenFilesAreAlive: a file that is written again with the same content is a push, one that only lies there is none, and no push is
// of a time to come.
func TestRewrittenFilesAreAlive(t *testing.T) {
	b := newBench(t)
	b.apply(textfile.Directory{Path: b.dir, Job: "node", Every: "1d"})
	b.write("x.prom", "m 1\n")
	b.look(replaceX)
	b.write("x.prom", "m 1\n")
	b.look()
	for _, age := range []time.Duration{3 * time.Hour, 2 * time.Hour, -48 * time.Hour} {
		at := time.Now().Add(-age)
		if err := os.Chtimes(filepath.Join(b.dir, "x.prom"), at, at); err != nil {
			t.Fatal(err)
		}
		b.look(replaceX)
		if _, got := b.said("x"); got < max(0, age) || got > max(0, age)+time.Minute {
			t.Errorf("a file that was modified %s ago is a push of %s ago", age, got)
		}
		if age > 0 {
			b.look()
		}
	}
}

// TestDeclarationsOfOthers: what somebody else said of the life of a file's group is taken back, once.
func TestDeclarationsOfOthers(t *testing.T) {
	b := newBench(t)
	dir := t.TempDir()
	key := keyOf(t, "job", "node", "textfile", "x")
	others := func() *change.Change {
		return &change.Change{Operation: change.Merge, Key: key, At: time.Now(), Life: lifetime.Declaration{TTL: lifetime.Period(time.Hour)}}
	}
	b.write("x.prom", "m 1\n")
	for _, tt := range []struct {
		name   string
		pushes []*change.Change
		want   []string
	}{
		{name: "a new file", want: []string{replaceX}},
		{name: "somebody's push", pushes: []*change.Change{others()}, want: []string{replaceX}},
		{name: "a start"},
		{name: "somebody's push and deletion", pushes: []*change.Change{others(), {Operation: change.Delete, Key: key, At: time.Now()}}, want: []string{replaceX}},
		{name: "another start"},
	} {
		s := spool.New(spool.Config{
			Dir: dir, Agent: "a", Relays: []string{"relay:9443"}, Wait: time.Second, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
		})
		if err := s.Recover(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, p := range tt.pushes {
			if err := s.Apply(t.Context(), p).Err(); err != nil {
				t.Fatal(err)
			}
		}
		groups := &counting{Spool: s}
		c := textfile.New(textfile.Config{Groups: groups, Registerer: prometheus.NewRegistry(), Logger: slog.New(slog.DiscardHandler)})
		if err := c.Apply([]textfile.Directory{{Path: b.dir, Job: "node"}}); err != nil {
			t.Fatal(err)
		}
		c.Look(t.Context())
		c.Look(t.Context())
		if diff := cmp.Diff(tt.want, groups.asked); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
		if got := s.Retraction(key); len(tt.pushes) > 0 && got != (lifetime.Declaration{TTL: lifetime.ByRule}) {
			t.Errorf("%s: %+v is taken back", tt.name, got)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
