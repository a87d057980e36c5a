package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pushrelay/internal/agent"
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
		{"show nobody", "show site-z", 1, "", "relay-server agents show: agent \"site-z\": agent is not known\n"},
		{"forget nobody", "forget site-z", 1, "", "agent is not known"},
		{"forget one that never came", "forget site-c", 1, "", "site-c is not here, so that there is nothing to forget: it is listed for the certificates that were issued to it"},
		{"no name", "show", 2, "", "*"},
		{"bad output", "list --output=yaml", 2, "", "*"},
		{"forget one that is connected", "forget site-a", 1, "", "agent is connected"},
		{"allow one that is not revoked", "allow site-a", 1, "", "site-a is not revoked"},
		{"bad serial", "revoke site-a --serial=xyz", 1, "", "want a serial number in hexadecimal"},
		{"another certificate", "revoke site-a --serial=AB:CD", 0, "certificate abcd of site-a is revoked: 0 sessions ended, 0 targets left the list", ""},
		{"mistyped", "revoke site-aa", 0, "neither the relay nor the ledger knew it", ""},
		{"forget it", "forget site-aa", 1, "", "it is listed because it is revoked, which forget leaves as it is (relay-server agents allow site-aa lifts that)"},
		{"allow it", "allow site-aa", 0, "\nit asks again within 10 minutes, and at once if it is started anew\n", ""},
		{"it is gone", "show site-aa", 1, "", "agent is not known"},
		{"revoke", "revoke site-a", 0, "site-a is revoked: 1 session ended, 0 targets left the list\ngroups of it that stay: 1", ""},
		{"another relay", "revoke site-a", 0, "a second relay that is no cluster with this one does not know of it", ""},
		{"list revoked", "list", 0, "site-a  revoked, 1 certificate revoked", ""},
		{"revoke and delete", "revoke site-a --delete-groups --output=json", 0, `"groups_deleted": 1`, ""},
		{"show revoked", "show site-a", 0, ", revoked", ""},
		{"allow", "allow site-a", 0, "site-a is let in again, with each of its certificates that has not ended; revocations that were lifted: 2", ""},
		{"forget", "forget site-a", 0, "site-a is forgotten", "*"},
	})
	if _, stderr, code := command("--data.dir=", "agents", "token", "site-a"); code != 1 || !strings.Contains(stderr, "--data.dir is empty: give that of the relay; one that keeps nothing has no ledger, so that no token can be made there") {
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

// TestEmptyFlags: an empty variable of a script is a mistake, and not a flag that was left away: that would do more.
func TestEmptyFlags(t *testing.T) {
	for _, args := range []string{
		"agents token --name-prefix= x", "agents token --name-prefix=", "agents revoke site-a --serial=", "agents list --token=", "agents tokens --void=", "groups delete --match={a=\"b\"} --yes --pushed-before=",
		"groups list --match={a=\"b\"} --state=", "explain push --agent= job=x", "explain read --policy.file= job=x",
	} {
		stdout, stderr, code := command(append([]string{"--data.dir=" + t.TempDir()}, strings.Fields(args)...)...)
		if code != 2 || stdout != "" || !strings.Contains(stderr, " is empty: give it a value, or leave it away") {
			t.Errorf("%s: %d %s%s", args, code, stdout, stderr)
		}
	}
	for _, args := range []string{"agents token", "agents token --name-prefix=a- b"} {
		if _, stderr, code := command(append([]string{"--data.dir=" + t.TempDir()}, strings.Fields(args)...)...); code != 2 || !strings.Contains(stderr, "--name-prefix") {
			t.Errorf("%s: %d %s", args, code, stderr)
		}
	}
}

// TestWhoCameByAToken: after a token was in the wrong hands.
func TestWhoCameByAToken(t *testing.T) {
	opts := relaytest.Options(t)
	running := relaytest.Start(t, opts)
	running.StartAgent(t, "site-z", "")
	address := running.GRPCAddr().String()
	stdout, _, _ := command("--data.dir="+opts.DataDir, "agents", "token", "--name-prefix=site-", "--uses=3", "--relay.address="+address, "--output=json")
	var made relayapi.MadeToken
	if err := json.Unmarshal([]byte(stdout), &made); err != nil {
		t.Fatal(err, stdout)
	}
	for _, name := range []string{"site-a", "site-b"} {
		if _, err := agent.Enroll(t.Context(), agent.EnrollOptions{Token: made.Text, Name: name, DataDir: t.TempDir()}); err != nil {
			t.Fatal(err)
		}
	}
	want := func(note string) {
		t.Helper()
		stdout, _, code := command("--data.dir="+opts.DataDir, "agents", "list", "--token="+made.ID, "--output=json")
		var by []relayapi.Agent
		if err := json.Unmarshal([]byte(stdout), &by); err != nil || code != 0 || len(by) != 2 || by[0].Agent != "site-a" || by[1].Agent != "site-b" || by[0].Certificates != nil {
			t.Errorf("list by the token: %d %v\n%s", code, err, stdout)
		}
		runAgentsTests(t, opts.DataDir, []agentsTest{
			{"how many", "tokens", 0, "site-…  2 of 3", note},
			{"by another one", "list --token=0123456789abcdef", 0, "no agent came in by token 0123456789abcdef", note},
			{"show", "show site-a", 0, " by token " + made.ID + " to 127.0.0.1:", note},
			{"show in JSON", "show site-a --output=json", 0, `"token": "` + made.ID + `"`, note},
			{"one by command", "show site-z", 0, " by command, ends ", note},
		})
	}
	want("")
	running.Stop()
	want("no relay runs on")
}

// TestRenewalsInWords: what a certificate was renewed from.
func TestRenewalsInWords(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	c := relayapi.Certificate{Serial: "b2", Parent: "a1", By: "renewal", IssuedAt: at, To: at, Address: "192.0.2.1", Revoked: true}
	if got, want := issuedText(c), "2026-01-02T03:04:05Z by renewal of a1 to 192.0.2.1, ends 2026-01-02T03:04:05Z: b2, revoked"; got != want {
		t.Errorf("issuedText() = %q, want %q", got, want)
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
		{"mistyped data dir, list", "list", 1, "", "is not that of a relay, no relay has run on it: give the relay's, such as --data.dir=/var/lib/pushrelay"},
		{"mistyped data dir, revoke", "revoke site-a", 1, "", "is not that of a relay"},
	})
}
