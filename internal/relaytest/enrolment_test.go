package relaytest_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pushrelay/internal/agent"
	"pushrelay/internal/relay"
	"pushrelay/internal/relayapi"
	"pushrelay/internal/relaytest"
)

// tokenOf makes a join token at a running relay.
func tokenOf(t *testing.T, r *relaytest.Relay, opts relay.Options, what relayapi.NewToken) string {
	t.Helper()
	what.Addresses = []string{r.GRPCAddr().String()}
	if what.Uses == 0 {
		what.Uses = 1
	}
	what.TTLSeconds = 3600
	made, _, err := (relay.Agents{DataDir: opts.DataDir}).MakeToken(t.Context(), what)
	if err != nil {
		t.Fatal(err)
	}
	return made.Text
}

// TestAgentComesInByToken: an agent that enrolled needs no TLS flag and no address, is scraped and pushes, also after a restart, and its token is used up. All of it is told.
func TestAgentComesInByToken(t *testing.T) {
	config := filepath.Join(t.TempDir(), "agent.yml")
	address := startExporter(t, "requests_total 3\n")
	write(t, config, `scrape_configs: [{job_name: app, static_configs: [{targets: ["`+address+`"]}]}]`)
	opts := relaytest.Options(t)
	var log logged
	opts.Logger = log.logger()
	r := relaytest.Start(t, opts)
	token, dataDir := tokenOf(t, r, opts, relayapi.NewToken{Name: "site-1"}), filepath.Join(t.TempDir(), "data")
	id, err := agent.Enroll(t.Context(), agent.EnrollOptions{Token: token, DataDir: dataDir})
	if err != nil || id.Agent.Agent != "site-1" {
		t.Fatalf("Enroll() = %v, %v", id, err)
	}
	a := relaytest.StartEnrolledAgent(t, func(o *agent.Options) { o.DataDir, o.ConfigFile = dataDir, config })
	r.WaitFor(t, a, "site-1")
	for range 2 {
		status, body := relaytest.Do(t, http.MethodPut, a.URL+"/metrics/job/backup", "size 42\n")
		wantStatus(t, "a push", status, body, http.StatusOK)
		status, body = relaytest.Get(t, r.URL+"/agents/site-1/targets/app-"+address+"/metrics")
		wantStatus(t, "a scrape", status, body, http.StatusOK)
		a = a.Restart(t, nil)
		r.WaitFor(t, a, "site-1")
	}
	if _, err := agent.Enroll(t.Context(), agent.EnrollOptions{Token: token, DataDir: t.TempDir()}); err == nil || !strings.Contains(err.Error(), "unknown to this relay, or used, ended or void") {
		t.Errorf("the same token for another key: %v", err)
	}
	for _, want := range [][]string{
		{"audit=token_made", "token=", "agent=site-1"},
		{"audit=issued", "agent=site-1", "by=token", "token=", "addr=127.0.0.1:"},
		{"audit=refused", "addr=127.0.0.1:", "reason=token", "token=", `detail="it has let in as many keys as it has uses"`},
	} {
		if !log.has(want...) {
			t.Errorf("the log does not tell of %q", want)
		}
	}
	_, metrics := relaytest.Get(t, r.URL+"/metrics")
	for _, want := range []string{`relay_certificates_issued_total{by="token"} 1`, `relay_enrolments_refused_total{reason="token"} 1`, `relay_enrolments_refused_total{reason="name"} 0`} {
		if !strings.Contains(metrics, want+"\n") {
			t.Errorf("the metrics have no %s", want)
		}
	}
}

// TestImagesComeInByPrefix: agents of one image take a name below the prefix at their first start, each once, or again with a token that may replace.
func TestImagesComeInByPrefix(t *testing.T) {
	opts := relaytest.Options(t)
	r := relaytest.Start(t, opts)
	begin := func(token, name string) *relaytest.Agent {
		t.Helper()
		a := relaytest.StartEnrolledAgent(t, func(o *agent.Options) { o.EnrollToken, o.EnrollName = token, name })
		r.WaitFor(t, a, name)
		return a
	}
	once := tokenOf(t, r, opts, relayapi.NewToken{Name: "edge-", Prefix: true, Uses: 9})
	first := begin(once, "edge-1")
	begin(once, "edge-2")
	first.Stop()
	if _, err := agent.Enroll(t.Context(), agent.EnrollOptions{Token: once, Name: "edge-1", DataDir: t.TempDir()}); err == nil || !strings.Contains(err.Error(), "edge-1") {
		t.Errorf("a name that is taken: %v", err)
	}
	if _, err := agent.Enroll(t.Context(), agent.EnrollOptions{Token: once, Name: "site-1", DataDir: t.TempDir()}); err == nil || !strings.Contains(err.Error(), `"edge-"`) && !strings.Contains(err.Error(), "edge-…") {
		t.Errorf("a name that is not below the prefix: %v", err)
	}
	begin(tokenOf(t, r, opts, relayapi.NewToken{Name: "edge-", Prefix: true, Replace: true, Uses: 9}), "edge-1") // with an empty data dir
}

