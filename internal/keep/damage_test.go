package keep_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pushrelay/internal/change"
	"pushrelay/internal/keep"
	"pushrelay/internal/wal"
	"pushrelay/internal/waltest"
)

// A history is a small log and every content that its store has had, from none to the last.
type history struct {
	dir      string
	contents []string
}

// write makes a history. From the snapshot on, if there is one, the log has several batches.
func write(t *testing.T, snapshot bool) history {
	t.Helper()
	h := history{dir: t.TempDir(), contents: []string{""}}
	cfg := smallSegments(h.dir)
	k := open(t, cfg)
	note := func() { h.contents = append(h.contents, k.content()) }
	k.mustPush(change.Replace, "a", "# TYPE m counter\nm{x=\"1\"} 1\nn 1\n")
	note()
	if snapshot {
		k.close()
		backup := filepath.Join(t.TempDir(), "backup")
		if _, err := keep.Backup(t.Context(), keep.Place{Dir: h.dir}, nil, backup); err != nil {
			t.Fatal(err)
		}
		h.dir = filepath.Join(t.TempDir(), "store")
		if _, err := keep.Restore(t.Context(), keep.Place{Dir: h.dir}, backup, nil); err != nil {
			t.Fatal(err)
		}
		k = open(t, smallSegments(h.dir))
		h.contents = []string{k.content()} // nothing before it may come back
	}
	k.mustPush(change.Merge, "a", "n 2\n")
	note()
	k.mustPush(change.Replace, "b", "n 3\n")
	note()
	k.mustPush(change.Delete, "a", "")
	note()
	k.close()
	return h
}

