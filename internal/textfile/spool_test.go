package textfile_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"pushrelay/internal/change"
	"pushrelay/internal/grouping"
	"pushrelay/internal/spool"
	"pushrelay/internal/textfile"
)

// counting counts what is asked of a spool.
type counting struct {
	*spool.Spool
	asked []string
}

func (c *counting) Apply(ctx context.Context, r *change.Change) change.Outcome {
	c.asked = append(c.asked, r.Operation.String()+" "+r.Key.String())
	return c.Spool.Apply(ctx, r)
}

// TestSpoolRemembers runs with a spool on the disk: what it says after a restart is what the collector needs to know.
func TestSpoolRemembers(t *testing.T) {
	b := newBench(t)
	dir := t.TempDir()
	// run lets an agent live for one look.
	run := func(what string, want ...string) {
		t.Helper()
		s := spool.New(spool.Config{
			Dir: dir, Agent: "a", Relays: []string{"relay:9443"}, Wait: time.Second,
			Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
		})
		if err := s.Recover(t.Context()); err != nil {
			t.Fatal(err)
		}
		groups := &counting{Spool: s}
		c := textfile.New(textfile.Config{Groups: groups, Registerer: prometheus.NewRegistry(), Logger: slog.New(slog.DiscardHandler)})
		if err := c.Apply([]textfile.Directory{{Path: b.dir, Job: "node"}}); err != nil {
			t.Fatal(err)
		}
		c.Look(t.Context())
		c.Look(t.Context())
		if diff := cmp.Diff(want, groups.asked); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	b.write("x.prom", "m 1\n")
	run("a new file", replaceX)
	run("nothing new")
	b.write("x.prom", "m 2\n")
	run("another content", replaceX)
	b.write("x.prom", "m 2\nm 3\n")
	run("content that is refused", replaceX)
	b.write("x.prom", "m 2\n")
	run("what was good before")
	b.remove("x.prom")
	run("no file", deleteX)
	run("no file and no group")
}

var _ textfile.Groups = (*spool.Spool)(nil)

// TestOthersPushes: a group of which somebody else pushed the newest content is the file's again.
func TestOthersPushes(t *testing.T) {
	b := newBench(t)
	s := spool.New(spool.Config{
		Agent: "a", Relays: []string{"relay:9443"}, Wait: time.Second,
		Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	})
	if err := s.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	groups := &counting{Spool: s}
	c := textfile.New(textfile.Config{Groups: groups, Registerer: prometheus.NewRegistry(), Logger: slog.New(slog.DiscardHandler)})
	if err := c.Apply([]textfile.Directory{{Path: b.dir, Job: "node"}}); err != nil {
		t.Fatal(err)
	}
	b.write("x.prom", "m 1\n")
	c.Look(t.Context())
	key, err := grouping.New(grouping.Label{Name: "job", Value: "node"}, grouping.Label{Name: "textfile", Value: "x"})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []change.Change{
		{Operation: change.Delete, Key: key, At: time.Now()},
		{Operation: change.Replace, Key: key, Body: []byte("n 1\n"), At: time.Now()},
		{Operation: change.Merge, Key: key, Body: []byte("n 1\n"), At: time.Now()},
	} {
		if err := s.Apply(t.Context(), &r).Err(); err != nil {
			t.Fatal(err)
		}
		groups.asked = nil
		c.Look(t.Context())
		if diff := cmp.Diff([]string{replaceX}, groups.asked); diff != "" {
			t.Errorf("after somebody's %s (-want +got):\n%s", r.Operation, diff)
		}
	}
}