// TestRevokedAgentComesInByToken: one that was thrown out is let in by a token that was made for it since, without a restart, and brings what waited.
func TestRevokedAgentComesInByToken(t *testing.T) {
	opts := relaytest.Options(t)
	r := relaytest.Start(t, opts)
	a := relaytest.StartEnrolledAgent(t, func(o *agent.Options) { o.EnrollToken = tokenOf(t, r, opts, relayapi.NewToken{Name: "site-1"}) })
	r.WaitFor(t, a, "site-1")
	if _, _, err := (relay.Agents{DataDir: opts.DataDir}).Revoke(t.Context(), "site-1", relayapi.Revoke{}); err != nil {
		t.Fatal(err)
	}
	relaytest.Eventually(t, "the agent says so", func() bool {
		_, metrics := relaytest.Get(t, a.URL+"/metrics")
		return strings.Contains(metrics, `relay_agent_revoked{relay="`+r.GRPCAddr().String()+`"} 1`)
	})
	status, body := relaytest.Do(t, http.MethodPut, a.URL+"/metrics/job/backup", "size 42\n")
	wantStatus(t, "a push", status, body, http.StatusAccepted)
	restarted := func() {
		t.Helper()
		a = a.Restart(t, nil)
		relaytest.Eventually(t, "the agent is told that it is revoked", func() bool {
			_, ready := relaytest.Get(t, a.URL+"/-/ready")
			return strings.Contains(ready, "site-1 is revoked: it was revoked at ")
		})
		wantRevoked(t, a, r)
	}
	restarted()
	r.Stop()
	opts.GRPCListenAddress = r.GRPCAddr().String()
	r = relaytest.Start(t, opts)
	restarted()
	if shown, _, err := (relay.Agents{DataDir: opts.DataDir}).Show(t.Context(), "site-1"); err != nil || len(shown.Certificates) != 1 {
		t.Errorf("asking has had certificates issued: %+v, %v", shown, err)
	}
	again := agent.EnrollOptions{Token: tokenOf(t, r, opts, relayapi.NewToken{Name: "site-1"}), DataDir: a.DataDir(), Force: true}
	if _, err := agent.Enroll(t.Context(), again); err != nil {
		t.Fatal(err)
	}
	a = a.Restart(t, nil) // which a running one does not need, but sees within 15 s
	r.WaitFor(t, a, "site-1")
	relaytest.Eventually(t, "what waited is there", func() bool {
		_, metrics := relaytest.Get(t, r.URL+"/metrics")
		return strings.Contains(metrics, `size{agent="site-1",instance="",job="backup"} 42`)
	})
	wantIn := func(agents relay.Agents, when, state string) {
		t.Helper()
		if all, _, err := agents.List(t.Context()); err != nil || len(all) != 1 || all[0].State != state || all[0].Revoked == nil {
			t.Errorf("%s: List() = %+v, %v, want it %s, and that its earlier certificates are revoked", when, all, err, state)
		}
	}
	agents := relay.Agents{DataDir: opts.DataDir}
	wantIn(agents, "connected", relayapi.AgentConnected)
	a.Stop()
	relaytest.Eventually(t, "it is away", func() bool {
		one, _, err := agents.Show(t.Context(), "site-1")
		return err == nil && one.State != relayapi.AgentConnected
	})
	wantIn(agents, "stopped", relayapi.AgentAway)
	if _, metrics := relaytest.Get(t, r.URL+"/metrics"); !strings.Contains(metrics, "\nrelay_agents_revoked 0\n") {
		t.Error("it is counted as revoked")
	}
	r.Stop()
	wantIn(agents, "by the files", relayapi.AgentAway)
}

// TestRelayThatCannotSign: an agent of two relays of one authority comes in at the one that has it, and is let in by both.
func TestRelayThatCannotSign(t *testing.T) {
	opts := relaytest.Options(t)
	signs := relaytest.Start(t, opts)
	out := filepath.Join(t.TempDir(), "relay")
	if _, err := relay.IssueRelayCertificate(opts.DataDir, []string{"127.0.0.1"}, out); err != nil {
		t.Fatal(err)
	}
	other := relaytest.Options(t)
	other.GRPCTLS.CertFile, other.GRPCTLS.KeyFile, other.GRPCTLS.CAFile = filepath.Join(out, "relay.crt"), filepath.Join(out, "relay.key"), filepath.Join(out, "ca.crt")
	other.GRPCServerNames = nil
	second := relaytest.Start(t, other)
	made, _, err := (relay.Agents{DataDir: opts.DataDir}).MakeToken(t.Context(), relayapi.NewToken{
		Name: "site-1", Uses: 1, TTLSeconds: 3600, Addresses: []string{second.GRPCAddr().String(), signs.GRPCAddr().String()},
	})
	if err != nil {
		t.Fatal(err)
	}
	a := relaytest.StartEnrolledAgent(t, func(o *agent.Options) { o.EnrollToken = made.Text })
	for _, r := range []*relaytest.Relay{signs, second} {
		r.WaitFor(t, a, "site-1")
	}
	if entries, err := os.ReadDir(filepath.Join(a.DataDir(), "identity")); err != nil || len(entries) != 1 {
		t.Errorf("the agent has %d identities, %v", len(entries), err)
	}
}
