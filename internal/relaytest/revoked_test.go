package relaytest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"pushrelay/internal/apiclient"
	"pushrelay/internal/ledger"
	"pushrelay/internal/relay"
	"pushrelay/internal/relayapi"
	"pushrelay/internal/relaytest"
)

// logged is a log that many write to.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

func (l *logged) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(line)
}

func (l *logged) has(parts ...string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.text.String()) {
		found := true
		for _, part := range parts {
			found = found && strings.Contains(line, part)
		}
		if found {
			return true
		}
	}
	return false
}

func (l *logged) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// slowTarget is a target that answers the first bytes of a body, and the rest when it is told to, and a configuration that names it.
func slowTarget(t *testing.T) (configFile string, asked <-chan struct{}) {
	t.Helper()
	came := make(chan struct{}, 8)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "m 1")
		w.(http.Flusher).Flush()
		came <- struct{}{}
		<-r.Context().Done()
	}))
	t.Cleanup(server.Close)
	file := filepath.Join(t.TempDir(), "agent.yml")
	text := "scrape_configs:\n- job_name: slow\n  static_configs:\n  - targets: [" + strings.TrimPrefix(server.URL, "http://") + "]\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file, came
}

// wantRevoked wants that an agent says of a relay that it is revoked, to Prometheus and to people.
func wantRevoked(t *testing.T, a *relaytest.Agent, r *relaytest.Relay) {
	t.Helper()
	_, metrics := relaytest.Get(t, a.URL+"/metrics")
	_, status := relaytest.Get(t, a.URL+"/api/v1/status")
	if !strings.Contains(metrics, `relay_agent_revoked{relay="`+r.GRPCAddr().String()+`"} 1`) || !strings.Contains(status, `"revoked":true`) {
		t.Errorf("the agent does not say that it is revoked: %s", status)
	}
}

