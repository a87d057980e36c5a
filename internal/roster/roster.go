// Package roster knows the agents: who was here, who is connected, what they can scrape. Scrapes find their session here.
//
// What is known survives a restart (see [Config.File]): an agent that went away stays listed until it is forgotten, so that
// Prometheus records up 0 for its targets instead of losing them. The package knows no gRPC, no HTTP and no store; it is
// used through Register, Scrape and Agents, and nobody may assume that a session is local. Start reading at [Registry].
package roster

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"pushrelay/internal/loglimit"
	"pushrelay/internal/monotonic"
	"pushrelay/internal/scrape"
	"pushrelay/internal/target"
)

// announceWait is how long a registry that began empty says that it knows nothing yet, unless an agent comes before.
const announceWait = time.Minute

// Session is a live session of one agent.
type Session interface {
	// Scraper scrapes the targets of this agent. Its errors are [*scrape.Error] where the reason has a name.
	scrape.Scraper
	// Supersede ends the session because the same agent registered again, from the given address. It does not wait. A session whose own process did that
	// is superseded when the scrapes that it was asked for before are answered.
	Supersede(by string)
	// Revoke ends the session because the agent, or its certificate, was revoked, with the reason in one line. It does not wait.
	Revoke(reason string)
	// TellWithheld tells the agent which of its targets are not listed; none if all are again. It is called under the registry's lock: it neither waits
	// nor calls the registry.
	TellWithheld(w Withheld)
}

// Registration is an agent that begins a session.
type Registration struct {
	// Agent is the verified identity.
	Agent string
	// Session is the live session. Required.
	Session Session
	// ProcessID tells two processes with one identity from one process that reconnects.
	ProcessID [16]byte
	// Attach is the number of the attempt among all of the process, on whatever relay; 0 if it does not count.
	Attach uint64
	// Version and RemoteAddress are for people.
	Version, RemoteAddress string
	// CertificateNotAfter is when the agent's certificate expires, CertificateSerial its serial number as mtls.Serial returns it.
	CertificateNotAfter time.Time
	CertificateSerial   string
	// TrustDomain is that of the agent's identity. Its name is bound to it for as long as the agent is known.
	TrustDomain string
	// Refused reports whether the certificate is revoked by now, and why. It is asked under the registry's lock; nil refuses none.
	Refused func() (reason string, refused bool)
	// Targets replace those that are known, in the same moment in which the agent becomes connected, if HasTargets says so.
	// They must be valid.
	Targets    target.Set
	HasTargets bool
}

func (r *Registration) refused() (reason string, refused bool) {
	if r.Refused == nil {
		return "", false
	}
	return r.Refused()
}

// Config is what a [Registry] works with.
type Config struct {
	// File keeps what is known over a restart; empty keeps it in memory.
	File string
	// ForgetAfter is how long a departed agent stays known. Required.
	ForgetAfter time.Duration
	// MaxConcurrentScrapes bounds the scrapes of one agent at once, if there are no Terms.
	MaxConcurrentScrapes int
	// Terms returns what an agent may have, nil for the same for all. It is asked under the registry's lock, and anew by Review.
	Terms func(agent string) Terms
	// ThrownOut reports whether an agent is thrown out, and why; nil for nobody is. It is asked under the registry's lock.
	ThrownOut func(agent string) (reason string, out bool)
	// Withheld is told when other targets of an agent than before are not listed; nil for nobody is. It may block.
	Withheld func(agent string, w Withheld)
	// Release is written into the file, for people who meet it with another one.
	Release string
	// Scraped is told of each scrape that has ended, with the bytes of its body, and why it failed; empty if it did not. Nil tells nobody. It is
	// called under the registry's lock.
	Scraped func(agent string, bytes int64, fault string)
	// Sharing is how other relays know the same agents; nil for a relay by itself.
	Sharing Sharing
	// Logger reports agents that come and go. Required.
	Logger *slog.Logger
	// Registerer takes the registry's metrics. Required.
	Registerer prometheus.Registerer
}

