package ledger_test

import (
	"errors"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"pushrelay/internal/ledger"
)

// roomFor leaves room for so many more bytes in a file, until the test ends.
func roomFor(t *testing.T, file string, bytes int64) {
	t.Helper()
	stat, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	signal.Ignore(syscall.SIGXFSZ)
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	limit := before
	limit.Cur = uint64(stat.Size() + bytes)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
			t.Fatal(err)
		}
		signal.Reset(syscall.SIGXFSZ)
	})
}

// TestRevocationsBelongTogether: of one certificate and what was renewed from it all are revoked, or none, wherever the disk is full.
func TestRevocationsBelongTogether(t *testing.T) {
	for _, room := range []int64{0, 1, 100, 150, 200} { // a record has some 125 bytes
		t.Run("", func(t *testing.T) {
			dir := t.TempDir()
			l := open(t, dir)
			issue(t, l, issued("site-a", "a1", ledger.ByCommand, begin))
			issue(t, l, renewed("site-a", "a2", "a1", begin))
			t.Run("full", func(t *testing.T) {
				roomFor(t, filepath.Join(dir, "ledger.jsonl"), room)
				done, err := l.Revoke(ledger.Revocation{Agent: "site-a", Serial: "a1", At: begin})
				if _, ok := errors.AsType[*ledger.WriteError](err); !ok || len(done) > 0 {
					t.Fatalf("Revoke() = %v, %v, want a WriteError", done, err)
				}
			})
			wantRefused(t, l.State, "site-a", "a1", false)
			wantRefused(t, l.State, "site-a", "a2", false)
			revoke(t, l, ledger.Revocation{Agent: "site-a", Serial: "a1", At: begin})
			l = reopen(t, dir, l)
			wantRefused(t, l.State, "site-a", "a1", true)
			wantRefused(t, l.State, "site-a", "a2", true)
		})
	}
}
