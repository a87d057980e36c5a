package keep_test

import (
	"context"
	"io"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pushrelay/internal/exposition"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/keep"
)

// TestMemory: a store in memory is changed and backed up as any other, and is another store than each before it.
func TestMemory(t *testing.T) {
	m := keep.NewMemory(groupstore.Config{}, "0.9")
	if err := m.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	onDisk := open(t, config(t.TempDir()))
	defer onDisk.close()
	for _, s := range []*groupstore.Store{m.Store(), onDisk.Store()} {
		var p exposition.Parser
		pushPage(t, s, &p, "a", "m 1\n")
		pushPage(t, s, &p, "b", "n{x=\"1\"} 2\n")
	}
	if h := m.History(); h.Position != 2 || len(h.Epochs) != 1 || m.Failure() != nil || m.Fresh() || len(m.Losses()) > 0 {
		t.Errorf("History() = %+v, Failure() = %v, Fresh() = %v, Losses() = %v", h, m.Failure(), m.Fresh(), m.Losses())
	}
	if err := m.NoteImport(t.Context(), keep.Import{Name: "/file"}); err != nil || m.Imported("/file") {
		t.Errorf("NoteImport() = %v, Imported() = %v: a file is taken over at each start", err, m.Imported("/file"))
	}
	backup, target := filepath.Join(t.TempDir(), "backup"), filepath.Join(t.TempDir(), "store")
	if _, err := keep.ReceiveBackup(t.Context(), backup, func(ctx context.Context, w io.Writer) error { return m.WriteBackup(ctx, w, nil) }); err != nil {
		t.Fatal(err)
	}
	if _, err := keep.Restore(t.Context(), keep.Place{Dir: target}, backup, nil); err != nil {
		t.Fatal(err)
	}
	restored := open(t, config(target))
	defer restored.close()
	if diff := cmp.Diff(onDisk.content(), restored.content()); diff != "" {
		t.Errorf("content of a store on disk that had the same pushes (-want +got):\n%s", diff)
	}
	if other := keep.NewMemory(groupstore.Config{}, ""); other.ID() == m.ID() || other.History().Epochs[0] == m.History().Epochs[0] {
		t.Error("two stores have one identity")
	}
	if err := m.Close(); err != nil {
		t.Errorf("Close() = %v", err)
	}
}
