package textfile_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/google/go-cmp/cmp"

	"pushrelay/internal/change"
	"pushrelay/internal/textfile"
)

// TestRunHearsOfChanges: a change is pushed a moment after the event, many at once once, and one that no event told of with
// the next periodic look.
func TestRunHearsOfChanges(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench, events chan<- fsnotify.Event) {
		wants := func(what string, want ...string) {
			t.Helper()
			synctest.Wait()
			if diff := cmp.Diff(want, b.groups.took()); diff != "" {
				t.Errorf("%s (-want +got):\n%s", what, diff)
			}
		}
		b.write("x.prom", "m 1\n")
		for range 50 { // events that never stop do not keep it from looking
			events <- fsnotify.Event{Name: filepath.Join(b.dir, "x.prom"), Op: fsnotify.Write}
			time.Sleep(textfile.Settle / 25)
		}
		wants("after events", replaceX)
		b.write("x.prom", "m 2\n")
		events <- fsnotify.Event{Name: filepath.Join(b.dir, "x.prom.tmp"), Op: fsnotify.Write}
		time.Sleep(2 * textfile.Settle)
		wants("after an event about another file")
		time.Sleep(textfile.Interval)
		wants("without an event", replaceX)
		b.remove("x.prom")
		events <- fsnotify.Event{Name: filepath.Join(b.dir, "x.prom"), Op: fsnotify.Remove}
		time.Sleep(textfile.Settle)
		wants("after the file is removed", deleteX)
		b.write("x.prom", "m 2\n")
		b.apply(textfile.Directory{Path: b.dir, Job: "other"})
		wants("after a reload", `replace {job="other",textfile="x"}`)
		time.Sleep(time.Hour)
		wants("later")
	})
}

// TestRunWaitsForTheEnd: a file that was written to just now and does not end in a line feed may be half written, so that half a number
// would be pushed. It is read again until it does, or rests.
func TestRunWaitsForTheEnd(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench, events chan<- fsnotify.Event) {
		path := filepath.Join(b.dir, "x.prom")
		writes := func(content string) {
			t.Helper()
			b.write("x.prom", content)
			if err := os.Chtimes(path, time.Now(), time.Now()); err != nil {
				t.Fatal(err)
			}
			events <- fsnotify.Event{Name: path, Op: fsnotify.Write}
			time.Sleep(2 * textfile.Settle)
			synctest.Wait()
		}
		wants := func(body string, want ...string) {
			t.Helper()
			got, _, _ := strings.Cut(b.groups.bodies[keyOf(t, "job", "node", "textfile", "x")], "#")
			if diff := cmp.Diff(want, b.groups.took()); diff != "" || got != body {
				t.Errorf("the group holds %q, want %q (-want +got):\n%s", got, body, diff)
			}
		}
		writes("m 123\n")
		wants("m 123\n", replaceX)
		writes("m 4")
		wants("m 123\n")
		if faults := b.Faults(); len(faults) > 0 {
			t.Errorf("a file that is being written is at fault: %v", faults)
		}
		writes("m 45")
		wants("m 123\n")
		writes("m 456\n")
		wants("m 456\n", replaceX)
		writes("m 7")
		time.Sleep(2 * textfile.Racy)
		synctest.Wait()
		wants("m 7\n", replaceX)
		time.Sleep(time.Hour)
		wants("m 7\n")
	})
}

// TestRunWaitsForDirectories: without a configuration nothing is known of what was pushed, and nothing is deleted.
func TestRunWaitsForDirectories(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench, _ chan<- fsnotify.Event) {
		b.write("x.prom", "m 1\n")
		time.Sleep(textfile.Interval)
		synctest.Wait()
		b.groups.took()
		b.restart()
		b.SetEvents(nil, nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := b.Run(ctx); err != nil {
			t.Errorf("Run = %v", err)
		}
		if got := b.groups.took(); len(got) > 0 {
			t.Errorf("asked for %q", got)
		}
	})
}