// Registry knows the agents. It is safe for concurrent use.
type Registry struct {
	cfg     Config
	metrics *metrics
	// changed wakes Run to write the file. One slot: a change that is waiting stands for all.
	changed chan struct{}
	saved   []byte            // what the file holds; owned by Run
	lines   *loglimit.Limiter // by agent
	changes atomic.Uint64     // see Changes
	shared  bool              // there are other relays
	sharing Sharing           // never nil

	mu          sync.Mutex
	agents      map[string]*listedAgent // guarded by mu
	byHost      hosts                   // guarded by mu; the targets of all agents
	lastSession uint64                  // guarded by mu
	lastClaim   uint64                  // guarded by mu; the number of the last announcement that changed something
	settledAt   time.Time               // guarded by mu; from when on an empty list of targets is the truth
	rebuilding  bool                    // guarded by mu; agents that were known before may be unknown now
	announced   bool                    // guarded by mu; some agent has announced targets
	draining    bool                    // guarded by mu
}

// listedAgent is guarded by Registry.mu.
type listedAgent struct {
	Agent
	targets   map[string]*Target
	order     []string      // names of targets in the agent's own order, then of those that it announces no more
	scrapes   int           // in progress
	session   Session       // nil while not connected
	current   *Attachment   // of the session; nil while not connected
	processes []process     // that were attached of late, the last one last
	conflict  time.Time     // when one came back last that another had taken the session from
	refused   int           // targets of the file that cannot be; not listed
	lines     *rate.Limiter // of the log, about what the agent announces, as often as it likes
	withheld  withholding
	retired   map[*Attachment]retired
	elsewhere []string // relays that it has a session with, the best first; without this one
}

// nobodyIsOut is Config.ThrownOut of a registry without.
func nobodyIsOut(string) (string, bool) { return "", false }

// toldNobody is Config.Scraped of a registry without.
func toldNobody(string, int64, string) {}

// Open returns a registry with what the file holds. A missing file is an empty registry, and so is a damaged one, which is kept
// under another name; agents announce themselves again.
func Open(cfg Config) (*Registry, error) {
	if cfg.Terms == nil {
		cfg.Terms = func(string) Terms { return Terms{MaxConcurrentScrapes: cfg.MaxConcurrentScrapes} }
	}
	if cfg.Scraped == nil {
		cfg.Scraped = toldNobody
	}
	if cfg.ThrownOut == nil {
		cfg.ThrownOut = nobodyIsOut
	}
	r := &Registry{cfg: cfg, changed: make(chan struct{}, 1), lines: loglimit.New(), agents: map[string]*listedAgent{}, byHost: hosts{}, shared: cfg.Sharing != nil, sharing: cfg.Sharing}
	if !r.shared {
		r.sharing = alone{}
	}
	known, damaged, err := load(cfg.File)
	if err != nil {
		return nil, err
	}
	if damaged != nil {
		cfg.Logger.Warn("the file of known agents is damaged and was set aside: agents are known again as they attach, and until a minute has passed and one has come /sd/targets answers 503",
			slog.String("file", cfg.File), slog.String("saved_as", cfg.File+damagedSuffix), slog.Any("err", damaged))
		r.rebuilding = true
	}
	for _, a := range known {
		r.agents[a.Name] = a
		r.withhold(a)
		r.byHost.add(a)
		for _, t := range a.targets {
			r.lastClaim = max(r.lastClaim, t.InstanceSince, t.AddressSince)
		}
		if a.refused > 0 {
			cfg.Logger.Warn("targets of an agent in the file of known agents are beyond the bounds, or are none, and are listed no more", slog.String("agent", a.Name), slog.Int("count", a.refused))
		}
	}
	if len(known) == 0 {
		r.settledAt = time.Now().Add(announceWait)
	}
	r.metrics = newMetrics(cfg.Registerer, r)
	return r, nil
}

func newAgent(known Agent) *listedAgent {
	return &listedAgent{Agent: known, lines: rate.NewLimiter(rate.Every(time.Minute), 3)}
}

// Register begins a session. The newest wins: an earlier session of the agent is ended at once, or if it is of the same process as soon as the scrapes are
// answered that it was asked for. The caller closes the attachment when its session ends. One whose certificate was revoked since its handshake begins none, a
// [*RevokedError], and neither does one whose name is that of an agent of another trust domain, a [*TakenError], or one that its process has made before
// the session that is there, a [*StaleError]. Where other relays know the same agents it waits a moment for them to know of the session.
func (r *Registry) Register(reg Registration) (*Attachment, error) {
	if r.shared && !r.Known(reg.Agent) {
		if err := r.sharing.Admit(reg.Agent, reg.TrustDomain); err != nil {
			return nil, err
		}
	}
	at, err := r.register(reg)
	if err == nil {
		r.sharing.Await(at)
	}
	return at, err
}

