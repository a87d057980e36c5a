package keep_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pushrelay/internal/change"
	"pushrelay/internal/keep"
)

func TestBackupAndRestore(t *testing.T) {
	dir, backup, target := t.TempDir(), filepath.Join(t.TempDir(), "backup"), filepath.Join(t.TempDir(), "new")
	cfg := config(dir)
	k := open(t, cfg)
	k.exercise()
	if err := k.NoteImport(t.Context(), keep.Import{Name: "/file"}); err != nil {
		t.Fatal(err)
	}
	summary, err := keep.Backup(t.Context(), keep.Place{Dir: dir}, nil, backup) // while it is open
	if err != nil || summary.Groups != 3 {
		t.Fatalf("Backup() = %+v, %v", summary, err)
	}
	want, id := k.content(), k.ID()
	k.mustPush(change.Delete, "a", "")
	k.close()
	if leftover, err := filepath.Glob(filepath.Join(filepath.Dir(backup), ".*")); err != nil || len(leftover) > 0 {
		t.Errorf("left behind: %q, %v", leftover, err)
	}

	var shown []int64
	progress := func(done, total int64) {
		if len(shown) == 0 || done > shown[len(shown)-1] {
			shown = append(shown, done)
		}
		if done > total {
			t.Errorf("%d of %d bytes are done", done, total)
		}
	}
	if _, err := keep.Restore(t.Context(), keep.Place{Dir: target, Progress: progress}, backup, nil); err != nil {
		t.Fatal(err)
	}
	if stat, err := os.Stat(backup); err != nil || len(shown) < 4 || shown[len(shown)-1] != 2*stat.Size() {
		t.Errorf("progress was shown as %d, %v, want some steps to twice the size of the file, which is read twice", shown, err)
	}
	if _, err := keep.Restore(t.Context(), keep.Place{Dir: target}, backup, nil); !errors.Is(err, keep.ErrStoreExists) {
		t.Errorf("Restore() over a store = %v, want %v", err, keep.ErrStoreExists)
	}
	restored := open(t, config(target))
	defer restored.close()
	if diff := cmp.Diff(want, restored.content()); diff != "" {
		t.Errorf("content (-want +got):\n%s", diff)
	}
	if restored.ID() == id || restored.ID() == (keep.ID{}) {
		t.Errorf("ID() = %v, the one that was backed up was %v", restored.ID(), id)
	}
	if !restored.Imported("/file") {
		t.Error("what was imported is forgotten")
	}
}

// TestBackupOfARunningStore: what it hands out is a backup like that of its files, while it goes on; half of it never gets the name.
func TestBackupOfARunningStore(t *testing.T) {
	dir, target := t.TempDir(), filepath.Join(t.TempDir(), "new")
	files, handed := filepath.Join(t.TempDir(), "files"), filepath.Join(t.TempDir(), "handed")
	k := open(t, config(dir))
	k.exercise()
	if err := k.NoteImport(t.Context(), keep.Import{Name: "/file"}); err != nil {
		t.Fatal(err)
	}
	want, id := k.content(), k.ID()
	byFiles, err := keep.Backup(t.Context(), keep.Place{Dir: dir}, nil, files)
	if err != nil {
		t.Fatal(err)
	}
	lost := errors.New("the relay is gone")
	half := func(ctx context.Context, w io.Writer) error {
		return errors.Join(k.WriteBackup(ctx, &firstBytes{w, 100}, nil), lost)
	}
	if _, err := keep.ReceiveBackup(t.Context(), handed, half); !errors.Is(err, lost) {
		t.Errorf("ReceiveBackup() of half of it = %v", err)
	}
	silent := func(ctx context.Context, w io.Writer) error { return k.WriteBackup(ctx, &firstBytes{w, 100}, nil) }
	if _, err := keep.ReceiveBackup(t.Context(), handed, silent); err == nil {
		t.Error("ReceiveBackup() took half of it")
	}
	if left, err := os.ReadDir(filepath.Dir(handed)); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	summary, err := keep.ReceiveBackup(t.Context(), handed, func(ctx context.Context, w io.Writer) error {
		err := k.WriteBackup(ctx, w, nil)
		k.mustPush(change.Delete, "a", "")
		return err
	})
	if err != nil || summary != byFiles {
		t.Fatalf("ReceiveBackup() = %+v, %v, want %+v", summary, err, byFiles)
	}
	k.close()
	if _, err := keep.Restore(t.Context(), keep.Place{Dir: target}, handed, nil); err != nil {
		t.Fatal(err)
	}
	restored := open(t, config(target))
	defer restored.close()
	if diff := cmp.Diff(want, restored.content()); diff != "" {
		t.Errorf("content (-want +got):\n%s", diff)
	}
	if restored.ID() == id || !restored.Imported("/file") {
		t.Errorf("ID() = %v, that of the original is %v; imported %v", restored.ID(), id, restored.Imported("/file"))
	}
}

