package roster_test

import (
	"cmp"
	"context"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/promslog"

	"pushrelay/internal/roster"
	"pushrelay/internal/scrape"
	"pushrelay/internal/target"
)

// session is a fake that answers scrapes with a body and notes that it was superseded.
type session struct {
	status       int // 200 if 0
	body         string
	err          error
	hold         chan struct{} // if set, Scrape waits for it
	supersededBy string
	revoked      string // the reason
	withheld     []roster.Withheld
}

func (s *session) Scrape(context.Context, *scrape.Request) (*scrape.Response, error) {
	if s.hold != nil {
		<-s.hold
	}
	if s.err != nil {
		return nil, s.err
	}
	return &scrape.Response{Status: cmp.Or(s.status, 200), ContentLength: -1, Body: io.NopCloser(strings.NewReader(s.body))}, nil
}

func (s *session) Supersede(by string) { s.supersededBy = by }

func (s *session) Revoke(reason string) { s.revoked = reason }

func (s *session) TellWithheld(w roster.Withheld) { s.withheld = append(s.withheld, w) }

func open(t *testing.T, file string) (*roster.Registry, *prometheus.Registry) {
	t.Helper()
	reg := prometheus.NewRegistry()
	r, err := roster.Open(roster.Config{
		File: file, ForgetAfter: time.Hour, MaxConcurrentScrapes: 2, Logger: promslog.NewNopLogger(), Registerer: reg,
	})
	if err != nil {
		t.Fatal(err)
	}
	return r, reg
}

func targets(names ...string) []target.Target {
	var out []target.Target
	for _, name := range names {
		out = append(out, target.Target{Name: name, Job: "j", Instance: name + ":1", Address: name + ":1", Scheme: "http", MetricsPath: "/metrics"})
	}
	return out
}

func set(names ...string) target.Set { return target.Set{Targets: targets(names...)} }

func register(r *roster.Registry, name string, s roster.Session, process byte) *roster.Attachment {
	return attach(r, roster.Registration{Agent: name, Session: s, ProcessID: [16]byte{process}, RemoteAddress: "192.0.2.1:1"})
}

// attach begins a session that nobody refuses.
func attach(r *roster.Registry, reg roster.Registration) *roster.Attachment {
	at, err := r.Register(reg)
	if err != nil {
		panic(err)
	}
	return at
}

func reason(ctx context.Context, err error) scrape.Reason {
	if err == nil {
		return ""
	}
	return scrape.AsError(ctx, err).Reason
}

