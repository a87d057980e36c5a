package tunnel_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/promslog"
	"go.uber.org/goleak"

	"pushrelay/internal/authority"
	"pushrelay/internal/change"
	"pushrelay/internal/enrol"
	"pushrelay/internal/exposition"
	"pushrelay/internal/history"
	"pushrelay/internal/mtls"
	"pushrelay/internal/push"
	"pushrelay/internal/roster"
	"pushrelay/internal/scrape"
	"pushrelay/internal/spool"
	"pushrelay/internal/target"
	"pushrelay/internal/tunnel"
	"pushrelay/internal/tunnel/tunnelclient"
	"pushrelay/internal/tunnel/tunnelserver"
)

// house is a relay's end with fakes around it, and the means to attach agents to it.
type house struct {
	t         *testing.T
	authority *authority.Authority
	registry  *roster.Registry
	server    *tunnelserver.Server
	metrics   *prometheus.Registry
	journals  *journals
	revoked   *revoked
	enrolment *enrolment
	other     *enrolment // one more protocol of the port
	log       *logLines  // of the relay
	agentLog  *logLines  // of agents; nil for none

	askRevoked func(context.Context) (string, bool) // of agents; nil for those that ask nobody
	addr       string
	dial       func(ctx context.Context, network, address string) (net.Conn, error) // of agents; nil: the network's
	resolve    func(ctx context.Context, host string) ([]netip.Addr, error)         // of agents
	proxy      *url.URL                                                             // of agents
}

// epochOfTests is that of the store of every house.
var epochOfTests = history.EpochID{1}

// pusherFunc is a push.Applier.
type pusherFunc func(ctx context.Context, r *change.Change) (change.Outcome, error)

func (f pusherFunc) Apply(ctx context.Context, r *change.Change) change.Outcome {
	o, err := f(ctx, r)
	if err != nil {
		refused := change.OutcomeOf(err)
		refused.Duplicate, refused.Decided = o.Duplicate, o.Decided
		return refused
	}
	return o
}

// outcome returns an outcome and its error.
func outcome(o change.Outcome) (change.Outcome, error) { return o, o.Err() }

// isFinal says that an error is one of a change that will never be taken.
func isFinal(err error) bool { return err != nil && change.OutcomeOf(err).IsFinal() }

// scraperFunc is a scrape.Scraper.
type scraperFunc func(ctx context.Context, r *scrape.Request) (*scrape.Response, error)

func (f scraperFunc) Scrape(ctx context.Context, r *scrape.Request) (*scrape.Response, error) {
	return f(ctx, r)
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func newHouse(t *testing.T, pusher push.Applier) *house {
	t.Helper()
	t.Cleanup(func() { goleak.VerifyNone(t) })
	return newHouseAt(t, pusher, must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0")))
}

// newHouseAt is newHouse on a listener; what it leaves behind is not looked for.
func newHouseAt(t *testing.T, pusher push.Applier, listener net.Listener) *house {
	t.Helper()
	return newHouseWith(t, pusher, listener, nil)
}

// newHouseWith is newHouseAt of a relay that knows agents with others.
func newHouseWith(t *testing.T, pusher push.Applier, listener net.Listener, sharing roster.Sharing) *house {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "authority")
	ca := must[*authority.Authority](t)(authority.Create(dir, authority.Config{}))
	ensured := must[authority.RelayCertificate](t)(ca.EnsureRelay([]string{"127.0.0.1", "relay.test"}))
	certificates := must[*mtls.Reloader](t)(mtls.NewReloader(mtls.Config{Role: mtls.Relay, Files: ensured.Files}))
	reg := prometheus.NewRegistry()
	thrownOut := &revoked{names: map[string]bool{}}
	registry := must[*roster.Registry](t)(roster.Open(roster.Config{
		ForgetAfter: time.Hour, MaxConcurrentScrapes: 8, Sharing: sharing, Logger: promslog.NewNopLogger(), Registerer: reg,
	}))
	journals := &journals{decided: map[string]tunnel.JournalState{}}
	h := &house{t: t, authority: ca, registry: registry, metrics: reg, journals: journals, revoked: thrownOut, enrolment: newEnrolment(certificates, enrol.Protocol), other: newEnrolment(certificates, otherProtocol), log: &logLines{}}
	h.server = tunnelserver.New(tunnelserver.Config{
		History: func() history.History {
			return history.History{Epochs: []history.Epoch{{ID: epochOfTests}}, Position: 7}
		},
		Certificates: certificates, Revoked: thrownOut.refuses, Enrolment: h.enrolment, Protocols: map[string]tunnelserver.Protocol{otherProtocol: h.other}, Registry: registry, Applier: pusher, Budget: push.NewBudget(2 << 20), Journals: journals,
		Limits: exposition.Limits{MaxDecompressedBytes: 1 << 20, MaxLabels: 64, MaxLabelLength: 16 << 10}, Registerer: reg,
		Logger: slog.New(slog.NewTextHandler(h.log, nil)),
	})
	h.addr = listener.Addr().String()
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := h.server.Serve(listener); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		h.server.Stop()
		serving.Wait()
	})
	return h
}

