//go:build linux

package house

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/program"
)

// At is a command of relay-agent's that speaks to this agent.
func (a *Agent) At(args ...string) program.Command {
	return program.Command{Path: program.RelayAgent(), Args: append(args[:1:1], append([]string{"--agent.address=" + a.URL}, args[1:]...)...)}
}

// Exec is relay-agent exec of a command, below this agent.
func (a *Agent) Exec(flags []string, run ...string) program.Command {
	return a.At(append(append(append([]string{"exec"}, flags...), "--"), run...)...)
}

// Reload gives the agent another configuration.
func (a *Agent) Reload(t testing.TB, config string) {
	t.Helper()
	client.WriteFile(t, filepath.Join(a.Command.Dir, "agent.yml"), config)
	if r, err := client.Fetch(http.MethodPost, a.URL+"/-/reload", nil); err != nil || r.Status != http.StatusOK {
		t.Fatalf("reload: %d %s %v", r.Status, r.Body, err)
	}
}

// An Agent is a relay-agent that runs.
type Agent struct {
	*program.Process
	Owner   testing.TB // as for a relay
	Command program.Command
	Name    string
	URL     string // of its HTTP routes
	Relay   *Relay
	Dials   string // the address that it has of its relay: the own one, a name, or that of a network before it
}

// StartAgent issues a certificate, starts an agent with the given configuration file and waits until it is connected.
func StartAgent(t testing.TB, r *Relay, name, config string) *Agent {
	t.Helper()
	certificates := r.Issue(t, name)
	return StartAgentWith(t, r, name, config,
		"--tls.ca-file="+filepath.Join(certificates, "ca.crt"),
		"--tls.cert-file="+filepath.Join(certificates, "agent.crt"),
		"--tls.key-file="+filepath.Join(certificates, "agent.key"),
	)
}

// StartAgentWith is StartAgent with certificates that somebody else made.
func StartAgentWith(t testing.TB, r *Relay, name, config string, flags ...string) *Agent {
	t.Helper()
	dir, web := t.TempDir(), program.FreeAddress(t)
	a := &Agent{Owner: t, Name: name, URL: "http://" + web, Relay: r, Dials: r.GRPC}
	file := filepath.Join(dir, "agent.yml")
	client.WriteFile(t, file, config)
	a.Command = program.Command{Path: program.RelayAgent(), Dir: dir, Args: append([]string{
		"--relay.address=" + r.GRPC,
		"--config.file=" + file,
		"--web.listen-address=" + web,
	}, flags...)}
	a.Start(t)
	return a
}

// StartEnrolledAgent is StartAgent for one that comes in by a join token, and has neither TLS flags nor an address.
func StartEnrolledAgent(t testing.TB, r *Relay, name, config string) *Agent {
	t.Helper()
	dir, web := t.TempDir(), program.FreeAddress(t)
	a := &Agent{Owner: t, Name: name, URL: "http://" + web, Relay: r, Dials: r.GRPC}
	file := filepath.Join(dir, "agent.yml")
	client.WriteFile(t, file, config)
	token := program.MustOutput(t, program.Command{Path: program.RelayServer(), Args: []string{"--data.dir=" + r.DataDir, "agents", "token", name, "--relay.address=" + r.GRPC}})
	program.MustOutput(t, program.Command{Path: program.RelayAgent(), Dir: dir, Args: []string{"enroll", "--data.dir=data", strings.TrimSpace(token)}})
	a.Command = program.Command{Path: program.RelayAgent(), Dir: dir, Args: []string{"--config.file=" + file, "--web.listen-address=" + web, "--data.dir=data"}}
	a.Start(t)
	return a
}

// Identities returns what an agent says of its identities.
func (a *Agent) Identities(t testing.TB) (all []struct {
	Authority           string
	Relays              []string
	CertificateNotAfter time.Time `json:"certificate_not_after"`
	LastError           string    `json:"last_error"`
},
) {
	t.Helper()
	var answer struct {
		Data struct{ Identities json.RawMessage }
	}
	if err := json.Unmarshal([]byte(client.MustGet(t, a.URL+"/api/v1/status")), &answer); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(answer.Data.Identities, &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// StartAgentVia is StartAgent for an agent that dials another address than the relay's own.
func StartAgentVia(t testing.TB, r *Relay, address, name, config string, flags ...string) *Agent {
	t.Helper()
	a := NewAgentVia(t, r, address, name, config, flags...)
	a.Start(t)
	return a
}

// NewAgentVia is StartAgentVia for an agent that somebody else starts.
func NewAgentVia(t testing.TB, r *Relay, address, name, config string, flags ...string) *Agent {
	t.Helper()
	dir, web := t.TempDir(), program.FreeAddress(t)
	file := filepath.Join(dir, "agent.yml")
	client.WriteFile(t, file, config)
	args := append([]string{"--relay.address=" + address, "--config.file=" + file, "--web.listen-address=" + web}, CertificateFlags(r.Issue(t, name))...)
	return &Agent{
		Owner: t, Name: name, URL: "http://" + web, Relay: r, Dials: address,
		Command: program.Command{Path: program.RelayAgent(), Dir: dir, Args: append(args, flags...)},
	}
}

// CertificateFlags are the TLS flags of an agent whose files the relay issued.
func CertificateFlags(dir string) []string {
	return []string{
		"--tls.ca-file=" + filepath.Join(dir, "ca.crt"),
		"--tls.cert-file=" + filepath.Join(dir, "agent.crt"), "--tls.key-file=" + filepath.Join(dir, "agent.key"),
	}
}

// ConfigOf is a configuration with one job for each path of an address; the job has the path's name.
func ConfigOf(address string, paths ...string) string {
	var b strings.Builder
	b.WriteString("scrape_configs:\n")
	for _, path := range paths {
		fmt.Fprintf(&b, "  - job_name: %s\n    metrics_path: /%s\n    static_configs: [{targets: [%q]}]\n", path, path, address)
	}
	return b.String()
}
