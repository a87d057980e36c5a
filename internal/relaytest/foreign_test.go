package relaytest_test

import (
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pushrelay/internal/mtls"
	"pushrelay/internal/relay"
	"pushrelay/internal/relayapi"
	"pushrelay/internal/relaytest"
)

// says waits until the agent says why it is not connected.
func says(t *testing.T, a *relaytest.Agent, what string) {
	t.Helper()
	relaytest.Eventually(t, "the agent says: "+what, func() bool {
		_, ready := relaytest.Get(t, a.URL+"/-/ready")
		return strings.Contains(ready, what)
	})
}

// TestRevocationList: whoever is on a list that comes while they are connected is out, and so is what they have in flight; the next list lets them
// in again.
func TestRevocationList(t *testing.T) {
	if testing.Short() {
		t.Skip("it waits until changed files are looked at")
	}
	ca := relaytest.NewCA(t, "example.org")
	opts := relaytest.Options(t)
	ca.Relay(&opts)
	opts.GRPCCRLFile = filepath.Join(t.TempDir(), "lists.pem")
	ca.WriteList(opts.GRPCCRLFile, big.NewInt(7))
	var log logged
	opts.Logger = log.logger()
	r := relaytest.Start(t, opts)
	files, serial := ca.Agent("site-a")
	site := r.StartAgentWith(t, files)
	r.WaitFor(t, site, "site-a")
	others, _ := ca.Agent("site-b")
	other := r.StartAgentWith(t, others)
	r.WaitFor(t, other, "site-b")

	ca.WriteList(opts.GRPCCRLFile, serial)
	says(t, site, "this agent is revoked: its certificate "+serial.Text(16)+" is in the revocation list of")
	site = site.Restart(t, nil)
	says(t, site, "it may be revoked")
	if status, body := relaytest.Do(t, "PUT", other.URL+"/metrics/job/a", "m 1\n"); status != http.StatusOK {
		t.Errorf("a push of the other agent: %d %s", status, body)
	}
	if !log.has("audit=revoked", "sessions_ended=1") || !log.has("audit=refused", "agent=site-a", "revocation list") {
		t.Error("the log does not tell of the session that ended and of the refusal")
	}
	if _, metrics := relaytest.Get(t, r.URL+"/metrics"); !strings.Contains(metrics, "relay_crl_last_reload_successful 1") || !strings.Contains(metrics, "relay_crl_next_update_timestamp_seconds 1") {
		t.Errorf("the metrics: %s", metrics)
	}
	if err := os.WriteFile(opts.GRPCCRLFile, []byte("half a list"), 0o600); err != nil {
		t.Fatal(err)
	}
	relaytest.Eventually(t, "the bad file is told", func() bool {
		_, metrics := relaytest.Get(t, r.URL+"/metrics")
		return strings.Contains(metrics, "relay_crl_last_reload_successful 0") && log.has("level=ERROR", "changed revocation lists cannot be used")
	})
	ca.WriteList(opts.GRPCCRLFile)
	relaytest.Eventually(t, "the next list is in use", func() bool {
		_, metrics := relaytest.Get(t, r.URL+"/metrics")
		return strings.Contains(metrics, "relay_crl_last_reload_successful 1")
	})
	site = site.Restart(t, nil)
	r.WaitFor(t, site, "site-a")
}