// TestRevokedAgent: what it has in flight comes to nothing, and so does every further try, over restarts of both, until it is let in again; then what
// waited in its spool arrives. It knows that it is revoked all the time, although it has files only.
func TestRevokedAgent(t *testing.T) {
	opts := relaytest.Options(t)
	var log logged
	opts.Logger = log.logger()
	r := relaytest.Start(t, opts)
	configFile, asked := slowTarget(t)
	site := r.StartAgent(t, "site-a", configFile)
	other := r.StartAgent(t, "site-b", "")
	for _, a := range []*relaytest.Agent{site, other} {
		if status, body := relaytest.Do(t, "PUT", a.URL+"/metrics/job/a", "m 1\n"); status != http.StatusOK {
			t.Fatal(status, body)
		}
	}
	_, list := relaytest.Get(t, r.URL+"/sd/targets")
	_, path, found := strings.Cut(list, `"__metrics_path__":"`)
	if !found {
		t.Fatal(list)
	}
	path, _, _ = strings.Cut(path, `"`)
	scraped := make(chan error, 1)
	go func() {
		status, answer := relaytest.Get(t, r.URL+path)
		if status != http.StatusOK { // a whole answer that says so, if the head was not on its way yet
			scraped <- errors.New(answer)
			return
		}
		scraped <- nil
	}()
	<-asked

	agents := relay.Agents{DataDir: opts.DataDir}
	done, source, err := agents.Revoke(t.Context(), "site-a", relayapi.Revoke{})
	if err != nil || source != relay.FromRelay || !done.Known || done.SessionsEnded != 1 || done.TargetsRemoved != 1 || *done.Groups != 1 {
		t.Fatalf("Revoke() = %+v, %s, %v", done, source, err)
	}
	if err := <-scraped; err == nil {
		t.Error("a scrape in flight came to a good end")
	}
	if _, list := relaytest.Get(t, r.URL+"/sd/targets"); list != "[]\n" && list != "[]" {
		t.Errorf("targets after that: %s", list)
	}
	if status, answer := relaytest.Get(t, r.URL+path); status != http.StatusNotFound || !strings.Contains(answer, `agent "site-a" is revoked: it was revoked at `) {
		t.Errorf("a scrape after that: %d %s", status, answer)
	}
	for _, q := range []relayapi.Explain{
		{Action: relayapi.ExplainPush, Agent: "site-a", Labels: map[string]string{"job": "a"}},
		{Action: relayapi.ExplainServe, Agent: "site-a", Labels: map[string]string{"job": "a"}},
		{Action: relayapi.ExplainScrape, Of: "site-a", Target: "x"},
		{Action: relayapi.ExplainScrape, Of: "site-a", Labels: map[string]string{"job": "a"}},
	} {
		if e, err := agents.Explain(t.Context(), "", q); err != nil || e.Allowed || !strings.HasPrefix(e.Reason, `denied: agent "site-a" is revoked, whatever the policy says: it was revoked at `) {
			t.Errorf("Explain(%+v) = %+v, %v", q, e, err)
		}
	}
	if e, err := agents.Explain(t.Context(), "", relayapi.Explain{Action: relayapi.ExplainPush, Agent: "site-b", Labels: map[string]string{"job": "a"}}); err != nil || !e.Allowed {
		t.Errorf("Explain() of another one = %+v, %v", e, err)
	}
	if status, body := relaytest.Do(t, "PUT", site.URL+"/metrics/job/b", "m 2\n"); status != http.StatusAccepted {
		t.Errorf("a push at the agent: %d %s", status, body)
	}
	relaytest.Eventually(t, "the agent says so", func() bool {
		_, metrics := relaytest.Get(t, site.URL+"/metrics")
		_, status := relaytest.Get(t, site.URL+"/api/v1/status")
		return strings.Contains(metrics, `relay_agent_revoked{relay="`+r.GRPCAddr().String()+`"} 1`) && strings.Contains(status, "this agent is revoked") && strings.Contains(status, `"revoked":true`)
	})
	if !log.has("audit=revoked", "agent=site-a", "sessions_ended=1") {
		t.Error("the log does not tell of the revocation")
	}
	refused := func(of *relaytest.Agent) {
		t.Helper()
		relaytest.Eventually(t, "the agent is refused", func() bool {
			_, ready := relaytest.Get(t, of.URL+"/-/ready")
			return strings.Contains(ready, "relay refused this agent: site-a is revoked: it was revoked at ")
		})
		wantRevoked(t, of, r)
	}
	site = site.Restart(t, nil)
	refused(site)

	r.Stop()
	opts.GRPCListenAddress = r.GRPCAddr().String()
	r = relaytest.Start(t, opts)
	site = site.Restart(t, nil)
	refused(site)
	if _, metrics := relaytest.Get(t, r.URL+"/metrics"); strings.Contains(metrics, `m{agent="site-a",instance="",job="b"}`) || !strings.Contains(metrics, `m{agent="site-a",instance="",job="a"} 1`) {
		t.Errorf("what was pushed before and after: %s", metrics)
	}
	if a, _, err := agents.Show(t.Context(), "site-a"); err != nil || a.State != relayapi.AgentRevoked || a.Targets != 0 || len(a.Certificates) != 1 || !a.Certificates[0].Revoked {
		t.Errorf("Show() = %+v, %v", a, err)
	}

	if _, _, err := agents.Allow(t.Context(), "site-a"); err != nil {
		t.Fatal(err)
	}
	site = site.Restart(t, nil)
	relaytest.Eventually(t, "what waited has arrived", func() bool {
		_, metrics := relaytest.Get(t, r.URL+"/metrics")
		return strings.Contains(metrics, `m{agent="site-a",instance="",job="b"} 2`)
	})
	if _, metrics := relaytest.Get(t, site.URL+"/metrics"); !strings.Contains(metrics, `relay_agent_revoked{relay="`+r.GRPCAddr().String()+`"} 0`) {
		t.Error("the agent says that it is revoked when it has been let in")
	}
	if !log.has("audit=allowed", "agent=site-a") || !log.has("audit=refused", "agent=site-a", "reason=revoked") || !log.has("audit=issued", "agent=site-a", "by=command") {
		t.Error("the log does not tell of what was issued, refused and allowed")
	}
}

