package ledger_test

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"pushrelay/internal/ledger"
	"pushrelay/internal/waltest"
)

// TestRevocationsBelongTogether: of one certificate and what was renewed from it all are revoked, or none, wherever the disk is full.
func TestRevocationsBelongTogether(t *testing.T) {
	if !waltest.Alone(t) {
		return
	}
	for _, room := range []int64{0, 1, 100, 150, 200} { // a record has some 125 bytes
		t.Run(strconv.FormatInt(room, 10), func(t *testing.T) {
			dir := t.TempDir()
			l := open(t, dir)
			issue(t, l, issued("site-a", "a1", ledger.ByCommand, begin))
			issue(t, l, renewed("site-a", "a2", "a1", begin))
			stat, err := os.Stat(filepath.Join(dir, "ledger.jsonl"))
			if err != nil {
				t.Fatal(err)
			}
			lift := waltest.LimitFiles(t, stat.Size()+room)
			done, err := l.Revoke(ledger.Revocation{Agent: "site-a", Serial: "a1", At: begin})
			lift()
			if _, ok := errors.AsType[*ledger.WriteError](err); !ok || len(done) > 0 {
				t.Fatalf("Revoke() = %v, %v, want a WriteError", done, err)
			}
			wantRefused(t, l.State, "site-a", "a1", false)
			wantRefused(t, l.State, "site-a", "a2", false)
			revoke(t, l, ledger.Revocation{Agent: "site-a", Serial: "a1", At: begin})
			l = reopen(t, dir, l)
			wantRefused(t, l.State, "site-a", "a1", true)
			wantRefused(t, l.State, "site-a", "a2", true)
		})
	}
}
