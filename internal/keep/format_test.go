package keep_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"pushrelay/internal/change"
	"pushrelay/internal/datadir"
	"pushrelay/internal/keep"
	"pushrelay/internal/wal"
)

// ofNewerRelease are payloads as a newer release may write them: it names itself, and nothing after that makes sense here.
var ofNewerRelease = []string{
	`m{"release":"0.7","format":99,"and":{"more":1}}`, `m{"epoch":"x"}`, "Q what is this", "s\x63\x01nonsense",
}

// writeLog writes payloads into a log, or into its snapshot.
func writeLog(t *testing.T, dir string, appended, snapshot []string) {
	t.Helper()
	l, _, err := wal.Open(t.Context(), wal.Config{Dir: dir}, wal.Replay{})
	if err != nil {
		t.Fatal(err)
	}
	if len(snapshot) > 0 {
		w, err := l.Rotate()
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range snapshot {
			if err := w.Add([]byte(p)); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range appended {
		if _, err := l.Append([]byte(p)); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// wantNewer wants an error that names the release.
func wantNewer(t *testing.T, what string, err error) {
	t.Helper()
	newer, ok := errors.AsType[*datadir.NewerError](err)
	if !ok || newer.Release != "0.7" || newer.Format != 99 || !strings.Contains(err.Error(), "a newer release, 0.7, in format 99") {
		t.Errorf("%s: %v, want an error that names the newer release and its format", what, err)
	}
}

// files returns the content of all files of a directory but the lock.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, name := range names(t, dir) {
		content, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if name != "lock" {
			all[name] = string(content)
		}
	}
	return all
}

// TestNewerFormatIsRefused: whatever a newer release wrote is refused with its name, by everything that reads, and nothing is
// changed; also where this release began, or where a part is damaged.
func TestNewerFormatIsRefused(t *testing.T) {
	began := t.TempDir()
	k := open(t, config(began))
	k.exercise()
	k.close()
	for name, write := range map[string]func(dir string){
		"all":           func(dir string) { writeLog(t, dir, ofNewerRelease, nil) },
		"in a snapshot": func(dir string) { writeLog(t, dir, nil, ofNewerRelease) },
		"after this one": func(dir string) {
			if err := os.CopyFS(dir, os.DirFS(began)); err != nil {
				t.Fatal(err)
			}
			writeLog(t, dir, ofNewerRelease, nil)
		},
	} {
		dir := filepath.Join(t.TempDir(), "store")
		write(dir)
		before := files(t, dir)
		cfg := config(dir)
		cfg.FS = nil
		_, err := tryOpen(t, cfg)
		wantNewer(t, name+", opening", err)
		_, err = keep.Repair(t.Context(), keep.Place{Dir: dir})
		wantNewer(t, name+", repairing", err)
		_, err = keep.Backup(t.Context(), keep.Place{Dir: dir}, nil, filepath.Join(t.TempDir(), "backup"))
		wantNewer(t, name+", backing up", err)
		if diff := cmp.Diff(before, files(t, dir)); diff != "" {
			t.Errorf("%s: it was changed (-before +after):\n%s", name, diff)
		}
		// A segment more, without its header.
		known := files(t, dir)
		writeLog(t, dir, []string{"Q"}, nil)
		for name, content := range files(t, dir) {
			if _, ok := known[name]; !ok {
				if err := os.WriteFile(filepath.Join(dir, name), []byte("x"+content[1:]), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
		_, err = keep.Repair(t.Context(), keep.Place{Dir: dir})
		wantNewer(t, name+", repairing a damaged one", err)
	}

	backup := filepath.Join(t.TempDir(), "backup")
	w, err := wal.CreateSnapshot(nil, backup)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range ofNewerRelease {
		if err := w.Add([]byte(p)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	target := filepath.Join(t.TempDir(), "new")
	_, err = keep.Restore(t.Context(), keep.Place{Dir: target}, backup, nil)
	wantNewer(t, "restoring", err)
	if _, err := os.Stat(target); err == nil {
		t.Error("the target was made")
	}
}

// TestRecordOfUnknownFormat: a record that says itself that it is newer is refused with the release that wrote the log.
func TestRecordOfUnknownFormat(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	writeLog(t, dir, []string{`m{"release":"0.7","format":2}`, "s\x63\x01nonsense"}, nil)
	cfg := config(dir)
	cfg.FS = nil
	_, err := tryOpen(t, cfg)
	wantNewer(t, "opening", err)
	for _, unknown := range []string{"Q what is this", `m{"what":"is this"}`, "s\x00nonsense", "\x10nonsense", "\x16", "\x1f"} {
		dir := filepath.Join(t.TempDir(), "store")
		writeLog(t, dir, []string{`m{"release":"0.5","format":1}`, unknown}, nil)
		cfg.Dir = dir
		if _, err := tryOpen(t, cfg); err == nil || !strings.Contains(err.Error(), "0.5") {
			t.Errorf("a log with %q: %v, want an error that names the release which wrote it", unknown, err)
		}
	}
}

// writers returns the marks that name a release, in the order of a log or a backup.
func writers(t *testing.T, read func(func([]byte) error) error) []string {
	t.Helper()
	var all []string
	if err := read(func(payload []byte) error {
		if strings.HasPrefix(string(payload), `m{"release`) {
			all = append(all, string(payload[1:]))
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

// TestTheWriterIsNamed: the log, each snapshot and each backup name the release that wrote them, once and before all else.
func TestTheWriterIsNamed(t *testing.T) {
	cfg := config(filepath.Join(t.TempDir(), "store"))
	cfg.FS = nil
	inLog := func(sink func([]byte) error) error {
		return wal.Scan(context.Background(), wal.Config{Dir: cfg.Dir}, sink)
	}
	for _, release := range []string{"0.5", "0.5", "0.6"} {
		cfg.Release = release
		k := open(t, cfg)
		k.mustPush(change.Replace, "a", "m 1\n")
		k.close()
	}
	want := []string{`{"release":"0.5","format":3}`, `{"release":"0.6","format":3}`}
	if diff := cmp.Diff(want, writers(t, inLog)); diff != "" {
		t.Errorf("writers in the log (-want +got):\n%s", diff)
	}
	backup := filepath.Join(t.TempDir(), "backup")
	if _, err := keep.Backup(t.Context(), keep.Place{Dir: cfg.Dir, Release: "0.6"}, nil, backup); err != nil {
		t.Fatal(err)
	}
	inBackup := func(sink func([]byte) error) error { return wal.ReadSnapshot(t.Context(), nil, backup, sink) }
	if diff := cmp.Diff([]string{`{"release":"0.6","format":3}`}, writers(t, inBackup)); diff != "" {
		t.Errorf("writers in the backup (-want +got):\n%s", diff)
	}

	cfg.Dir = filepath.Join(t.TempDir(), "restored")
	if _, err := keep.Restore(t.Context(), keep.Place{Dir: cfg.Dir, Release: "0.7"}, backup, nil); err != nil {
		t.Fatal(err)
	}
	cfg.SnapshotFloorBytes = 1
	cfg.Release = "0.8"
	synctest.Test(t, func(t *testing.T) {
		k := open(t, cfg)
		if got := writers(t, inLog); len(got) != 3 || got[0] != `{"release":"0.7","format":3}` || got[2] != `{"release":"0.8","format":3}` {
			t.Errorf("writers in the restored log: %q", got)
		}
		stop := k.run(t)
		time.Sleep(5 * time.Second)
		stop()
		k.close()
	})
	if got := writers(t, inLog); !slices.Equal(got, []string{`{"release":"0.8","format":3}`}) {
		t.Errorf("writers after a snapshot: %q, want the one that wrote it", got)
	}
}
