package spool_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"pushrelay/internal/change"
	"pushrelay/internal/datadir"
	"pushrelay/internal/spool"
	"pushrelay/internal/wal"
)

// ofRelease is the payload by which a release names itself, with a field more than is known here.
func ofRelease(release string, format byte) string {
	return "f\x08" + string(rune(format)) + "\x12" + string(rune(len(release))) + release + "\x7a\x03new"
}

// openRelease opens a spool of a release on a directory.
func openRelease(t *testing.T, dir, release string) (*spool.Spool, error) {
	t.Helper()
	s := spool.New(spool.Config{
		Dir: dir, Agent: "site-a", Relays: []string{"a:1"}, Wait: time.Second, Release: release,
		Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	})
	return s, s.Recover(t.Context())
}

func writeJournal(t *testing.T, dir string, payloads ...string) {
	t.Helper()
	l, _, err := wal.Open(t.Context(), wal.Config{Dir: dir}, wal.Replay{})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range payloads {
		if _, err := l.Append([]byte(p)); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// journalFiles returns the content of all files of a journal but the lock.
func journalFiles(t *testing.T, dir string) map[string]string {
	t.Helper()
	found, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, f := range found {
		content, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if f.Name() != "lock" {
			all[f.Name()] = string(content)
		}
	}
	return all
}

// TestNewerFormatIsRefused: a journal that a newer release wrote, or went on writing, is refused with its name and left alone.
func TestNewerFormatIsRefused(t *testing.T) {
	began := filepath.Join(t.TempDir(), "spool")
	s, err := openRelease(t, began, "0.5")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Apply(t.Context(), request(change.Replace, "j", "m 1\n")).Err(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for name, dir := range map[string]string{"all": filepath.Join(t.TempDir(), "spool"), "after this one": began} {
		writeJournal(t, dir, ofRelease("0.7", 99), "Q what is this", "j\xff")
		before := journalFiles(t, dir)
		_, opening := openRelease(t, dir, "0.5")
		_, repairing := spool.Repair(t.Context(), spool.Place{Dir: dir})
		for what, err := range map[string]error{"opening": opening, "repairing": repairing} {
			newer, ok := errors.AsType[*datadir.NewerError](err)
			if !ok || newer.Release != "0.7" || newer.Format != 99 {
				t.Errorf("%s, %s: %v, want an error that names the newer release and its format", name, what, err)
			}
		}
		if diff := cmp.Diff(before, journalFiles(t, dir)); diff != "" {
			t.Errorf("%s: it was changed (-before +after):\n%s", name, diff)
		}
	}
	dir := filepath.Join(t.TempDir(), "spool")
	writeJournal(t, dir, ofRelease("0.4", 1), "Q what is this")
	if _, err := openRelease(t, dir, "0.5"); err == nil || !strings.Contains(err.Error(), "0.4") {
		t.Errorf("a journal that is not understood: %v, want an error that names the release which wrote it", err)
	}
}

// TestTheWriterIsNamed: the journal and each snapshot name the release that wrote them, once and before all else.
func TestTheWriterIsNamed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	kinds := func() (all []string) {
		if err := wal.Scan(context.Background(), wal.Config{Dir: dir}, func(payload []byte) error {
			if payload[0] == 'f' {
				all = append(all, string(payload[len(payload)-3:]))
			} else if len(all) == 0 {
				t.Errorf("the journal begins with %q, and with no release", payload)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return all
	}
	for _, release := range []string{"0.5", "0.5", "0.6"} {
		s, err := openRelease(t, dir, release)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Apply(t.Context(), request(change.Replace, release, "m 1\n")).Err(); err != nil {
			t.Fatal(err)
		}
		if release == "0.6" {
			if got := kinds(); !slices.Equal(got, []string{"0.5", "0.6"}) {
				t.Errorf("the journal names %q", got)
			}
			if err := s.Snapshot(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if got := kinds(); !slices.Equal(got, []string{"0.6"}) {
		t.Errorf("the snapshot names %q", got)
	}
}