// TestPushesOfRevokedAgents: no push takes effect after the revocation has returned, however many are on their way.
func TestPushesOfRevokedAgents(t *testing.T) {
	opts := relaytest.Options(t)
	r := relaytest.Start(t, opts)
	site := r.StartAgent(t, "site-a", "")
	ctx, stop := context.WithCancel(t.Context())
	var pushing sync.WaitGroup
	for i := range 8 {
		pushing.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				relaytest.Do(t, "PUT", fmt.Sprintf("%s/metrics/job/j%d", site.URL, i), fmt.Sprintf("m %d\n", n))
			}
		})
	}
	relaytest.Eventually(t, "pushes arrive", func() bool {
		_, metrics := relaytest.Get(t, r.URL+"/metrics")
		return strings.Count(metrics, `m{agent="site-a"`) == 8
	})
	if _, _, err := (relay.Agents{DataDir: opts.DataDir}).Revoke(t.Context(), "site-a", relayapi.Revoke{}); err != nil {
		t.Fatal(err)
	}
	values := func() string {
		_, metrics := relaytest.Get(t, r.URL+"/metrics")
		var lines []string
		for line := range strings.Lines(metrics) {
			if strings.Contains(line, `agent="site-a"`) && !strings.HasPrefix(line, "relay_") {
				lines = append(lines, line)
			}
		}
		return strings.Join(lines, "")
	}
	before := values()
	for range 10 {
		if after := values(); after != before {
			t.Fatalf("after the revocation:\n%s\nand then:\n%s", before, after)
		}
	}
	stop()
	pushing.Wait()
}

// TestRevokeOptions: one certificate only; the targets stay; the groups go, and those of others do not.
func TestRevokeOptions(t *testing.T) {
	opts := relaytest.Options(t)
	r := relaytest.Start(t, opts)
	configFile, _ := slowTarget(t)
	site, other := r.StartAgent(t, "site-a", configFile), r.StartAgent(t, "site-b", "")
	for _, a := range []*relaytest.Agent{site, other} {
		if status, body := relaytest.Do(t, "PUT", a.URL+"/metrics/job/a", "m 1\n"); status != http.StatusOK {
			t.Fatal(status, body)
		}
	}
	agents := relay.Agents{DataDir: opts.DataDir}
	if done, _, err := agents.Revoke(t.Context(), "site-a", relayapi.Revoke{Serial: "abcdef"}); err != nil || done.SessionsEnded != 0 || done.Known {
		t.Fatalf("Revoke() of another certificate = %+v, %v", done, err)
	}
	a, _, err := agents.Show(t.Context(), "site-a")
	if err != nil || a.State != relayapi.AgentConnected || len(a.RevokedCertificates) != 1 {
		t.Fatalf("Show() = %+v, %v", a, err)
	}
	done, _, err := agents.Revoke(t.Context(), "site-a", relayapi.Revoke{Serial: strings.ToUpper(a.CertificateSerial), DeleteGroups: true})
	if err != nil || done.SessionsEnded != 1 || done.TargetsRemoved != 0 || done.GroupsDeleted != 1 || !done.Known {
		t.Fatalf("Revoke() of its certificate = %+v, %v", done, err)
	}
	done, _, err = agents.Revoke(t.Context(), "site-a", relayapi.Revoke{KeepTargets: true})
	if err != nil || done.SessionsEnded != 0 || done.TargetsRemoved != 0 {
		t.Fatalf("Revoke() again = %+v, %v", done, err)
	}
	r.Stop()
	again := relaytest.Start(t, opts)
	if all, _, err := agents.List(t.Context()); err != nil || len(all) != 2 || all[0].State != relayapi.AgentRevoked || all[0].Targets != 1 || *all[0].Groups != 0 || *all[1].Groups != 1 {
		t.Errorf("List() = %+v, %v", all, err)
	}
	if _, _, err := agents.Revoke(t.Context(), "no name", relayapi.Revoke{}); !refusedWith(err, http.StatusBadRequest) {
		t.Errorf("Revoke() of what is no name: %v", err)
	}
	if err := agents.Forget(t.Context(), "nobody"); !refusedWith(err, http.StatusNotFound) {
		t.Errorf("Forget() of nobody: %v", err)
	}
	if _, _, err := agents.Allow(t.Context(), "site-b"); !refusedWith(err, http.StatusConflict) {
		t.Errorf("Allow() of one that is not revoked: %v", err)
	}
	if status, body := relaytest.Do(t, "DELETE", again.URL+"/agents/site-a", ""); status != http.StatusNotFound && status != http.StatusMethodNotAllowed {
		t.Errorf("the control API answers on the TCP port: %d %s", status, body)
	}
}

