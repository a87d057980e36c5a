package keep_test

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"

	"github.com/google/go-cmp/cmp"

	"pushrelay/internal/change"
	"pushrelay/internal/keep"
	"pushrelay/internal/wal"
)

// formats holds what releases of each format have left.
const formats = "../e2e/durability/testdata/formats"

// unpackStore unpacks the store of a format into a directory.
func unpackStore(t *testing.T, archive, dir string) {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	unzipped, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for files := tar.NewReader(unzipped); ; {
		h, err := files.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(files)
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Dir(h.Name) == "store" && h.Typeflag == tar.TypeReg {
			if err := os.WriteFile(filepath.Join(dir, filepath.Base(h.Name)), content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// formerPayloads counts the payloads of a log that are of a former format.
func formerPayloads(t *testing.T, dir string) (n int) {
	t.Helper()
	if err := wal.Scan(t.Context(), wal.Config{Dir: dir}, func(payload []byte) error {
		switch payload[0] {
		case 's', 'z':
			n++
		case 'm':
			if !strings.Contains(string(payload), `"format":`) {
				n++
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestFormerFormats: a store of a former format is read and goes on as it is, is converted by its first snapshot, and is the same then; a backup of it
// is of the present format at once.
func TestFormerFormats(t *testing.T) {
	all, err := filepath.Glob(filepath.Join(formats, "*"))
	if err != nil || len(all) < 6 {
		t.Fatalf("%d formats, %v", len(all), err)
	}
	former := 0
	for _, format := range all {
		t.Run(filepath.Base(format), func(t *testing.T) {
			for from, put := range map[string]func(t *testing.T, dir string){
				"store": func(t *testing.T, dir string) { unpackStore(t, filepath.Join(format, "relay.tar.gz"), dir) },
				"backup": func(t *testing.T, dir string) {
					if _, err := keep.Restore(t.Context(), keep.Place{Dir: dir}, filepath.Join(format, "backup"), nil); err != nil {
						t.Fatal(err)
					}
				},
			} {
				t.Run(from, func(t *testing.T) {
					dir := filepath.Join(t.TempDir(), "store")
					put(t, dir)
					former += testFormer(t, dir)
				})
			}
		})
	}
	if former < 6 {
		t.Errorf("only %d payloads were of a former format", former)
	}
}

// testFormer returns how many payloads of a former format the store had.
func testFormer(t *testing.T, dir string) (former int) {
	t.Helper()
	cfg := config(dir)
	cfg.FS, cfg.Release = nil, "now"
	former = formerPayloads(t, dir)
	k := open(t, cfg)
	if k.Store().Stats().Groups < 3 {
		t.Errorf("%+v", k.Store().Stats())
	}
	id, history := k.ID(), k.History()
	k.mustPush(change.Replace, "after", "after 1\n")
	want := k.content()
	k.close()

	backup, restored := filepath.Join(t.TempDir(), "backup"), filepath.Join(t.TempDir(), "restored")
	if _, err := keep.Backup(t.Context(), keep.Place{Dir: dir, Release: "now"}, nil, backup); err != nil {
		t.Fatal(err)
	}
	if _, err := keep.Restore(t.Context(), keep.Place{Dir: restored, Release: "now"}, backup, nil); err != nil {
		t.Fatal(err)
	}
	k = open(t, config(restored))
	if diff := cmp.Diff(want, k.content()); diff != "" {
		t.Errorf("a backup of both formats (-want +got):\n%s", diff)
	}
	k.close()
	if n := formerPayloads(t, restored); n > 0 {
		t.Errorf("a backup has %d payloads of a former format", n)
	}

	k = open(t, cfg)
	if diff := cmp.Diff(want, k.content()); diff != "" {
		t.Errorf("after another start (-want +got):\n%s", diff)
	}
	if err := k.Snapshot(context.Background()); err != nil {
		t.Fatal(err)
	}
	k.close()
	if n := formerPayloads(t, dir); n > 0 {
		t.Errorf("%d payloads of a former format are left of %d", n, former)
	}
	k = open(t, cfg)
	defer k.close()
	if diff := cmp.Diff(want, k.content()); diff != "" {
		t.Errorf("after its conversion (-want +got):\n%s", diff)
	}
	if h := k.History(); k.ID() != id || len(h.Epochs) < len(history.Epochs) || len(history.Epochs) > 0 && h.Epochs[0] != history.Epochs[0] {
		t.Errorf("ID() = %v, History() = %+v, want %v and more than %+v", k.ID(), h, id, history)
	}
	return former
}