// firstBytes lets so many bytes through and loses the others.
type firstBytes struct {
	w    io.Writer
	left int
}

func (f *firstBytes) Write(p []byte) (int, error) {
	n := min(len(p), f.left)
	f.left -= n
	if _, err := f.w.Write(p[:n]); err != nil {
		return 0, err
	}
	return len(p), nil
}

func TestRestoreRefusesDamage(t *testing.T) {
	dir, backup := t.TempDir(), filepath.Join(t.TempDir(), "backup")
	k := open(t, config(dir))
	k.exercise()
	k.close()
	if _, err := keep.Backup(t.Context(), keep.Place{Dir: dir}, nil, backup); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(backup)
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)/2] ^= 1
	if err := os.WriteFile(backup, content, 0o600); err != nil {
		t.Fatal(err)
	}
	target := filepath.Join(t.TempDir(), "new")
	_, err = keep.Restore(t.Context(), keep.Place{Dir: target}, backup, nil)
	if damaged, ok := errors.AsType[*keep.BackupError](err); !ok || damaged.File != backup {
		t.Errorf("Restore() of a damaged backup = %v, want an error about the backup", err)
	}
	if _, err := os.Stat(target); !os.IsNotExist(err) {
		t.Errorf("the target was made: %v", err)
	}
}

// TestBackupUnderPushes backs up while pushes and snapshots go on: every backup is a state that the store had.
func TestBackupUnderPushes(t *testing.T) {
	cfg := config(t.TempDir())
	cfg.SnapshotFloorBytes = 1
	k := open(t, cfg)
	stop := k.run(t)
	stopPushing := make(chan struct{})
	pushed := make(chan int, 1)
	pushing := make(chan struct{})
	go func() {
		n := 0
		for ; ; n++ {
			select {
			case <-stopPushing:
				pushed <- n
				return
			default:
				k.mustPush(change.Replace, "a", fmt.Sprintf("m %d\nn %d\n", n, n))
			}
			if n == 0 {
				close(pushing)
			}
		}
	}()
	<-pushing
	for i := range 5 {
		backup := filepath.Join(t.TempDir(), fmt.Sprint(i))
		if _, err := keep.Backup(t.Context(), keep.Place{Dir: cfg.Dir}, nil, backup); err != nil {
			t.Fatal(err)
		}
		target := t.TempDir()
		if _, err := keep.Restore(t.Context(), keep.Place{Dir: target}, backup, nil); err != nil {
			t.Fatal(err)
		}
		restored := open(t, config(target))
		values := map[string]bool{}
		for g := range restored.Store().Snapshot().Groups() {
			for f := range g.Families() {
				if f.Name() == "m" || f.Name() == "n" {
					for m := range f.Metrics() {
						values[fmt.Sprint(m.GetUntyped().GetValue())] = true
					}
				}
			}
		}
		if len(values) > 1 {
			t.Errorf("half a push was backed up: %v", values)
		}
		restored.close()
	}
	close(stopPushing)
	t.Logf("%d pushes meanwhile", <-pushed)
	stop()
	k.close()
}
