//go:build linux

package durability_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/house"
	"pushrelay/internal/e2e/program"
)

// TestBackupKeepsOut: the data dir of a relay is lost. What is made of a backup, and of the copy of its authority, refuses who was revoked, takes no token again that
// was spent, and lets in who was not revoked.
func TestBackupKeepsOut(t *testing.T) {
	t.Parallel()
	relay := house.StartRelay(t, "--grpc.tls.server-name=127.0.0.1")
	at := func(args ...string) string {
		t.Helper()
		return program.MustOutput(t, program.Command{Path: program.RelayServer(), Args: append([]string{"--data.dir=" + relay.DataDir}, args...)})
	}
	thief := house.StartEnrolledAgent(t, relay, "site-thief", "")
	good := house.StartEnrolledAgent(t, relay, "site-good", "")
	token := strings.TrimSpace(at("agents", "token", "site-once", "--relay.address="+relay.GRPC))
	enroll := func() program.Result {
		return program.Output(t, program.Command{Path: program.RelayAgent(), Dir: t.TempDir(), Args: []string{"enroll", "--data.dir=data", token}})
	}
	if r := enroll(); r.Code != 0 {
		t.Fatalf("enroll: %s", r.Stderr)
	}
	at("agents", "revoke", "site-thief")
	file := filepath.Join(t.TempDir(), "relay.backup")
	if said := at("backup", "--to="+file); !strings.Contains(said, "a ledger of 3 certificates, 1 revocation") {
		t.Errorf("backup says %q", said)
	}
	relay.Kill(t)
	thief.Stop(t)

	lost := relay.DataDir
	relay.DataDir = filepath.Join(t.TempDir(), "relay")
	relay.Command.Args[slices.Index(relay.Command.Args, "--data.dir="+lost)] = "--data.dir=" + relay.DataDir
	if err := os.CopyFS(filepath.Join(relay.DataDir, "authority"), os.DirFS(filepath.Join(lost, "authority"))); err != nil {
		t.Fatal(err)
	}
	if said := at("restore", "--from="+file); !strings.Contains(said, "a ledger of 3 certificates, 1 revocation") {
		t.Errorf("restore says %q", said)
	}
	relay.Start(t)
	relay.WaitAttached(t, good.Name)
	thief.Process = program.Start(t, thief.Command)
	program.WaitReady(t, thief.Process, thief.URL)
	client.WantSeries(t, thief.URL, `relay_agent_revoked{relay="`+relay.GRPC+`"}`, 1)
	if r := enroll(); r.Code == 0 || !strings.Contains(r.Stderr, "used, ended or void") {
		t.Errorf("a token that was spent: exit code %d\n%s", r.Code, r.Stderr)
	}
}