// logLines keeps what is logged.
type logLines struct {
	mu    sync.Mutex
	lines []string // guarded by mu
}

func (l *logLines) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, string(line))
	return len(line), nil
}

// with returns the lines that have all the parts.
func (l *logLines) with(parts ...string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(l.lines), func(line string) bool {
		return slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(line, part) })
	})
}

// dialled is an agent: its link, and the spool behind it, in memory.
type dialled struct {
	*tunnelclient.Link
	spool *spool.Spool
	dir   string // of its certificate
}

// attach starts an agent and waits until the relay knows its targets. The function that it returns ends the agent.
func (h *house) attach(name string, scraper scrape.Scraper) (*dialled, func()) {
	h.t.Helper()
	link, stop := h.start(h.authority, name, scraper)
	eventually(h.t, "agent is attached on both sides", func() bool {
		for _, a := range h.registry.Agents() {
			if a.Name == name && a.Connected && len(a.Targets) == 1 {
				return link.Status().Connected
			}
		}
		return false
	})
	return link, stop
}

// start starts an agent with a certificate of the given authority.
func (h *house) start(ca *authority.Authority, name string, scraper scrape.Scraper) (*dialled, func()) {
	h.t.Helper()
	return h.startLink(ca, name, tunnelclient.NewProcess(), scraper)
}

// startLink is start of one more link of a process.
func (h *house) startLink(ca *authority.Authority, name string, process *tunnelclient.Process, scraper scrape.Scraper) (*dialled, func()) {
	h.t.Helper()
	dir := h.t.TempDir()
	issued := must[authority.Issued](h.t)(ca.IssueAgent(name))
	issued.CAPEM = slices.Concat(h.authority.CACertPEM(), ca.CACertPEM()) // it trusts this relay all the same
	if err := authority.WriteIssued(dir, "agent", issued); err != nil {
		h.t.Fatal(err)
	}
	certificates := must[*mtls.Reloader](h.t)(mtls.NewReloader(mtls.Config{Role: mtls.Agent, Files: mtls.Files{
		CertFile: filepath.Join(dir, "agent.crt"), KeyFile: filepath.Join(dir, "agent.key"), CAFile: filepath.Join(dir, "ca.crt"),
	}}))
	waiting := spool.New(spool.Config{
		Agent: name, Relays: []string{h.addr}, Wait: 10 * time.Second, Logger: promslog.NewNopLogger(), Registerer: prometheus.NewRegistry(),
	})
	if err := waiting.Recover(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
	link := tunnelclient.NewLink(tunnelclient.Config{
		Address: h.addr, Dial: h.dial, Resolve: h.resolve, Proxy: h.proxy, Certificates: certificates, AskRevoked: h.askRevoked, Scraper: scraper, Spool: waiting, MaxConcurrentScrapes: 8,
		Process: process, Logger: h.agentLog.logger(), Metrics: tunnelclient.NewMetrics(prometheus.NewRegistry()),
	})
	link.SetTargets(target.Set{Completeness: target.Complete, Targets: []target.Target{{
		Name: "t", Job: "job", Instance: "i", Address: "localhost:1", Scheme: "http", MetricsPath: "/metrics",
	}}})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { link.Run(ctx) })
	stop := func() {
		cancel()
		running.Wait()
	}
	h.t.Cleanup(stop)
	return &dialled{link, waiting, dir}, stop
}

// eventually waits for what other goroutines bring about over real sockets.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never happened: %s", what)
		}
	}
}

// answer is a scraper that answers with a body.
func answer(body io.ReadCloser) scraperFunc {
	return func(context.Context, *scrape.Request) (*scrape.Response, error) {
		return &scrape.Response{Status: 200, Header: http.Header{"Content-Type": {"text/plain"}}, ContentLength: -1, Body: body}, nil
	}
}

func (h *house) scrape(ctx context.Context, agent string) (*scrape.Response, []byte, error) {
	resp, err := h.registry.Scrape(ctx, &scrape.Request{Agent: agent, Target: "t", Method: http.MethodGet, Header: http.Header{}})
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp, body, err
}

func noPushes(context.Context, *change.Change) (change.Outcome, error) {
	return change.Outcome{}, change.Refuse(change.Unavailable, "no pushes here")
}

func timeout(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}
