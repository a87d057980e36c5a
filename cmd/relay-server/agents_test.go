package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"pushrelay/internal/relay"
	"pushrelay/internal/relayapi"
	"pushrelay/internal/relaytest"
)

type agentsTest struct {
	name   string
	args   string
	code   int
	stdout string
	stderr string // in it; anything if it is "*"
}

func runAgentsTests(t *testing.T, dataDir string, tests []agentsTest) {
	t.Helper()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			stdout, stderr, code := command(append([]string{"--data.dir=" + dataDir, "agents"}, strings.Fields(tt.args)...)...)
			if code != tt.code || !strings.Contains(stdout, tt.stdout) || tt.stderr != "*" && (!strings.Contains(stderr, tt.stderr) || tt.stderr == "" && stderr != "") {
				t.Errorf("agents %s: exit code %d, want %d\nstdout %s\nstderr %s", tt.args, code, tt.code, stdout, stderr)
			}
		})
	}
}

// TestAgents: with a relay that runs.
func TestAgents(t *testing.T) {
	opts := relaytest.Options(t)
	running := relaytest.Start(t, opts)
	site := running.StartAgent(t, "site-a", "")
	running.StartAgent(t, "site-b", "")
	if status, body := relaytest.Do(t, "PUT", site.URL+"/metrics/job/a", "m 1\n"); status != 200 {
		t.Fatal(status, body)
	}
	if _, err := relay.IssueAgentCertificate(opts.DataDir, "site-c", filepath.Join(t.TempDir(), "out")); err != nil {
		t.Fatal(err)
	}
	stdout, _, _ := command("--data.dir="+opts.DataDir, "agents", "list", "--output=json")
	var all []relayapi.Agent
	if err := json.Unmarshal([]byte(stdout), &all); err != nil || len(all) != 3 || all[0].State != "connected" || *all[0].Groups != 1 || all[2].State != "unseen" || all[0].Certificates != nil {
		t.Errorf("list in JSON: %v\n%s", err, stdout)
	}
	runAgentsTests(t, opts.DataDir, []agentsTest{
		{"list", "list", 0, "site-a  connected  ", ""},
		{"list one that never came", "list", 0, "site-c  unseen     -", ""},
		{"show", "show site-a", 0, "by command, ends ", ""},
		{"show nobody", "show site-z", 1, "", `agent "site-z": agent is not known`},
		{"no name", "show", 2, "", "*"},
		{"bad output", "list --output=yaml", 2, "", "*"},
		{"forget one that is connected", "forget site-a", 1, "", "agent is connected"},
		{"allow one that is not revoked", "allow site-a", 1, "", "site-a is not revoked"},
		{"bad serial", "revoke site-a --serial=xyz", 1, "", "want a serial number in hexadecimal"},
		{"another certificate", "revoke site-a --serial=AB:CD", 0, "certificate abcd of site-a is revoked: 0 sessions ended, 0 targets left the list", ""},
		{"mistyped", "revoke site-aa", 0, "neither the relay nor the ledger knew it", ""},
		{"revoke", "revoke site-a", 0, "site-a is revoked: 1 session ended, 0 targets left the list\ngroups of it that stay: 1", ""},
		{"another relay", "revoke site-a", 0, "a second relay that is no cluster with this one does not know of it", ""},
		{"list revoked", "list", 0, "site-a   revoked, 1 certificate revoked", ""},
		{"revoke and delete", "revoke site-a --delete-groups --output=json", 0, `"groups_deleted": 1`, ""},
		{"show revoked", "show site-a", 0, ", revoked", ""},
		{"allow", "allow site-a", 0, "site-a is let in again, with each of its certificates that has not ended; revocations that were lifted: 2", ""},
		{"forget", "forget site-a", 0, "site-a is forgotten", "*"},
	})
	if _, stderr, code := command("--data.dir=", "agents", "revoke", "site-a"); code != 1 || !strings.Contains(stderr, "--data.dir is empty") {
		t.Errorf("in memory: %d %s", code, stderr)
	}
}

// TestStatesInWords: who is revoked, and who only was.
func TestStatesInWords(t *testing.T) {
	since := &relayapi.Revocation{}
	one := []relayapi.Revocation{{Serial: "a1"}}
	for want, a := range map[string]relayapi.Agent{
		"away":                                    {State: relayapi.AgentAway},
		"revoked":                                 {State: relayapi.AgentRevoked, Revoked: since},
		"revoked, 1 certificate revoked":          {State: relayapi.AgentRevoked, Revoked: since, RevokedCertificates: one},
		"away, 2 certificates revoked":            {State: relayapi.AgentAway, RevokedCertificates: append(one, one...)},
		"away, earlier certificates revoked":      {State: relayapi.AgentAway, Revoked: since},
		"unseen, earlier certificates revoked":    {State: relayapi.AgentUnseen, Revoked: since},
		"connected, earlier certificates revoked": {State: relayapi.AgentConnected, Revoked: since, RevokedCertificates: one},
	} {
		if got := stateText(a); got != want {
			t.Errorf("stateText(%+v) = %q, want %q", a, got, want)
		}
	}
}

// TestAgentsWithoutRelay: what can be done on the files is done on them, and says so.
func TestAgentsWithoutRelay(t *testing.T) {
	opts := relaytest.Options(t)
	running := relaytest.Start(t, opts)
	running.StartAgent(t, "site-a", "")
	running.Stop()
	note := "no relay runs on " + opts.DataDir
	out := filepath.Join(t.TempDir(), "out")
	runAgentsTests(t, opts.DataDir, []agentsTest{
		{"list", "list", 0, "site-a  away ", note},
		{"show", "show site-a", 0, "groups            -", note},
		{"revoke", "revoke site-a", 0, "site-a is revoked: the relay refuses it as soon as it runs", note},
		{"delete groups", "revoke site-a --delete-groups", 3, "", "--delete-groups: no relay runs on it, and this needs one"},
		{"list revoked", "list", 0, "site-a  revoked ", note},
		{"forget", "forget site-a", 3, "", "no relay runs on it, and this needs one"},
	})
	if _, stderr, code := command("--data.dir="+opts.DataDir, "agent-certificate", "site-a", "--out="+out); code != 1 || !strings.Contains(stderr, "site-a is revoked: relay-server agents token site-a lets it in with a new key; ") {
		t.Errorf("agent-certificate: %d %s", code, stderr)
	}
	runAgentsTests(t, opts.DataDir, []agentsTest{{"allow", "allow site-a", 0, "revocations that were lifted: 1", note}})
	if _, stderr, code := command("--data.dir="+opts.DataDir, "agent-certificate", "site-a", "--out="+out); code != 0 {
		t.Errorf("agent-certificate: %d %s", code, stderr)
	}
	runAgentsTests(t, filepath.Join(t.TempDir(), "none"), []agentsTest{
		{"mistyped data dir, list", "list", 1, "", "is not that of a relay"},
		{"mistyped data dir, revoke", "revoke site-a", 1, "", "is not that of a relay"},
	})
}