func refusedWith(err error, status int) bool {
	refused, ok := errors.AsType[*apiclient.RefusedError](err)
	return ok && refused.Status == status
}

// TestRevokedWhileNoRelayRuns: the next relay refuses the agent, and lists its targets no more.
func TestRevokedWhileNoRelayRuns(t *testing.T) {
	opts := relaytest.Options(t)
	r := relaytest.Start(t, opts)
	configFile, _ := slowTarget(t)
	site := r.StartAgent(t, "site-a", configFile)
	r.Stop()
	agents := relay.Agents{DataDir: opts.DataDir}
	done, source, err := agents.Revoke(t.Context(), "site-a", relayapi.Revoke{})
	if err != nil || source != relay.FromFiles || !done.Known {
		t.Fatalf("Revoke() = %+v, %s, %v", done, source, err)
	}
	if a, source, err := agents.Show(t.Context(), "site-a"); err != nil || source != relay.FromFiles || a.State != relayapi.AgentRevoked || a.Targets != 1 || a.Groups != nil {
		t.Errorf("Show() = %+v, %s, %v", a, source, err)
	}
	if err := agents.Forget(t.Context(), "site-a"); !errors.Is(err, relay.ErrNeedsRelay) {
		t.Errorf("Forget() = %v", err)
	}
	_, issueErr := relay.IssueAgentCertificate(opts.DataDir, "site-a", filepath.Join(t.TempDir(), "out"))
	if issueErr == nil || !strings.Contains(issueErr.Error(), "site-a is revoked: relay-server agents token site-a lets it in with a new key; ") {
		t.Errorf("IssueAgentCertificate() = %v", issueErr)
	}
	opts.GRPCListenAddress = r.GRPCAddr().String()
	r = relaytest.Start(t, opts)
	site = site.Restart(t, nil)
	relaytest.Eventually(t, "the agent is refused", func() bool {
		_, ready := relaytest.Get(t, site.URL+"/-/ready")
		return strings.Contains(ready, "relay refused this agent: site-a is revoked: it was revoked at ")
	})
	wantRevoked(t, site, r)
	if a, source, err := agents.Show(t.Context(), "site-a"); err != nil || source != relay.FromRelay || a.Targets != 0 {
		t.Errorf("Show() = %+v, %s, %v", a, source, err)
	}
	_, issueErr = relay.IssueAgentCertificate(opts.DataDir, "site-a", filepath.Join(t.TempDir(), "out"))
	if issueErr == nil || !strings.Contains(issueErr.Error(), "site-a is revoked: relay-server agents token site-a lets it in with a new key; ") {
		t.Errorf("IssueAgentCertificate() beside the relay = %v", issueErr)
	}
	if _, metrics := relaytest.Get(t, r.URL+"/metrics"); !strings.Contains(metrics, "relay_agents_revoked 1") {
		t.Errorf("the metrics: %s", metrics)
	}
}