// files are the names of the history's files that hold anything.
func (h history) files(t *testing.T) map[string][]byte {
	t.Helper()
	found, err := os.ReadDir(h.dir)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, f := range found {
		if files[f.Name()], err = os.ReadFile(filepath.Join(h.dir, f.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// recoverFrom recovers from these files and returns the content.
func recoverFrom(t *testing.T, files map[string][]byte) (content string, err error) {
	t.Helper()
	cfg := smallSegments(memoryDir)
	cfg.FS = waltest.NewMemory(memoryDir, files)
	k, err := tryOpen(t, cfg)
	if err != nil {
		return "", err
	}
	defer k.close()
	return k.content(), nil
}

// smallSegments is a log that is not filled ahead far.
func smallSegments(dir string) keep.Config {
	cfg := config(dir)
	cfg.SegmentBytes = 512
	return cfg
}

// TestEveryByte cuts a small log off at every offset and flips every byte of it. The start gives a content that the store
// has had, or refuses with a reason.
func TestEveryByte(t *testing.T) {
	for _, snapshot := range []bool{false, true} {
		t.Run(fmt.Sprintf("snapshot %v", snapshot), func(t *testing.T) {
			h := write(t, snapshot)
			files := h.files(t)
			if got, err := recoverFrom(t, files); err != nil || got != h.contents[len(h.contents)-1] {
				t.Fatalf("undamaged: %v\n%s", err, got)
			}
			recovered, refused, step := 0, 0, 1
			if testing.Short() {
				step = 7
			}
			check := func(what, name string, damaged []byte) {
				t.Helper()
				with := maps.Clone(files)
				with[name] = damaged
				got, err := recoverFrom(t, with)
				switch {
				case err != nil && err.Error() == "":
					t.Errorf("%s: refused without a reason", what)
				case err != nil:
					refused++
				case !slices.Contains(h.contents, got):
					t.Errorf("%s: a content that never was:\n%s", what, got)
				default:
					recovered++
				}
			}
			for name, content := range files {
				if name == "lock" {
					continue
				}
				for i := 0; i < len(content); i += step {
					check(fmt.Sprintf("%s cut off at %d", name, i), name, content[:i])
					flipped := bytes.Clone(content)
					flipped[i] ^= 0x40
					check(fmt.Sprintf("%s flipped at %d", name, i), name, flipped)
				}
			}
			t.Logf("%d recovered, %d refused", recovered, refused)
			if recovered == 0 || refused == 0 { // what was filled ahead means nothing once the log is closed
				t.Error("the damage was not of both kinds")
			}
		})
	}
}

// TestRepair damages the middle of a log: the start is refused, a repair keeps all that is sound, and the store goes on under
// a new id.
func TestRepair(t *testing.T) {
	dir := t.TempDir()
	k := open(t, config(dir))
	k.mustPush(change.Replace, "a", "m 1\nn 1\n")
	k.mustPush(change.Replace, "b", "sentinel 12345\n")
	k.mustPush(change.Merge, "b", "n 2\n")
	k.mustPush(change.Replace, "a", "m 3\nn 3\n")
	id := k.ID()
	k.close()
	path := filepath.Join(dir, "0000000000000001.log")
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(content, []byte("12345"))
	if at < 0 {
		t.Fatal("the push is not in the log")
	}
	content[at]++
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}

	_, err = tryOpen(t, config(dir))
	var damaged *wal.DamagedError
	if !errors.As(err, &damaged) || damaged.File != path || damaged.Offset <= 0 {
		t.Fatalf("Recover() = %v, want a DamagedError with file and offset", err)
	}
	repaired, err := keep.Repair(t.Context(), keep.Place{Dir: dir})
	if err != nil || len(repaired.SetAside) != 1 || len(repaired.Missing) != 1 {
		t.Fatalf("Repair() = %+v, %v", repaired, err)
	}
	k = open(t, config(dir))
	if k.ID() == id {
		t.Error("the store has lost something and kept its id")
	}
	want := open(t, config(t.TempDir()))
	defer want.close()
	want.mustPush(change.Replace, "a", "m 3\nn 3\n")
	want.mustPush(change.Merge, "b", "n 2\n")
	if diff := cmp.Diff(want.content(), k.content()); diff != "" {
		t.Errorf("content (-want +got):\n%s", diff)
	}
	id = k.ID()
	k.mustPush(change.Replace, "c", "n 2\n")
	k.close()
	k = open(t, config(dir))
	defer k.close()
	if k.ID() != id {
		t.Error("the loss is told twice, and the id changed again")
	}
}

// TestRecordInLabel pushes a whole file of the log as a label's value.
func TestRecordInLabel(t *testing.T) {
	h := write(t, false)
	var planted []byte
	for name, content := range h.files(t) {
		if strings.HasSuffix(name, ".log") {
			planted = append(planted, content...)
		}
	}
	var value strings.Builder
	for _, b := range planted {
		value.WriteByte(b & 0x7f) // a label is UTF-8: the nearest that can be pushed
	}
	dir := t.TempDir()
	k := open(t, config(dir))
	escaped := strings.NewReplacer("\\", "\\\\", "\n", "\\n", "\"", "\\\"").Replace(value.String())
	k.mustPush(change.Replace, "a", "m{x=\""+escaped+"\"} 1\n")
	k.mustPush(change.Replace, "z", "n 1\n")
	want := k.content()
	k.close()
	k = open(t, config(dir))
	defer k.close()
	if diff := cmp.Diff(want, k.content()); diff != "" {
		t.Errorf("content (-want +got):\n%s", diff)
	}
}

// TestLaterVersions: what a later version wrote is refused, and left as it is.
func TestLaterVersions(t *testing.T) {
	for name, payload := range map[string]string{
		"a kind of payload": "?",
		"a kind of mark":    `m{"lease":"x"}`,
		"a field of a mark": `m{"import":{"name":"x","owner":"y"}}`,
		"a mark of nothing": "m{}",
		"a store record":    "s\x02\x01",
		"an empty payload":  "",
		"compressed as ?":   "z\xff\xff\xff\xff\x0f\x00",
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			l, _, err := wal.Open(t.Context(), wal.Config{Dir: dir, FS: &disk{}}, wal.Replay{})
			if err != nil {
				t.Fatal(err)
			}
			wait, err := l.Append([]byte(payload))
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(wait(t.Context()), l.Close()); err != nil {
				t.Fatal(err)
			}
			before := (history{dir: dir}).files(t)
			if _, err := tryOpen(t, config(dir)); err == nil {
				t.Fatal("it was taken")
			}
			if !maps.EqualFunc(before, (history{dir: dir}).files(t), bytes.Equal) {
				t.Error("the refused log was changed")
			}
		})
	}
}
