//go:build linux

package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A relay is a relay-server that runs.
type relay struct {
	*process
	owner   testing.TB // whose end is the relay's, also when a subtest starts it again
	command command
	url     string // of its HTTP routes
	grpc    string // where agents dial in
	dataDir string
}

// startRelay starts a relay with its own certificate authority and waits until it is ready.
func startRelay(t testing.TB, flags ...string) *relay {
	t.Helper()
	web := freeAddress(t)
	r := &relay{owner: t, url: "http://" + web, grpc: freeAddress(t), dataDir: filepath.Join(t.TempDir(), "relay")}
	r.command = command{path: programs.relayServer, dir: t.TempDir(), args: append([]string{
		"--web.listen-address=" + web, "--grpc.listen-address=" + r.grpc, "--data.dir=" + r.dataDir,
	}, flags...)}
	r.start(t)
	return r
}

// loseStore removes what was pushed to a relay that does not run.
func (r *relay) loseStore(t testing.TB) {
	t.Helper()
	if err := os.RemoveAll(filepath.Join(r.dataDir, "store")); err != nil {
		t.Fatal(err)
	}
}

// start starts the relay, or starts it again with the flags that it had.
func (r *relay) start(t testing.TB) {
	t.Helper()
	r.process = start(r.owner, r.command)
	waitReady(t, r.process, r.url)
}

// issue makes a certificate for an agent and returns the folder with ca.crt, agent.crt and agent.key.
func (r *relay) issue(t testing.TB, agent string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), agent)
	mustOutput(t, command{path: programs.relayServer, args: []string{
		"--data.dir=" + r.dataDir, "agent-certificate", agent, "--out=" + dir,
	}})
	return dir
}

// agentStatus is what /api/v1/agents tells of one agent, as far as these tests read it.
type agentStatus struct {
	Agent         string
	Connected     bool
	RemoteAddress string `json:"remote_address"`
	Targets       []targetStatus
}

type targetStatus struct {
	Target    string
	Job       string
	Instance  string
	LastError *string `json:"last_error"`
}

func (r *relay) agents(t testing.TB) []agentStatus {
	t.Helper()
	return decodeAgents(t, mustGet(t, r.url+"/api/v1/agents"))
}

func decodeAgents(t testing.TB, body string) []agentStatus {
	t.Helper()
	var page struct {
		Status string
		Data   []agentStatus
	}
	if err := json.Unmarshal([]byte(body), &page); err != nil || page.Status != "success" {
		t.Fatalf("GET /api/v1/agents: %v\n%s", err, body)
	}
	return page.Data
}

// connected reports whether the relay has a live session with the agent.
func (r *relay) connected(t testing.TB, agent string) bool {
	t.Helper()
	for _, a := range r.agents(t) {
		if a.Agent == agent {
			return a.Connected
		}
	}
	return false
}

// A targetGroup is one of Prometheus' HTTP service discovery.
type targetGroup struct {
	Targets []string
	Labels  map[string]string
}

// discovered returns what the relay tells Prometheus to scrape.
func (r *relay) discovered(t testing.TB) []targetGroup {
	t.Helper()
	resp, err := fetch(http.MethodGet, r.url+"/sd/targets", nil)
	if err != nil {
		t.Fatal(err)
	}
	var groups []targetGroup
	if err := json.Unmarshal([]byte(resp.body), &groups); err != nil || resp.status != http.StatusOK {
		t.Fatalf("GET /sd/targets: %d %v\n%s", resp.status, err, resp.body)
	}
	return groups
}

// An agent is a relay-agent that runs.
type agent struct {
	*process
	owner   testing.TB // as for a relay
	command command
	name    string
	url     string // of its HTTP routes
	relay   *relay
	dials   string // the address that it has of its relay: the own one, a name, or that of a network before it
}

// startAgent issues a certificate, starts an agent with the given configuration file and waits until it is connected.
func startAgent(t testing.TB, r *relay, name, config string) *agent {
	t.Helper()
	certificates := r.issue(t, name)
	return startAgentWith(t, r, name, config,
		"--tls.ca-file="+filepath.Join(certificates, "ca.crt"),
		"--tls.cert-file="+filepath.Join(certificates, "agent.crt"),
		"--tls.key-file="+filepath.Join(certificates, "agent.key"),
	)
}

// startAgentWith is startAgent with certificates that somebody else made.
func startAgentWith(t testing.TB, r *relay, name, config string, flags ...string) *agent {
	t.Helper()
	dir, web := t.TempDir(), freeAddress(t)
	a := &agent{owner: t, name: name, url: "http://" + web, relay: r, dials: r.grpc}
	file := filepath.Join(dir, "agent.yml")
	writeFile(t, file, config)
	a.command = command{path: programs.relayAgent, dir: dir, args: append([]string{
		"--relay.address=" + r.grpc,
		"--config.file=" + file,
		"--web.listen-address=" + web,
	}, flags...)}
	a.start(t)
	return a
}

// startEnrolledAgent is startAgent for one that comes in by a join token, and has neither TLS flags nor an address.
func startEnrolledAgent(t testing.TB, r *relay, name, config string) *agent {
	t.Helper()
	dir, web := t.TempDir(), freeAddress(t)
	a := &agent{owner: t, name: name, url: "http://" + web, relay: r, dials: r.grpc}
	file := filepath.Join(dir, "agent.yml")
	writeFile(t, file, config)
	token := mustOutput(t, command{path: programs.relayServer, args: []string{"--data.dir=" + r.dataDir, "agents", "token", name, "--relay.address=" + r.grpc}})
	mustOutput(t, command{path: programs.relayAgent, dir: dir, args: []string{"enroll", "--data.dir=data", strings.TrimSpace(token)}})
	a.command = command{path: programs.relayAgent, dir: dir, args: []string{"--config.file=" + file, "--web.listen-address=" + web, "--data.dir=data"}}
	a.start(t)
	return a
}

// start starts the agent, or starts it again with the flags that it had, and waits until its relay and the agent itself know
// of a session. The relay knows a little earlier, and what is pushed in between is kept. Other relays of the agent may be away.
func (a *agent) start(t testing.TB) {
	t.Helper()
	a.process = start(a.owner, a.command)
	waitReady(t, a.process, a.url)
	eventually(t, 20*time.Second, "agent connected", func() error {
		if !a.relay.connected(t, a.name) {
			return errNotConnected
		}
		page, err := wantOK(a.url + "/-/ready")
		if err == nil && !strings.Contains(page, "relay "+a.dials+": connected since") {
			err = fmt.Errorf("%w: %s", errNotConnected, page)
		}
		return err
	})
}
