package keep_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/s2"

	"pushrelay/internal/datadir"
	storagev1 "pushrelay/internal/gen/storage/v1"
	"pushrelay/internal/keep"
	"pushrelay/internal/ledger"
	"pushrelay/internal/wal"

	"google.golang.org/protobuf/proto"
)

// ledgerOf returns a ledger of so many certificates, of which the first is revoked.
func ledgerOf(t testing.TB, certificates int) *ledger.State {
	t.Helper()
	s, u := ledger.NewState(), rand.New(rand.NewPCG(1, 2))
	var lines strings.Builder
	for i := range certificates {
		fmt.Fprintf(&lines, `{"at":"2026-12-01T10:00:00Z","issued":{"agent":"site-%d","serial":"1%x%016x","from":"2026-12-01T10:00:00Z","to":"2027-12-01T10:00:00Z","by":"command"}}`+"\n", i, u.Uint64(), u.Uint64())
	}
	if certificates > 0 {
		lines.WriteString(`{"at":"2026-12-01T10:00:00Z","revoked":{"agent":"site-0"}}` + "\n")
	}
	records, err := ledger.DecodeRecords([]byte(lines.String()))
	if err != nil {
		t.Fatal(err)
	}
	s.Begin(records)
	return s
}

func linesOf(t testing.TB, s *ledger.State) string {
	t.Helper()
	lines, err := ledger.EncodeRecords(s.Records())
	if err != nil {
		t.Fatal(err)
	}
	return string(lines)
}

// formatsOf returns the formats that the marks of a log or a backup name.
func formatsOf(t *testing.T, read func(func([]byte) error) error) (all []string) {
	t.Helper()
	for _, mark := range writers(t, read) {
		_, format, _ := strings.Cut(mark, `"format":`)
		all = append(all, strings.TrimSuffix(format, "}"))
	}
	return all
}

// TestBackupsHaveTheLedger: whoever writes it, of a store that runs and of one that does not, also one that has nothing yet; and the log that is made of it has
// neither the ledger nor its format, so that an earlier release reads it.
func TestBackupsHaveTheLedger(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	cfg := config(dir)
	cfg.FS, cfg.Release = nil, "0.6"
	k := open(t, cfg)
	k.exercise()
	defer k.close()
	want := k.content()
	for name, tt := range map[string]struct {
		certificates int
		format       string
	}{
		"several parts": {2500, "4"},
		"none yet":      {0, "4"},
		"no ledger":     {-1, "3"},
	} {
		var l *ledger.State
		if tt.certificates >= 0 {
			l = ledgerOf(t, tt.certificates)
		}
		for way, back := range map[string]func(file string) (keep.Summary, error){
			"files": func(file string) (keep.Summary, error) {
				return keep.Backup(t.Context(), keep.Place{Dir: dir, Release: "0.6"}, l, file)
			},
			"running": func(file string) (keep.Summary, error) {
				return keep.ReceiveBackup(t.Context(), file, func(ctx context.Context, w io.Writer) error { return k.WriteBackup(ctx, w, l) })
			},
		} {
			file, target := filepath.Join(t.TempDir(), "backup"), filepath.Join(t.TempDir(), "new")
			summary, err := back(file)
			if err != nil || summary.Groups != 3 || (summary.Ledger == nil) != (l == nil) {
				t.Fatalf("%s, %s: the backup is %+v, %v", name, way, summary, err)
			}
			inBackup := func(sink func([]byte) error) error { return wal.ReadSnapshot(t.Context(), nil, file, sink) }
			if diff := cmp.Diff([]string{tt.format}, formatsOf(t, inBackup)); diff != "" {
				t.Errorf("%s, %s: formats of the backup (-want +got):\n%s", name, way, diff)
			}
			var got *ledger.State
			restored, err := keep.Restore(t.Context(), keep.Place{Dir: target, Release: "0.6"}, file, func(l *ledger.State) error {
				got = l
				return nil
			})
			if err != nil || restored.Ledger != got {
				t.Fatalf("%s, %s: Restore() = %+v, %v", name, way, restored, err)
			}
			if (got == nil) != (l == nil) || l != nil && linesOf(t, got) != linesOf(t, l) {
				t.Errorf("%s, %s: the ledger is another one", name, way)
			}
			inLog := func(sink func([]byte) error) error {
				return wal.Scan(context.Background(), wal.Config{Dir: target}, sink)
			}
			for _, format := range formatsOf(t, inLog) {
				if format != "3" {
					t.Errorf("%s, %s: the restored log has something of format %s", name, way, format)
				}
			}
			cfg := config(target)
			cfg.FS = nil
			again := open(t, cfg)
			if diff := cmp.Diff(want, again.content()); diff != "" {
				t.Errorf("%s, %s: content (-want +got):\n%s", name, way, diff)
			}
			again.close()
		}
	}
}

