package relay_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pushrelay/internal/relay"
	"pushrelay/internal/relayapi"
	"pushrelay/internal/relaytest"
)

// restore puts a backup into a data dir, and returns what it says.
func restore(t *testing.T, dataDir, file string) (string, error) {
	t.Helper()
	var said bytes.Buffer
	err := relay.Keep{DataDir: dataDir}.Restore(t.Context(), file, &said)
	return said.String(), err
}

// wantRevoked wants an agent revoked, or known and not, and a token that lets somebody in.
func wantRevoked(t *testing.T, dataDir, when string, states map[string]string) {
	t.Helper()
	agents := relay.Agents{DataDir: dataDir}
	for name, want := range states {
		if a, _, err := agents.Show(t.Context(), name); err != nil || a.State != want {
			t.Errorf("%s: %s is %q, %v, want %q", when, name, a.State, err, want)
		}
	}
	if tokens, _, err := agents.Tokens(t.Context()); err != nil || len(tokens) != 1 {
		t.Errorf("%s: tokens %+v, %v, want one", when, tokens, err)
	}
}

// TestBackupsBringTheLedger: of a relay alone, while it runs and when it does not, and of a member of a cluster. Who was revoked is so at a relay that was made of
// it, also when that begins a cluster.
func TestBackupsBringTheLedger(t *testing.T) {
	for _, tt := range []struct {
		name            string
		member, running bool
	}{{"running", false, true}, {"files", false, false}, {"member", true, true}} {
		t.Run(tt.name, func(t *testing.T) {
			opts := relaytest.Options(t)
			if tt.member {
				beMember(t, opts)
			}
			r := relaytest.Start(t, opts)
			agents, file := relay.Agents{DataDir: opts.DataDir}, filepath.Join(t.TempDir(), "backup")
			if _, err := relay.IssueAgentCertificate(opts.DataDir, "site-a", t.TempDir()); err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{"site-a", "site-b"} {
				if _, _, err := agents.Revoke(t.Context(), name, relayapi.Revoke{}); err != nil {
					t.Fatal(err)
				}
			}
			made, _, err := agents.MakeToken(t.Context(), relayapi.NewToken{Name: "site-c", Uses: 1, TTLSeconds: 3600, Addresses: []string{"a:1"}})
			if err != nil {
				t.Fatal(err)
			}
			if !tt.running {
				r.Stop()
			}
			b, err := relay.Keep{DataDir: opts.DataDir}.Backup(t.Context(), file)
			if want := (relay.LedgerSummary{Certificates: 1, Revocations: 2}); err != nil || b.Ledger == nil || *b.Ledger != want {
				t.Fatalf("the backup has the ledger %+v, %v, want %+v", b.Ledger, err, want)
			}
			if tt.running {
				r.Stop()
			}

			states := map[string]string{"site-a": relayapi.AgentRevoked, "site-b": relayapi.AgentRevoked}
			restored := relaytest.Options(t)
			said, err := restore(t, restored.DataDir, file)
			if err != nil || !strings.Contains(said, "a ledger of 1 certificate, 2 revocations") {
				t.Fatalf("restore says %q, %v", said, err)
			}
			if text, err := os.ReadFile(filepath.Join(restored.DataDir, "ledger.jsonl")); err != nil || bytes.Contains(text, []byte(made.Text)) {
				t.Errorf("the ledger has the token: %v", err)
			}
			again := relaytest.Start(t, restored)
			wantRevoked(t, restored.DataDir, "restored", states)
			again.Stop()
			beMember(t, restored)
			member := relaytest.Start(t, restored)
			wantRevoked(t, restored.DataDir, "as a cluster", states)
			member.Stop()
		})
	}
}

// TestRestoreWhereALedgerIs: what it says is not lost; a damaged one is in the way, and there is no store then.
func TestRestoreWhereALedgerIs(t *testing.T) {
	opts := relaytest.Options(t)
	relaytest.Start(t, opts).Stop()
	file := filepath.Join(t.TempDir(), "backup")
	revoke := func(dir, name string) {
		t.Helper()
		if _, _, err := (relay.Agents{DataDir: dir}).Revoke(t.Context(), name, relayapi.Revoke{}); err != nil {
			t.Fatal(err)
		}
	}
	revoke(opts.DataDir, "site-a")
	if _, err := (relay.Keep{DataDir: opts.DataDir}).Backup(t.Context(), file); err != nil {
		t.Fatal(err)
	}

	other := relaytest.Options(t)
	relaytest.Start(t, other).Stop()
	revoke(other.DataDir, "site-b")
	store, ledger := filepath.Join(other.DataDir, "store"), filepath.Join(other.DataDir, "ledger.jsonl")
	loseStore := func() {
		t.Helper()
		if err := os.RemoveAll(store); err != nil {
			t.Fatal(err)
		}
	}
	loseStore()
	if said, err := restore(t, other.DataDir, file); err != nil || !strings.Contains(said, "2 revocations") {
		t.Errorf("restore says %q, %v", said, err)
	}
	for _, name := range []string{"site-a", "site-b"} {
		if a, _, err := (relay.Agents{DataDir: other.DataDir}).Show(t.Context(), name); err != nil || a.State != relayapi.AgentRevoked {
			t.Errorf("%s is %q, %v", name, a.State, err)
		}
	}
	if _, err := restore(t, other.DataDir, file); err == nil || !strings.Contains(err.Error(), "there is a store already") {
		t.Errorf("over a store: %v", err)
	}
	loseStore()
	if err := os.WriteFile(ledger, []byte("nonsense\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if said, err := restore(t, other.DataDir, file); err == nil || !strings.Contains(err.Error(), ledger) || !strings.Contains(err.Error(), "put the file back") {
		t.Errorf("where the ledger is damaged: %q, %v", said, err)
	}
	if _, err := (relay.Keep{DataDir: other.DataDir}).Backup(t.Context(), file+"2"); err == nil || !strings.Contains(err.Error(), ledger) {
		t.Errorf("a backup where the ledger is damaged: %v", err)
	}
	if err := os.Remove(ledger); err != nil {
		t.Fatal(err)
	}
	if said, err := restore(t, other.DataDir, file); err != nil || !strings.Contains(said, "1 revocation") {
		t.Errorf("where the ledger got lost: %q, %v", said, err)
	}
}

// TestBackupsOfEarlierReleases: they have no ledger, and that is said. That of the data dir stays.
func TestBackupsOfEarlierReleases(t *testing.T) {
	file := func(format string) string {
		return filepath.Join("..", "e2e", "durability", "testdata", "formats", format, "backup")
	}
	for _, format := range []string{"1", "7"} {
		said, err := restore(t, filepath.Join(t.TempDir(), "data"), file(format))
		if err != nil || !strings.Contains(said, "has no ledger, and neither has the data dir: who was revoked is let in") {
			t.Errorf("restore says %q, %v", said, err)
		}
	}
	opts := relaytest.Options(t)
	relaytest.Start(t, opts).Stop()
	agents := relay.Agents{DataDir: opts.DataDir}
	if _, _, err := agents.Revoke(t.Context(), "site-a", relayapi.Revoke{}); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(opts.DataDir, "store")); err != nil {
		t.Fatal(err)
	}
	if said, err := restore(t, opts.DataDir, file("7")); err != nil || !strings.Contains(said, "that of the data dir stays as it is") {
		t.Errorf("restore says %q, %v", said, err)
	}
	if a, _, err := agents.Show(t.Context(), "site-a"); err != nil || a.State != relayapi.AgentRevoked {
		t.Errorf("site-a is %q, %v", a.State, err)
	}
}
