package relay_test

import (
	"errors"
	"io"
	"path/filepath"
	"testing"

	"pushrelay/internal/relay"
	"pushrelay/internal/relayapi"
	"pushrelay/internal/relaytest"
)

// TestCommandsOnAMember: what is in the data dir of a member is not what its cluster has. So it is backed up by the relay that runs, and without one nothing is
// done that the cluster would not hear of.
func TestCommandsOnAMember(t *testing.T) {
	opts := relaytest.Options(t)
	beMember(t, opts)
	member := relaytest.Start(t, opts)
	agents, keep := relay.Agents{DataDir: opts.DataDir}, relay.Keep{DataDir: opts.DataDir}
	file := filepath.Join(t.TempDir(), "backup")
	if b, err := keep.Backup(t.Context(), file); err != nil || b.Source != relay.FromRelay {
		t.Fatalf("a backup of a member that runs: %+v, %v", b, err)
	}
	if _, _, err := agents.Revoke(t.Context(), "site-a", relayapi.Revoke{}); err != nil {
		t.Errorf("revoking at a member that runs: %v", err)
	}
	member.Stop()
	for what, do := range map[string]func() error{
		"backup": func() error { _, err := keep.Backup(t.Context(), file+"2"); return err }, "restore": func() error { return keep.Restore(t.Context(), file, io.Discard) },
		"repair": func() error { return keep.Repair(t.Context(), io.Discard) },
		"revoke": func() error { _, _, err := agents.Revoke(t.Context(), "site-b", relayapi.Revoke{}); return err },
		"allow":  func() error { _, _, err := agents.Allow(t.Context(), "site-a"); return err },
		"token": func() error {
			_, _, err := agents.MakeToken(t.Context(), relayapi.NewToken{Name: "site-b", Uses: 1, TTLSeconds: 60, Addresses: []string{"a:1"}})
			return err
		},
	} {
		if err := do(); !errors.Is(err, relay.ErrNeedsRelay) {
			t.Errorf("%s while no relay runs: %v", what, err)
		}
	}
}