// TestKilledRelaysSocket: what a killed relay left is replaced, and until then commands do without it.
func TestKilledRelaysSocket(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts another process")
	}
	opts := relaytest.Options(t)
	r := relaytest.Start(t, opts)
	socket := filepath.Join(opts.DataDir, relayapi.ControlSocket)
	if stat, err := os.Stat(socket); err != nil || stat.Mode().Perm() != 0o600 {
		t.Fatalf("the socket: %v, %v", stat, err)
	}
	aside := socket + ".aside"
	if err := os.Rename(socket, aside); err != nil { // so that it is left, as by one that is killed
		t.Fatal(err)
	}
	agents := relay.Agents{DataDir: opts.DataDir}
	if _, _, err := agents.Revoke(t.Context(), "site-a", relayapi.Revoke{}); err == nil || !strings.Contains(err.Error(), "a relay runs on it that cannot be told") {
		t.Errorf("Revoke() beside a relay without a socket: %v", err)
	}
	r.Stop()
	if err := os.Rename(aside, socket); err != nil {
		t.Fatal(err)
	}
	if _, source, err := agents.Revoke(t.Context(), "site-a", relayapi.Revoke{}); err != nil || source != relay.FromFiles {
		t.Errorf("Revoke() = %s, %v", source, err)
	}
	relaytest.Start(t, opts)
	if a, source, err := agents.Show(t.Context(), "site-a"); err != nil || source != relay.FromRelay || a.State != relayapi.AgentRevoked {
		t.Errorf("Show() = %+v, %s, %v", a, source, err)
	}
}

// TestLongDataDir: its path is too long for a socket. The relay runs all the same, and says what that means.
func TestLongDataDir(t *testing.T) {
	opts := relaytest.Options(t)
	opts.DataDir = filepath.Join(t.TempDir(), strings.Repeat("long", 30))
	var log logged
	opts.Logger = log.logger()
	relaytest.Start(t, opts).Stop()
	if !log.has("level=WARN", "there is no control socket", "too long") {
		t.Errorf("the log: %s", log.text.String())
	}
	if _, source, err := (relay.Agents{DataDir: opts.DataDir}).List(t.Context()); err != nil || source != relay.FromFiles {
		t.Errorf("List() = %s, %v", source, err)
	}
}

// TestNoFallBackToMemory: a relay whose data dir cannot be used any more does not let in who was revoked, and a damaged ledger is no empty one.
func TestNoFallBackToMemory(t *testing.T) {
	opts := relaytest.Options(t)
	relaytest.Start(t, opts).Stop()
	agents := relay.Agents{DataDir: opts.DataDir}
	if _, _, err := agents.Revoke(t.Context(), "site-a", relayapi.Revoke{}); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(opts.DataDir, "ledger.jsonl")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	damaged := bytes.Clone(text)
	damaged[bytes.IndexByte(text, '\n')+10] ^= 1
	if err := os.WriteFile(file, damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	server, err := relay.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	err = server.Run(t.Context())
	if _, ok := errors.AsType[*ledger.DamagedError](err); !ok {
		t.Errorf("Run() on a damaged ledger: %v", err)
	}
	unusable := relaytest.Options(t)
	unusable.DataDir, unusable.DataDirAsked = filepath.Join(t.TempDir(), strings.Repeat("x", 300)), false // nobody can tell what is there
	if _, err := relay.New(unusable); err == nil || !strings.Contains(err.Error(), "a relay that keeps nothing would let everybody in who was revoked") {
		t.Errorf("New() where nobody can tell whether there is a ledger: %v", err)
	}
	if _, _, err := (relay.Agents{}).Revoke(t.Context(), "site-a", relayapi.Revoke{}); err == nil || !strings.Contains(err.Error(), "--data.dir is empty") {
		t.Errorf("Revoke() in memory: %v", err)
	}
	nowhere := filepath.Join(t.TempDir(), "none")
	if _, _, err := (relay.Agents{DataDir: nowhere}).Revoke(t.Context(), "site-a", relayapi.Revoke{}); err == nil || !strings.Contains(err.Error(), "is not that of a relay") {
		t.Errorf("Revoke() in a mistyped data dir: %v", err)
	}
	if _, err := os.Stat(nowhere); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the mistyped data dir: %v", err)
	}
}