// TestRunTriesAgain: a push that is not possible is tried again with growing pauses, and events do not shorten them.
func TestRunTriesAgain(t *testing.T) {
	for _, err := range []error{change.Refuse(change.Unavailable, "the spool is full"), change.Refuse(change.Full, "full"), errors.New("disk")} {
		bubble(t, func(t *testing.T, b *bench, events chan<- fsnotify.Event) {
			b.groups.setFail(func(*change.Change) error { return err })
			b.write("x.prom", "m 1\n")
			for range 10 * 120 {
				events <- fsnotify.Event{Name: filepath.Join(b.dir, "x.prom"), Op: fsnotify.Write}
				time.Sleep(time.Second / 10)
			}
			synctest.Wait()
			pauses := []time.Duration{}
			for i, at := range b.groups.times[1:] {
				pauses = append(pauses, at.Sub(b.groups.times[i]).Round(time.Second))
			}
			want := []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second, 30 * time.Second, 30 * time.Second}
			if diff := cmp.Diff(want, pauses); diff != "" {
				t.Errorf("pauses (-want +got):\n%s", diff)
			}
			b.metrics(`directory_error{DIR} 0 error{DIR/x.prom} 0 files 1 waiting_files 1`)
			if n := strings.Count(b.log.String(), "text files wait"); n != 1 {
				t.Errorf("%d log lines: %s", n, b.log)
			}
			b.groups.setFail(nil)
			b.groups.took()
			time.Sleep(time.Minute)
			synctest.Wait()
			if diff := cmp.Diff([]string{replaceX}, b.groups.took()); diff != "" {
				t.Errorf("when it is possible (-want +got):\n%s", diff)
			}
			b.metrics(`directory_error{DIR} 0 error{DIR/x.prom} 0 files 1 mtime_seconds{DIR/x.prom} 9.0000000025e+08 waiting_files 0`)

			b.groups.setFail(func(*change.Change) error { return err })
			b.remove("x.prom")
			time.Sleep(time.Minute)
			synctest.Wait()
			b.metrics(`directory_error{DIR} 0 files 0 waiting_files 1`)
			b.groups.setFail(nil)
			b.groups.took()
			time.Sleep(time.Minute)
			synctest.Wait()
			if diff := cmp.Diff([]string{deleteX}, b.groups.took()); diff != "" {
				t.Errorf("the delete, when it is possible (-want +got):\n%s", diff)
			}
		})
	}
}

// TestLogIsBounded: a file that is bad every other moment makes two lines a minute.
func TestLogIsBounded(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench, events chan<- fsnotify.Event) {
		const minutes = 10
		for i := range minutes * 60 {
			b.write("x.prom", []string{"m 1\n", "m one\n"}[i%2])
			events <- fsnotify.Event{Name: filepath.Join(b.dir, "x.prom"), Op: fsnotify.Create}
			time.Sleep(time.Second)
		}
		synctest.Wait()
		if n := strings.Count(b.log.String(), "\n"); n < minutes || n > 2*minutes+1 {
			t.Errorf("%d log lines in %d minutes", n, minutes)
		}
	})
	bubble(t, func(t *testing.T, b *bench, _ chan<- fsnotify.Event) {
		for i := range 100 {
			b.write(string(rune('a'+i/10))+string(rune('a'+i%10))+".prom", "m one\n")
		}
		time.Sleep(textfile.Interval)
		synctest.Wait()
		if n := strings.Count(b.log.String(), "\n"); n != 20 {
			t.Errorf("%d log lines for 100 bad files at once", n)
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		for i := range 100 {
			if name := string(rune('a'+i/10)) + string(rune('a'+i%10)) + ".prom"; strings.Count(b.log.String(), name) != 1 {
				t.Errorf("%s is not told of once", name)
			}
		}
	})
}

// TestFilesAreNotReadForNothing: a file that has rested is not read again until it seems to have changed.
func TestFilesAreNotReadForNothing(t *testing.T) {
	b := newBench(t)
	b.write("x.prom", "m 1\n")
	b.look(replaceX)
	path := filepath.Join(b.dir, "x.prom")
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("m 2\n"); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, modified, modified); err != nil {
		t.Fatal(err)
	}
	b.look() // nothing tells that it changed
	now := time.Now()
	if err := os.Chtimes(path, now, now); err != nil {
		t.Fatal(err)
	}
	b.look(replaceX)
	if _, err := f.WriteAt([]byte("m 3\n"), 0); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, now, now); err != nil {
		t.Fatal(err)
	}
	b.look(replaceX) // nothing tells either, but it was modified a moment ago
}
