//go:build linux

package house

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/program"
)

// A Relay is a relay-server that runs.
type Relay struct {
	*program.Process
	Owner   testing.TB // whose end is the relay's, also when a subtest starts it again
	Command program.Command
	URL     string // of its HTTP routes
	GRPC    string // where agents dial in
	DataDir string
}

// StartRelay starts a relay with its own certificate authority and waits until it is ready.
func StartRelay(t testing.TB, flags ...string) *Relay {
	t.Helper()
	r := NewRelay(t, flags...)
	r.Start(t)
	return r
}

// NewRelay is StartRelay for a relay that somebody else starts.
func NewRelay(t testing.TB, flags ...string) *Relay {
	t.Helper()
	web := program.FreeAddress(t)
	r := &Relay{Owner: t, URL: "http://" + web, GRPC: program.FreeAddress(t), DataDir: filepath.Join(t.TempDir(), "relay")}
	r.Command = program.Command{Path: program.RelayServer(), Dir: t.TempDir(), Args: append([]string{
		"--web.listen-address=" + web, "--grpc.listen-address=" + r.GRPC, "--data.dir=" + r.DataDir,
	}, flags...)}
	return r
}

// LoseStore removes what was pushed to a relay that does not run.
func (r *Relay) LoseStore(t testing.TB) {
	t.Helper()
	if err := os.RemoveAll(filepath.Join(r.DataDir, "store")); err != nil {
		t.Fatal(err)
	}
}

// Start starts the relay, or starts it again with the flags that it had.
func (r *Relay) Start(t testing.TB) {
	t.Helper()
	r.Process = program.Start(r.Owner, r.Command)
	program.WaitReady(t, r.Process, r.URL)
}

// Issue makes a certificate for an agent and returns the folder with ca.crt, agent.crt and agent.key.
func (r *Relay) Issue(t testing.TB, agent string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), agent)
	program.MustOutput(t, program.Command{Path: r.Command.Path, Args: []string{
		"--data.dir=" + r.DataDir, "agent-certificate", agent, "--out=" + dir,
	}})
	return dir
}

// AgentStatus is what /api/v1/agents tells of one agent, as far as these tests read it.
type AgentStatus struct {
	Agent         string
	Connected     bool
	RemoteAddress string `json:"remote_address"`
	Targets       []TargetStatus
}

// A TargetStatus is what it tells of one of its targets.
type TargetStatus struct {
	Target    string
	Job       string
	Instance  string
	LastError *string `json:"last_error"`
}

// Agents returns what the relay tells of its agents.
func (r *Relay) Agents(t testing.TB) []AgentStatus {
	t.Helper()
	return DecodeAgents(t, client.MustGet(t, r.URL+"/api/v1/agents"))
}

// DecodeAgents reads the answer of /api/v1/agents.
func DecodeAgents(t testing.TB, body string) []AgentStatus {
	t.Helper()
	var page struct {
		Status string
		Data   []AgentStatus
	}
	if err := json.Unmarshal([]byte(body), &page); err != nil || page.Status != "success" {
		t.Fatalf("GET /api/v1/agents: %v\n%s", err, body)
	}
	return page.Data
}

// Connected reports whether the relay has a live session with the agent.
func (r *Relay) Connected(t testing.TB, agent string) bool {
	t.Helper()
	for _, a := range r.Agents(t) {
		if a.Agent == agent {
			return a.Connected
		}
	}
	return false
}

// Start starts the agent, or starts it again with the flags that it had, and waits until its relay and the agent itself know
// of a session. The relay knows a little earlier, and what is pushed in between is kept. Other relays of the agent may be away.
func (a *Agent) Start(t testing.TB) {
	t.Helper()
	a.Process = program.Start(a.Owner, a.Command)
	program.WaitReady(t, a.Process, a.URL)
	client.Eventually(t, 20*time.Second, "agent connected", func() error {
		if !a.Relay.Connected(t, a.Name) {
			return ErrNotConnected
		}
		page, err := client.WantOK(a.URL + "/-/ready")
		if err == nil && !strings.Contains(page, "relay "+a.Dials+": connected since") {
			err = fmt.Errorf("%w: %s", ErrNotConnected, page)
		}
		return err
	})
}

// Stopped stops a relay and returns its data dir.
func (r *Relay) Stopped(t testing.TB) string {
	t.Helper()
	r.Stop(t)
	return r.DataDir
}

// WantLoss checks whether the relay shows a loss, everywhere where it does.
func (r *Relay) WantLoss(t *testing.T, want bool) {
	t.Helper()
	losses := 0.0
	if want {
		losses = 1
	}
	client.WantSeries(t, r.URL, "relay_store_losses", losses)
	if page := client.MustGet(t, r.URL+"/-/ready"); strings.Contains(page, "acknowledge-loss") != want {
		t.Errorf("/-/ready: %q", page)
	}
}

// What a relay shows of an agent.
var (
	ErrNotConnected   = errors.New("the agent is not shown as connected")
	ErrStillConnected = errors.New("the relay still shows the agent as connected")
)

// WantSkew waits until the relay has measured how far the clock of an agent is ahead of its own.
func (r *Relay) WantSkew(t testing.TB, agent string, ahead time.Duration) {
	t.Helper()
	client.Eventually(t, client.Patience, "the clock skew is measured", func() error {
		value, there, err := client.ValueOf(r.URL, fmt.Sprintf("relay_agent_clock_skew_seconds{agent=%q}", agent))
		if want := ahead.Seconds(); err == nil && (!there || value < want-10 || value > want+10) {
			err = fmt.Errorf("%w: it is %v (there: %v), want about %v", ErrVitals, value, there, want)
		}
		return err
	})
}

// WantPushTime checks the push time of an agent's job, which a relay cannot know more exactly than the way of the push takes.
func (r *Relay) WantPushTime(t testing.TB, job string, earliest, latest time.Time) {
	t.Helper()
	seconds := func(at time.Time) float64 { return float64(at.UnixMilli()) / 1000 }
	got, there, err := client.ValueOf(r.URL, fmt.Sprintf(`push_time_seconds{agent="site-a", instance="", job=%q}`, job))
	if err != nil || !there || got < seconds(earliest)-0.1 || got > seconds(latest)+0.1 {
		t.Errorf("push_time_seconds of %s is %v (there: %v), %v; by the relay's clock it was pushed from %v to %v", job, got, there, err, seconds(earliest), seconds(latest))
	}
}

// WaitAttached waits until an agent has a session with the relay.
func (r *Relay) WaitAttached(t testing.TB, agent string) {
	t.Helper()
	client.Eventually(t, BackWithin+Tolerance/2, agent+" attached to "+r.GRPC, func() error {
		if !r.Connected(t, agent) {
			return ErrNotConnected
		}
		return nil
	})
}

// StartSecondRelay starts another relay that shares the certificate authority of the first.
func StartSecondRelay(t testing.TB, first *Relay, flags ...string) *Relay {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "second")
	program.MustOutput(t, program.Command{Path: program.RelayServer(), Args: []string{"--data.dir=" + first.DataDir, "relay-certificate", "--out=" + dir}})
	return StartRelay(t, append([]string{
		"--grpc.tls.cert-file=" + filepath.Join(dir, "relay.crt"), "--grpc.tls.key-file=" + filepath.Join(dir, "relay.key"),
		"--grpc.tls.client-ca-file=" + filepath.Join(dir, "ca.crt"),
	}, flags...)...)
}