// TestNoStoreWithoutItsLedger: where the ledger cannot be put back there is no store either, and it can be tried again.
func TestNoStoreWithoutItsLedger(t *testing.T) {
	dir, file, target := t.TempDir(), filepath.Join(t.TempDir(), "backup"), filepath.Join(t.TempDir(), "new")
	k := open(t, config(dir))
	k.exercise()
	k.close()
	if _, err := keep.Backup(t.Context(), keep.Place{Dir: dir}, ledgerOf(t, 3), file); err != nil {
		t.Fatal(err)
	}
	full := errors.New("no room")
	if _, err := keep.Restore(t.Context(), keep.Place{Dir: target}, file, func(*ledger.State) error { return full }); !errors.Is(err, full) {
		t.Errorf("Restore() = %v", err)
	}
	nothing := open(t, config(target))
	if stats := nothing.Store().Stats(); stats.Groups != 0 {
		t.Errorf("there are %d groups", stats.Groups)
	}
	nothing.close()
	if err := os.RemoveAll(target); err != nil {
		t.Fatal(err)
	}
	if _, err := keep.Restore(t.Context(), keep.Place{Dir: target}, file, func(*ledger.State) error { return nil }); err != nil {
		t.Fatal(err)
	}
	wanted := errors.New("nothing of that is asked for")
	if _, err := keep.Restore(t.Context(), keep.Place{Dir: target}, file, func(*ledger.State) error { return wanted }); !errors.Is(err, keep.ErrStoreExists) {
		t.Errorf("Restore() over a store = %v", err)
	}
}

// TestDamagedLedgerInABackup: it is refused with the name of the file, before anything is made of it. So is one that a later release has written.
func TestDamagedLedgerInABackup(t *testing.T) {
	dir, file := t.TempDir(), filepath.Join(t.TempDir(), "backup")
	k := open(t, config(dir))
	k.exercise()
	k.close()
	if _, err := keep.Backup(t.Context(), keep.Place{Dir: dir}, ledgerOf(t, 3), file); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	wantRefused := func(what string) error {
		t.Helper()
		target := filepath.Join(t.TempDir(), "new")
		_, err := keep.Restore(t.Context(), keep.Place{Dir: target}, file, func(*ledger.State) error {
			t.Errorf("%s: the ledger was put back", what)
			return nil
		})
		if broken, ok := errors.AsType[*keep.BackupError](err); !ok || broken.File != file {
			t.Errorf("%s: Restore() = %v, want an error about the backup", what, err)
		}
		if _, err := os.Stat(target); !os.IsNotExist(err) {
			t.Errorf("%s: the target was made: %v", what, err)
		}
		return err
	}
	for at := len(whole) - 300; at < len(whole); at += 7 { // the ledger, and the end
		damaged := []byte(string(whole))
		damaged[at] ^= 4
		if err := os.WriteFile(file, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		wantRefused(fmt.Sprintf("a bit of byte %d", at))
	}

	part := func(version uint64, lines, unknown string) string {
		m := &storagev1.LedgerPart{Version: version, Records: s2.Encode(nil, []byte(lines))}
		m.ProtoReflect().SetUnknown([]byte(unknown))
		message, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return "\x18" + string(message)
	}
	for what, payload := range map[string]string{
		"no part":             "\x18nonsense",
		"no version":          part(0, "", ""),
		"a field more":        part(2, "", "\xa2\x06\x01x"),
		"nothing compressed":  "\x18\x08\x02\x12\x02\xff\xff",
		"a record of no kind": part(2, `{"at":"2026-12-01T10:00:00Z"}`+"\n", ""),
		"a later one":         part(99, "", ""),
	} {
		w, err := wal.CreateSnapshot(nil, file)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range []string{`m{"release":"0.7","format":4}`, payload} {
			if err := w.Add([]byte(p)); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		err = wantRefused(what)
		if err == nil || !strings.Contains(err.Error(), "0.7") {
			t.Errorf("%s: %v, want an error that names the release", what, err)
		}
		if newer, ok := errors.AsType[*datadir.NewerError](err); ok != (what == "a later one") || ok && newer.Format != 99 {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestLedgersAreInNoLog: there it is an unknown kind.
func TestLedgersAreInNoLog(t *testing.T) {
	for _, inSnapshot := range []bool{true, false} {
		dir := filepath.Join(t.TempDir(), "store")
		payloads := []string{`m{"release":"0.5","format":3}`, "\x18\x08\x02"}
		if inSnapshot {
			writeLog(t, dir, nil, payloads)
		} else {
			writeLog(t, dir, payloads, nil)
		}
		cfg := config(dir)
		cfg.FS = nil
		if _, err := tryOpen(t, cfg); err == nil || !strings.Contains(err.Error(), "unknown kind") {
			t.Errorf("a log with a ledger: %v", err)
		}
	}
}

func BenchmarkBackupLedger(b *testing.B) {
	dir, file := b.TempDir(), filepath.Join(b.TempDir(), "backup")
	k := open(b, config(dir))
	k.exercise()
	defer k.close()
	l := ledgerOf(b, 100_000)
	var restoring time.Duration
	for b.Loop() {
		if _, err := keep.ReceiveBackup(b.Context(), file, func(ctx context.Context, w io.Writer) error { return k.WriteBackup(ctx, w, l) }); err != nil {
			b.Fatal(err)
		}
		begun := time.Now()
		if _, err := keep.Restore(b.Context(), keep.Place{Dir: b.TempDir()}, file, func(*ledger.State) error { return nil }); err != nil {
			b.Fatal(err)
		}
		restoring += time.Since(begun)
	}
	stat, err := os.Stat(file)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(stat.Size()), "file-bytes")
	b.ReportMetric(float64(restoring.Nanoseconds())/float64(b.N), "restore-ns/op")
}
