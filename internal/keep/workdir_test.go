package keep_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pushrelay/internal/keep"
	"pushrelay/internal/wal"
)

// names returns the names in a directory.
func names(t *testing.T, dir string) []string {
	t.Helper()
	all, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, f := range all {
		out = append(out, f.Name())
	}
	return out
}

// TestLeftoversOfBackups: what a killed backup left goes with the next one, and nothing of one that is being made.
func TestLeftoversOfBackups(t *testing.T) {
	dir := t.TempDir()
	k := open(t, config(dir))
	k.exercise()
	k.close()

	beside := t.TempDir()
	for _, file := range []string{
		"mine", ".backup-of-mine", ".backup-of-mine.unfinished",
		".backup-killed/lock", ".backup-killed/1/0000000000000001.log", ".backup-killed.unfinished", ".backup-killed.unfinished.tmp",
		".backup-alive/lock", ".backup-alive/1/0000000000000001.log", ".backup-alive.unfinished.tmp",
		".backup-begins/1/0000000000000001.log", ".backup-early/1/0000000000000001.log",
	} {
		path := filepath.Join(beside, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	alive, err := wal.TakeLock(filepath.Join(beside, ".backup-alive", "lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer alive.Close()
	// One of an earlier release, which took no locks, and that nobody has written to for long.
	for _, file := range []string{".backup-early/1/0000000000000001.log", ".backup-early/1", ".backup-early"} {
		if err := os.Chtimes(filepath.Join(beside, file), time.Time{}, time.Now().Add(-2*time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := keep.Backup(t.Context(), keep.Place{Dir: dir}, nil, filepath.Join(beside, "backup")); err != nil {
		t.Fatal(err)
	}
	want := []string{".backup-alive", ".backup-alive.unfinished.tmp", ".backup-begins", ".backup-of-mine", ".backup-of-mine.unfinished", "backup", "mine"}
	if diff := cmp.Diff(want, names(t, beside)); diff != "" {
		t.Errorf("left beside the backup (-want +got):\n%s", diff)
	}
	if got := names(t, filepath.Join(beside, ".backup-alive")); !slices.Equal(got, []string{"1", "lock"}) {
		t.Errorf("of the one that is being made there is %q", got)
	}
}

// TestTidyingDisturbsNoBackup removes leftovers again and again while backups are made.
func TestTidyingDisturbsNoBackup(t *testing.T) {
	dir, beside := t.TempDir(), t.TempDir()
	k := open(t, config(dir))
	k.exercise()
	k.close()
	done := make(chan struct{})
	tidied := make(chan struct{})
	go func() {
		defer close(tidied)
		for {
			select {
			case <-done:
				return
			default:
				keep.RemoveLeftovers(beside)
			}
		}
	}()
	for range 50 {
		if _, err := keep.Backup(t.Context(), keep.Place{Dir: dir}, nil, filepath.Join(beside, "backup")); err != nil {
			t.Fatal(err)
		}
	}
	close(done)
	<-tidied
	if got := names(t, beside); !slices.Equal(got, []string{"backup"}) {
		t.Errorf("left beside the backup: %q", got)
	}
}

// TestNamesOfLeftoversAreNoPatterns: what somebody made with a star in its name takes nothing of a backup that is being made with it.
func TestNamesOfLeftoversAreNoPatterns(t *testing.T) {
	t.Parallel()
	beside := t.TempDir()
	planted, others := filepath.Join(beside, ".backup-*"), filepath.Join(beside, ".backup-7.unfinished")
	own := planted + ".unfinished.tmp"
	if err := os.Mkdir(planted, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{filepath.Join(planted, "lock"), others, own} {
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	keep.RemoveLeftovers(beside)
	for path, stays := range map[string]bool{planted: false, own: false, others: true} {
		if _, err := os.Lstat(path); (err == nil) != stays {
			t.Errorf("%s: %v", path, err)
		}
	}
}
