package textfile_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pushrelay/internal/change"
	"pushrelay/internal/textfile"
)

// version returns a file that says everywhere which version it is.
func version(n int) string {
	return strings.Repeat(fmt.Sprintf("# version %d\n", n), 1+n%7*500) + fmt.Sprintf("m %d\n", n)
}

// TestReplacedWhileRead renames files without end while others are read: what is pushed is one whole version each time, and
// nothing is deleted meanwhile.
func TestReplacedWhileRead(t *testing.T) {
	b := newBench(t)
	b.write("x.prom", version(0))
	var writer sync.WaitGroup
	stop := make(chan struct{})
	defer writer.Wait()
	defer close(stop)
	writer.Go(func() {
		for i := 1; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			path := filepath.Join(b.dir, fmt.Sprintf("new%d", i%3))
			if err := errors.Join(os.WriteFile(path, []byte(version(i)), 0o600), os.Rename(path, filepath.Join(b.dir, "x.prom"))); err != nil {
				t.Error(err)
				return
			}
		}
	})
	pushed := map[string]bool{}
	key := keyOf(t, "job", "node", "textfile", "x")
	for looks := 0; len(pushed) < 50; looks++ {
		if looks == 100_000 {
			t.Fatalf("only %d versions were met", len(pushed))
		}
		b.Look(t.Context())
		for _, did := range b.groups.took() {
			if did != replaceX {
				t.Errorf("%s although there always was a file", did)
			}
		}
		content, _, ok := strings.Cut(b.groups.bodies[key], "# HELP node_textfile")
		var n int
		if _, err := fmt.Sscanf(content, "# version %d\n", &n); !ok || err != nil || content != version(n) {
			t.Fatalf("pushed is no version (%v):\n%.200s", err, content)
		}
		pushed[content] = true
	}
	if strings.Contains(b.log.String(), "cannot") {
		t.Errorf("there was a fault: %s", b.log)
	}
}

// TestWrittenWhileRead: what is read while somebody writes to the file itself is not taken for a version of it.
func TestWrittenWhileRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.prom")
	if err := os.WriteFile(path, []byte(strings.Repeat("# x\n", 1<<20)), 0o600); err != nil {
		t.Fatal(err)
	}
	var writer sync.WaitGroup
	stop := make(chan struct{})
	writer.Go(func() {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close()
		for {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := f.WriteString("m 1\n"); err != nil {
				t.Error(err)
				return
			}
		}
	})
	changed := 0
	// Until it is: a read that falls between two writes sees none.
	for begun := time.Now(); changed == 0 && time.Since(begun) < time.Minute; {
		_, info, err := textfile.ReadWhole(path, 1<<30)
		switch {
		case errors.Is(err, textfile.ErrChanged):
			changed++
		case err != nil:
			t.Errorf("ReadWhole: %v", err)
		case info.Size()%4 != 0:
			t.Errorf("%d bytes", info.Size())
		}
	}
	close(stop)
	writer.Wait()
	if changed == 0 {
		t.Error("no change was noticed")
	}
}

// TestWatch runs on the file system itself: what a script does is pushed at once, not with the next periodic look.
func TestWatch(t *testing.T) {
	b := newBench(t)
	missing := filepath.Join(t.TempDir(), "later")
	b.apply(textfile.Directory{Path: b.dir, Job: "node"}, textfile.Directory{Path: missing, Job: "later"})
	done := make(chan string, 100)
	b.groups.setFail(func(r *change.Change) error {
		done <- r.Operation.String() + " " + r.Key.String()
		return nil
	})
	ctx, cancel := context.WithTimeout(t.Context(), textfile.Interval-time.Second)
	defer cancel()
	var run sync.WaitGroup
	run.Go(func() {
		if err := b.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	defer run.Wait()
	wants := func(want string) {
		t.Helper()
		select {
		case got := <-done:
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("pushed (-want +got):\n%s", diff)
			}
		case <-ctx.Done():
			t.Fatalf("nothing was pushed, want %s", want)
		}
	}
	b.write("x.prom", "m 1\n")
	wants(replaceX)
	b.write("x.prom", "m 2\n")
	wants(replaceX)
	b.remove("x.prom")
	wants(deleteX)
	if err := os.WriteFile(filepath.Join(b.dir, "y.prom"), []byte("m 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	wants(`replace {job="node",textfile="y"}`)
	second := t.TempDir()
	if err := os.WriteFile(filepath.Join(second, "z.prom"), []byte("m 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.apply(textfile.Directory{Path: second, Job: "second"}, textfile.Directory{Path: b.dir, Job: "node"})
	wants(`replace {job="second",textfile="z"}`)
	if err := os.Rename(filepath.Join(second, "z.prom"), filepath.Join(second, "zz.prom")); err != nil {
		t.Fatal(err)
	}
	wants(`replace {job="second",textfile="zz"}`)
	wants(`delete {job="second",textfile="z"}`)
	cancel()
}
