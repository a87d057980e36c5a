// Package relaytest runs a relay and agents in one process, for tests: real sockets on loopback, real mutual TLS from the
// relay's own authority, ephemeral ports. When the test ends everything is stopped, and nothing may be left running.
package relaytest

import (
	"context"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/common/promslog"
	"github.com/prometheus/exporter-toolkit/web"
	"go.uber.org/goleak"

	"pushrelay/internal/agent"
	"pushrelay/internal/mtls"
	"pushrelay/internal/relay"
)

// patience bounds the wait for what must happen.
const patience = 15 * time.Second

// Relay is a running relay.
type Relay struct {
	*relay.Server
	// URL is that of its HTTP listener, without a trailing slash.
	URL     string
	dataDir string
	stop    func()
}

// Agent is a running agent.
type Agent struct {
	*agent.Agent
	// URL is that of its HTTP listener, without a trailing slash.
	URL  string
	opts agent.Options
	stop func()
}

func listenAnywhere() *web.FlagConfig {
	systemd, config := false, ""
	return &web.FlagConfig{WebListenAddresses: &[]string{"127.0.0.1:0"}, WebSystemdSocket: &systemd, WebConfigFile: &config}
}

// Options returns the defaults of relay-server, on ephemeral ports and with a new data dir. The admin API is on, and a drain
// does not outlast a test.
func Options(t testing.TB) relay.Options {
	t.Helper()
	opts := relay.DefaultOptions()
	opts.Web = listenAnywhere()
	opts.EnableAdminAPI = true
	opts.DataDir, opts.DataDirAsked = filepath.Join(t.TempDir(), "data"), true
	opts.GRPCListenAddress, opts.GRPCServerNames = "127.0.0.1:0", []string{"127.0.0.1"}
	opts.ShutdownTimeout = 5 * time.Second
	opts.Logger = promslog.NewNopLogger()
	return opts
}

// Start starts a relay.
func Start(t testing.TB, opts relay.Options) *Relay {
	t.Helper()
	checkLeaks(t)
	server, err := relay.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	r := &Relay{Server: server, URL: "http://" + server.Addr().String(), dataDir: opts.DataDir}
	r.stop = run(t, server.Run)
	Eventually(t, "relay is ready", func() bool { status, _ := Get(t, r.URL+"/-/ready"); return status == http.StatusOK })
	return r
}

// leakChecked has the tests at whose end it is checked that nothing runs any more.
var leakChecked sync.Map

// checkLeaks has it checked at the end of a test, after all of its relays and agents were stopped, that none of their goroutines runs any more. It is
// called before each of them starts: a check for each relay would find those of agents that outlive it.
func checkLeaks(t testing.TB) {
	t.Helper()
	if _, checked := leakChecked.LoadOrStore(t, true); checked {
		return
	}
	before := goleak.IgnoreCurrent() // servers of the test itself, which end after the relay
	t.Cleanup(func() {
		leakChecked.Delete(t)
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
		goleak.VerifyNone(t, before)
	})
}

// Stop stops the relay as SIGTERM does, and waits for its end.
func (r *Relay) Stop() { r.stop() }

// StartAgent starts an agent of the given name with the defaults of relay-agent, and a configuration file, "" for none.
func (r *Relay) StartAgent(t testing.TB, name, configFile string) *Agent {
	t.Helper()
	dir := t.TempDir()
	if _, err := relay.IssueAgentCertificate(r.dataDir, name, dir); err != nil {
		t.Fatal(err)
	}
	out := r.startAgentWith(t, configFile, mtls.Files{
		CAFile: filepath.Join(dir, "ca.crt"), CertFile: filepath.Join(dir, "agent.crt"), KeyFile: filepath.Join(dir, "agent.key"),
	})
	r.WaitFor(t, out, name)
	return out
}

// StartAgentWith starts an agent with certificates of another authority. Whether it is let in is for its caller to see.
func (r *Relay) StartAgentWith(t testing.TB, files mtls.Files) *Agent {
	t.Helper()
	return r.startAgentWith(t, "", files)
}

func (r *Relay) startAgentWith(t testing.TB, configFile string, files mtls.Files) *Agent {
	t.Helper()
	opts := agentOptions(t)
	opts.RelayAddresses = []string{r.GRPCAddr().String()}
	opts.TLS = files
	opts.ConfigFile = configFile
	return startAgent(t, opts)
}

// StartEnrolledAgent starts an agent with the defaults of relay-agent, and what edit makes of its options: it has an identity in its data dir, or a join
// token.
func StartEnrolledAgent(t testing.TB, edit func(*agent.Options)) *Agent {
	t.Helper()
	opts := agentOptions(t)
	edit(&opts)
	return startAgent(t, opts)
}

func agentOptions(t testing.TB) agent.Options {
	t.Helper()
	opts := agent.DefaultOptions()
	opts.DataDir, opts.DataDirAsked = filepath.Join(t.TempDir(), "agent-data"), true
	opts.Web, opts.WebOptional = listenAnywhere(), nil
	opts.Logger = promslog.NewNopLogger()
	return opts
}

// WaitFor waits until an agent is attached under a name.
func (r *Relay) WaitFor(t testing.TB, a *Agent, name string) {
	t.Helper()
	Eventually(t, "agent is attached", func() bool {
		_, ready := Get(t, a.URL+"/-/ready")
		_, known := Get(t, r.URL+"/api/v1/agents")
		return strings.Contains(ready, ": connected since") && strings.Contains(known, `"agent":"`+name+`","connected":true`)
	})
}

func startAgent(t testing.TB, opts agent.Options) *Agent {
	t.Helper()
	checkLeaks(t)
	a, err := agent.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	return &Agent{Agent: a, URL: "http://" + a.Addr().String(), opts: opts, stop: run(t, a.Run)}
}

// Restart stops the agent and starts it again, on another port and with what edit makes of its options; nil leaves them. It waits until the agent
// takes pushes, and for no relay.
func (a *Agent) Restart(t testing.TB, edit func(*agent.Options)) *Agent {
	t.Helper()
	a.Stop()
	opts := a.opts
	opts.Web = listenAnywhere()
	if edit != nil {
		edit(&opts)
	}
	again := startAgent(t, opts)
	Eventually(t, "agent is ready", func() bool { status, _ := Get(t, again.URL+"/-/ready"); return status == http.StatusOK })
	return again
}

// DataDir is the agent's.
func (a *Agent) DataDir() string { return a.opts.DataDir }

// Stop stops the agent as SIGTERM does, and waits for its end.
func (a *Agent) Stop() { a.stop() }

// run runs a program until the function that it returns is called, or the test ends.
func run(t testing.TB, program func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := program(ctx); err != nil {
			t.Errorf("it ended with an error: %v", err)
		}
	})
	stop = func() {
		cancel()
		running.Wait()
	}
	t.Cleanup(stop)
	return stop
}

// Eventually waits for what other goroutines bring about over real sockets.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("never happened: %s", what)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// Get returns the status and the body of a GET; 0 and the error's text if there was no answer.
func Get(t testing.TB, url string) (status int, body string) {
	t.Helper()
	return Do(t, http.MethodGet, url, "")
}

// Do returns the status and the body of a request; 0 and the error's text if there was no whole answer.
func Do(t testing.TB, method, url, body string) (status int, answer string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(text)
}