func TestScrapeReasons(t *testing.T) {
	r, reg := open(t, "")
	ask := func(agent, target string) scrape.Reason {
		resp, err := r.Scrape(t.Context(), &scrape.Request{Agent: agent, Target: target})
		if err == nil {
			_, err = io.ReadAll(resp.Body)
			resp.Body.Close()
		}
		return reason(t.Context(), err)
	}
	if got := ask("site", "a"); got != scrape.AgentUnknown {
		t.Errorf("before anybody came: %s", got)
	}
	at := register(r, "site", &session{body: "m 1\n"}, 1)
	if got := ask("site", "a"); got != scrape.TargetUnknown {
		t.Errorf("before targets were announced: %s", got)
	}
	if err := at.SetTargets(set("a", "b")); err != nil {
		t.Fatal(err)
	}
	if got := ask("site", "a"); got != "" {
		t.Errorf("while attached: %s", got)
	}
	at.Close()
	if got := ask("site", "a"); got != scrape.AgentOffline {
		t.Errorf("after it went away: %s", got)
	}
	known := r.Agents()
	if len(known) != 1 || known[0].Connected || len(known[0].Targets) != 2 {
		t.Fatalf("Agents() = %+v", known)
	}
	if last := known[0].Targets[0]; !strings.Contains(last.LastError, "not connected") || last.LastScrape.IsZero() {
		t.Errorf("last scrape of the target = %+v", last)
	}
	want := `
# HELP relay_scrapes_total Scrapes of targets behind agents, by result: ok, bad_status if the target answered something else than 200, or the reason of the failure.
# TYPE relay_scrapes_total counter
relay_scrapes_total{result="agent_offline"} 1
relay_scrapes_total{result="agent_unknown"} 1
relay_scrapes_total{result="ok"} 1
relay_scrapes_total{result="target_unknown"} 1
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "relay_scrapes_total"); err != nil {
		t.Error(err)
	}
	r.Drain()
	if got := ask("site", "a"); got != scrape.Draining {
		t.Errorf("while draining: %s", got)
	}
}

func TestScrapesOfOneAgentAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := open(t, "")
		s := &session{body: "m 1\n", hold: make(chan struct{})}
		if err := register(r, "site", s, 1).SetTargets(set("a")); err != nil {
			t.Fatal(err)
		}
		ask := func() error {
			resp, err := r.Scrape(t.Context(), &scrape.Request{Agent: "site", Target: "a"})
			if err == nil {
				resp.Body.Close()
			}
			return err
		}
		for range 2 {
			go ask()
		}
		synctest.Wait()
		if got := reason(t.Context(), ask()); got != scrape.AgentBusy {
			t.Errorf("a third scrape: %s, want %s", got, scrape.AgentBusy)
		}
		close(s.hold)
		synctest.Wait()
		if err := ask(); err != nil {
			t.Errorf("a scrape after the others ended: %v", err)
		}
	})
}

func TestFailedScrapeIsNoted(t *testing.T) {
	r, _ := open(t, "")
	at := register(r, "site", &session{err: errors.New("connection refused")}, 1)
	if err := at.SetTargets(set("a")); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Scrape(t.Context(), &scrape.Request{Agent: "site", Target: "a"}); reason(t.Context(), err) != scrape.TargetUnreachable {
		t.Errorf("Scrape() = %v", err)
	}
	if got := r.Agents()[0].Targets[0].LastError; got != "target_unreachable: connection refused" {
		t.Errorf("LastError = %q", got)
	}
}

func TestNewestSessionWins(t *testing.T) {
	r, _ := open(t, "")
	old, newer := &session{}, &session{}
	first := register(r, "site", old, 1)
	second := register(r, "site", newer, 2)
	if old.supersededBy == "" || newer.supersededBy != "" {
		t.Error("the older session was not superseded, or the newer one was")
	}
	if second.Number <= first.Number || first.Current() || !second.Current() {
		t.Error("the older session is still current")
	}
	if err := first.SetTargets(set("a")); err != nil {
		t.Fatal(err)
	}
	first.Close()
	if known := r.Agents()[0]; !known.Connected || len(known.Targets) != 0 {
		t.Errorf("a superseded session had a say: %+v", known)
	}
}

func TestConflictIsSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := open(t, "")
		for i := range 3 {
			register(r, "flapping", &session{}, 7)     // one process that reconnects is no conflict
			register(r, "site", &session{}, byte(2+i)) // nor is one that is started again and again
		}
		if r.Agents()[0].Conflict || r.Agents()[1].Conflict {
			t.Error("processes that follow each other are called a conflict")
		}
		register(r, "site", &session{}, 1).Close() // The session of the third has ended in between.
		register(r, "site", &session{}, 4)
		if known := r.Agents(); known[0].Conflict || !known[1].Conflict {
			t.Errorf("conflicts = %t, %t, want that of site alone", known[0].Conflict, known[1].Conflict)
		}
		time.Sleep(6 * time.Minute)
		if r.Agents()[1].Conflict {
			t.Error("the conflict is never over")
		}
	})
}

func TestBadTargetSetChangesNothing(t *testing.T) {
	r, _ := open(t, "")
	at := register(r, "site", &session{}, 1)
	if err := at.SetTargets(set("a")); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []target.Set{set("x", "x"), set("../x"), {Targets: []target.Target{{Name: "x"}}}} {
		if err := at.SetTargets(bad); err == nil {
			t.Errorf("SetTargets(%v) took it", bad)
		}
	}
	if known := r.Agents()[0]; len(known.Targets) != 1 || known.Targets[0].Name != "a" {
		t.Errorf("targets = %+v", known.Targets)
	}
}

// run runs the registry and returns when it has stopped.
func run(t *testing.T, r *roster.Registry, during func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	stopped := make(chan error)
	go func() { stopped <- r.Run(ctx) }()
	during()
	cancel()
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestKnownAgentsSurviveARestart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "agents.json")
	synctest.Test(t, func(t *testing.T) {
		r, _ := open(t, file)
		if r.Settled() {
			t.Error("a registry that began empty knows the truth at once")
		}
		run(t, r, func() {
			at := register(r, "site", &session{}, 1)
			if err := at.SetTargets(set("a", "b")); err != nil {
				t.Error(err)
			}
			if !r.Settled() {
				t.Error("not settled although an agent announced its targets")
			}
		})
		before := r.Agents()[0]

		r, _ = open(t, file)
		known := r.Agents()
		if len(known) != 1 || known[0].Connected || len(known[0].Targets) != 2 || !known[0].LastSeen.Equal(before.LastSeen) {
			t.Fatalf("after the restart: %+v", known)
		}
		if !r.Settled() {
			t.Error("a registry with known agents is not settled")
		}
		run(t, r, func() { time.Sleep(90 * time.Minute) })
		if left := r.Agents(); len(left) != 0 {
			t.Errorf("an agent that has been away for long is still known: %+v", left)
		}
	})
}

func TestEmptyRegistrySettlesInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := open(t, "")
		if r.Settled() {
			t.Error("settled at once")
		}
		time.Sleep(time.Minute)
		if !r.Settled() {
			t.Error("not settled after a minute")
		}
	})
}

func TestForget(t *testing.T) {
	r, _ := open(t, "")
	at := register(r, "site", &session{}, 1)
	if err := r.Forget("site"); !errors.Is(err, roster.ErrConnected) {
		t.Errorf("forgetting a connected agent: %v", err)
	}
	at.Close()
	if err := r.Forget("site"); err != nil || r.Known("site") {
		t.Errorf("forgetting a departed agent: %v", err)
	}
	if err := r.Forget("site"); !errors.Is(err, roster.ErrUnknown) {
		t.Errorf("forgetting nobody: %v", err)
	}
}

func TestMetrics(t *testing.T) {
	r, reg := open(t, "")
	register(r, "site", &session{}, 1).Measured(250*time.Millisecond, -2*time.Second)
	register(r, "gone", &session{}, 1).Close()
	want := `
# HELP relay_agent_clock_skew_seconds How far the agent's clock is ahead of the relay's, as the last heartbeat measured it.
# TYPE relay_agent_clock_skew_seconds gauge
relay_agent_clock_skew_seconds{agent="site"} -2
# HELP relay_agent_round_trip_seconds Round trip to the agent, as the last heartbeat measured it.
# TYPE relay_agent_round_trip_seconds gauge
relay_agent_round_trip_seconds{agent="site"} 0.25
# HELP relay_agent_up Whether the agent is connected to this relay.
# TYPE relay_agent_up gauge
relay_agent_up{agent="gone"} 0
relay_agent_up{agent="site"} 1
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "relay_agent_up", "relay_agent_round_trip_seconds", "relay_agent_clock_skew_seconds"); err != nil {
		t.Error(err)
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
}
