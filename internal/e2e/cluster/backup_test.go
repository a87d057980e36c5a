//go:build linux

package cluster_test

import (
	"path/filepath"
	"strings"
	"testing"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/program"
)

// TestAllAreLost: the data dirs of all three members are lost. The cluster that begins with the backup of one of them, and the copy of its authority, refuses who was
// revoked on another one just before, and takes no token again that was spent; so do those that join it.
func TestAllAreLost(t *testing.T) {
	t.Parallel()
	s := newSite(t, 3, timeout)
	first, leader := s.members[0], s.leader(t)
	others := s.followers(leader)
	thief := s.startAgent(t, "site-thief")
	thief.Stop(t)
	token := strings.TrimSpace(others[0].run(t, "agents", "token", "site-once", "--relay.address="+first.link))
	enroll := func() program.Result {
		return program.Output(t, program.Command{Path: program.RelayAgent(), Dir: t.TempDir(), Args: []string{"enroll", "--data.dir=data", token}})
	}
	if r := enroll(); r.Code != 0 {
		t.Fatalf("enroll: %s", r.Stderr)
	}
	saved := t.TempDir()
	backup, authority := filepath.Join(saved, "relay.backup"), filepath.Join(saved, "authority")
	copyTo(t, filepath.Join(others[0].dir, "authority"), authority)
	leader.run(t, "agents", "revoke", "site-thief")
	others[1].run(t, "backup", "--to="+backup)
	for _, m := range s.members {
		m.Kill(t)
		removeAll(t, m.dir)
	}

	copyTo(t, authority, filepath.Join(first.dir, "authority"))
	if said := first.run(t, "restore", "--from="+backup); !strings.Contains(said, "a ledger of 2 certificates, 1 revocation") {
		t.Errorf("restore says %q", said)
	}
	first.start(t)
	first.begin(t)
	next := s.members[1]
	next.join(t, first)
	for _, m := range []*member{first, next} {
		if shown := m.run(t, "agents", "show", "site-thief", "--output=json"); !strings.Contains(shown, `"state": "revoked"`) {
			t.Errorf("at %s: %s", m.name, shown)
		}
	}
	thief.Process = program.Start(t, thief.command)
	program.WaitReady(t, thief.Process, thief.url)
	for _, m := range []*member{first, next} {
		client.WantSeries(t, thief.url, `relay_agent_revoked{relay="`+m.link+`"}`, 1)
	}
	if r := enroll(); r.Code == 0 || !strings.Contains(r.Stderr, "used, ended or void") {
		t.Errorf("a token that was spent: exit code %d\n%s", r.Code, r.Stderr)
	}
}