// TestAlsoOwnCA: agents of both authorities are let in, each for the trust domain of its authority; a name is one agent's, and the ledger and the
// lists hold of either.
func TestAlsoOwnCA(t *testing.T) {
	ca := relaytest.NewCA(t, "example.org")
	opts := relaytest.Options(t)
	ca.Relay(&opts)
	agents, token := relay.Agents{DataDir: opts.DataDir}, relayapi.NewToken{Name: "site-t", Uses: 1, TTLSeconds: 3600}
	first := relaytest.Start(t, opts)
	if _, _, err := agents.MakeToken(t.Context(), token); err == nil || !strings.Contains(err.Error(), "--grpc.tls.also-own-ca") || first.TakesOwnCertificates() {
		t.Errorf("a token of a relay with files of another authority: %v", err)
	}
	first.Stop()
	if _, err := relay.IssueAgentCertificate(opts.DataDir, "site-a", filepath.Join(t.TempDir(), "out")); err == nil {
		t.Error("a relay with files of another authority has made its own one")
	}
	opts.GRPCAlsoOwnCA = true
	r := relaytest.Start(t, opts)
	if !r.TakesOwnCertificates() {
		t.Error("a relay with --grpc.tls.also-own-ca takes no certificates of its own authority")
	}
	if made, _, err := agents.MakeToken(t.Context(), token); err != nil || made.Name != "site-t" {
		t.Errorf("a token of a relay that takes its own authority's certificates, too: %+v, %v", made, err)
	}
	own := r.StartAgent(t, "site-a", "") // its ca.crt has the authority of the relay's certificate
	foreignFiles, _ := ca.Agent("site-b")
	foreign := r.StartAgentWith(t, foreignFiles)
	r.WaitFor(t, foreign, "site-b")

	clash, _ := ca.Agent("site-a")
	says(t, r.StartAgentWith(t, clash), `the name site-a is that of an agent of trust domain "pushrelay"`)
	if status, body := relaytest.Do(t, "PUT", own.URL+"/metrics/job/a", "m 1\n"); status != http.StatusOK {
		t.Errorf("a push of the first one: %d %s", status, body)
	}
	if _, err := relay.IssueAgentCertificate(opts.DataDir, "site-b", filepath.Join(t.TempDir(), "out")); err == nil || !strings.Contains(err.Error(), `the name site-b is that of an agent of trust domain "example.org"`) {
		t.Errorf("a certificate for the name of the other authority's agent: %v", err)
	}
	forger := relaytest.NewCA(t, "pushrelay") // of the same trust domain as the own authority, and trusted by nobody
	forged, _ := forger.Agent("site-c")
	says(t, r.StartAgentWith(t, mtls.Files{CAFile: clash.CAFile, CertFile: forged.CertFile, KeyFile: forged.KeyFile}), "not signed by the relay's CA")

	for _, a := range []struct {
		agent *relaytest.Agent
		name  string
	}{{own, "site-a"}, {foreign, "site-b"}} {
		if done, _, err := agents.Revoke(t.Context(), a.name, relayapi.Revoke{}); err != nil || done.SessionsEnded != 1 {
			t.Errorf("Revoke(%s) = %+v, %v", a.name, done, err)
		}
		says(t, a.agent, "this agent is revoked")
	}
}

// TestAuthoritiesThatDoNotFit: errors in words, before anything is made.
func TestAuthoritiesThatDoNotFit(t *testing.T) {
	ca, other := relaytest.NewCA(t, "example.org"), relaytest.NewCA(t, "other.example")
	list := filepath.Join(t.TempDir(), "lists.pem")
	other.WriteList(list)
	for _, tt := range []struct {
		name string
		edit func(*relay.Options)
		want string
	}{
		{"a list without the files", func(o *relay.Options) { o.GRPCTLS, o.GRPCCRLFile = mtls.Files{}, list }, "--grpc.tls.crl-file goes with the --grpc.tls files"},
		{"a list of another authority", func(o *relay.Options) { o.GRPCCRLFile = list }, "--grpc.tls.crl-file: reading revocation lists"},
		{"no such list", func(o *relay.Options) { o.GRPCCRLFile = list + ".none" }, "no such file"},
		{"also the own CA, without the files", func(o *relay.Options) { o.GRPCTLS, o.GRPCAlsoOwnCA = mtls.Files{}, true }, "--grpc.tls.also-own-ca goes with the --grpc.tls files"},
		{"also the own CA, in memory", func(o *relay.Options) { o.GRPCAlsoOwnCA, o.DataDir = true, "" }, "--data.dir is empty"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			opts := relaytest.Options(t)
			ca.Relay(&opts)
			tt.edit(&opts)
			if _, err := relay.New(opts); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("New() = %v, want an error with %q", err, tt.want)
			}
			if _, err := os.Stat(filepath.Join(opts.DataDir, "authority")); opts.DataDir != "" && err == nil {
				t.Error("an authority was made")
			}
		})
	}
}