func (r *Registry) register(reg Registration) (*Attachment, error) {
	now := time.Now()
	r.mu.Lock()
	// Under the lock, so that each session is seen here or by EndRevoked.
	if reason, refused := reg.refused(); refused {
		r.mu.Unlock()
		return nil, &RevokedError{reason}
	}
	a, known := r.agents[reg.Agent]
	if known {
		if err := a.checkDomain(reg.TrustDomain); err != nil {
			r.mu.Unlock()
			return nil, err
		}
		if err := a.checkOrder(&reg); err != nil {
			r.mu.Unlock()
			return nil, err
		}
	}
	if !known {
		a = newAgent(Agent{Name: reg.Agent})
		r.agents[reg.Agent] = a
	}
	old, oldAddress := a.session, a.RemoteAddress
	if !r.shared {
		a.attach(reg.ProcessID, now)
	}
	r.lastSession++
	at := &Attachment{registry: r, agent: a, process: reg.ProcessID, attach: reg.Attach, remote: reg.RemoteAddress, refused: reg.refused, Number: r.lastSession}
	at.live.Store(true)
	continues := a.current != nil && a.current.process == reg.ProcessID
	if a.current != nil {
		a.current.live.Store(false)
		if continues && a.current.scrapes > 0 && now.Sub(a.LastSeen) < retireIfHeard {
			r.retire(a, reg.RemoteAddress)
			old = nil
		}
	}
	a.session, a.current = reg.Session, at
	a.Connected, a.SessionStarted, a.LastSeen = true, now, now
	a.Version, a.RemoteAddress, a.CertificateNotAfter = reg.Version, reg.RemoteAddress, reg.CertificateNotAfter
	a.CertificateSerial, a.TrustDomain = reg.CertificateSerial, reg.TrustDomain
	a.Sessions++
	r.changes.Add(1)
	a.RoundTrip, a.ClockSkew, a.SpoolPending = nil, nil, 0
	a.withheld.told = ""
	var done announcement
	if reg.HasTargets {
		done = r.replaceTargets(a, reg.ProcessID, reg.Targets)
	} else {
		done.withheld = a.tellWithheld()
	}
	done.changed = done.changed || !known
	conflict := a.inConflict(now)
	r.sharing.Attached(at)
	r.mu.Unlock()

	if old != nil {
		old.Supersede(reg.RemoteAddress)
	}
	if old != nil && !continues {
		r.lines.Log(r.cfg.Logger, slog.LevelWarn, reg.Agent, "session taken over", slog.String("agent", reg.Agent), slog.String("addr", reg.RemoteAddress), slog.String("previous_addr", oldAddress), slog.Bool("conflict", conflict))
	}
	r.note(reg.Agent, done)
	return at, nil
}

// Settled reports whether what Agents says of targets is the truth. A registry that began empty knows nothing yet: taken
// for the truth, it would make Prometheus drop every target. One that has lost its file knows less than the truth for as long
// as agents take to come back, whoever comes first.
func (r *Registry) Settled() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.settled()
}

// settled is Settled. The caller holds mu.
func (r *Registry) settled() bool {
	return !time.Now().Before(r.settledAt) && (r.announced || !r.rebuilding)
}

// mayReplace reports whether the file can be replaced by what is known now.
func (r *Registry) mayReplace() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.rebuilding || r.settled()
}

// Drain makes every further scrape fail with the reason draining. Scrapes that run go on.
func (r *Registry) Drain() {
	r.mu.Lock()
	r.draining = true
	r.mu.Unlock()
}

// wake lets Run write the file.
func (r *Registry) wake() {
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// Run keeps the file up to date and forgets agents that are long gone, until ctx ends; it then writes the file once more.
func (r *Registry) Run(ctx context.Context) error {
	minute := time.NewTicker(time.Minute)
	defer minute.Stop()
	for {
		select {
		case <-ctx.Done():
			// What is lost without it is when agents were last seen: no reason to end in failure.
			r.keep()
			return nil
		case <-minute.C:
			r.forgetDeparted(time.Now())
		case <-r.changed:
		}
		r.keep()
		// A storm of changes costs one write a second.
		monotonic.Sleep(ctx, time.Second)
	}
}

// keep writes the file. What fails is tried again with the next change, or in a minute.
func (r *Registry) keep() {
	if err := r.save(); err != nil {
		r.metrics.unsaved.Inc()
		r.cfg.Logger.Error("saving the known agents", slog.Any("err", err))
	}
}
