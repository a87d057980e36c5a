// Package web is the pages that people look at: whether all is well, agents and their targets with the whole way from Prometheus to each,
// groups with what was pushed and what became of it, and the flags. What they find they can delete there.
//
// It promises pages that are bounded however full the store is, that read well without a script and need nothing from elsewhere, and in
// which whatever others wrote is text and never markup. What changes something asks for the rights of who asks, and for proof that it comes
// from a page of ours. Start reading at [Handler.Mount].
package web

import (
	"context"
	"crypto/rand"
	"embed"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"github.com/prometheus/common/route"

	"pushrelay/internal/grouping"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/metric"
	"pushrelay/internal/recent"
	"pushrelay/internal/relayapi"
	"pushrelay/internal/roster"
	"pushrelay/internal/webpage"
)

// Store is where the groups are.
type Store interface {
	// Snapshot returns the present state. It must not block for long.
	Snapshot() *groupstore.View
	// Select returns the present state of those groups for which keep is true. It may take as long as ctx lives.
	Select(ctx context.Context, keep func(groupstore.Group) bool) (*groupstore.View, error)
	// Group returns one group as it is at present; found is false if there is none.
	Group(key grouping.Key) (g groupstore.Group, found bool)
	// Stats returns the present sizes.
	Stats() groupstore.Stats
	// Account returns how many groups and series an agent has.
	Account(agent string) (groups, series int)
	// Position is another number after each change.
	Position() uint64
}

// Agents is what is known of agents.
type Agents interface {
	// Agents returns what is known of every agent, sorted by name.
	Agents() []roster.Agent
	// Agent returns what is known of one.
	Agent(name string) (roster.Agent, bool)
	// Changes is another number once who is connected, what is announced, or which targets are down is not as it was.
	Changes() uint64
	// Forget removes a departed agent.
	Forget(name string) error
}

// Deleter deletes groups.
type Deleter interface {
	// DeleteSeen deletes groups by their canonical keys, each if it has the version that it was seen with.
	DeleteSeen(ctx context.Context, versions map[string]uint64) (relayapi.Deletion, error)
}

// Health is how the relay itself is.
type Health struct {
	// StoreFailure is why the store takes no changes; empty if it does. Losses are what it has lost and nobody has taken note of.
	StoreFailure string
	Losses       []string
	// CertificateNotAfter is when the certificate ends that agents are shown; zero if there is none.
	CertificateNotAfter time.Time
}

// AgentTerms are what an agent may have.
type AgentTerms struct {
	// MaxGroups and MaxSeries bound what its groups hold; 0 for no limit.
	MaxGroups, MaxSeries int
	// Policy says in sentences what the policy file says of the agent; nil if it says nothing.
	Policy []string
}

// Config is what a [Handler] works with.
type Config struct {
	// Store has the groups, Agents the agents, Recent what happened of late. Required.
	Store  Store
	Agents Agents
	Recent *recent.Recent
	// Deleter deletes groups. Required.
	Deleter Deleter
	// Rights says what who asks may see and change. Required.
	Rights func(r *http.Request) Rights
	// Health says how the relay is. Required.
	Health func() Health
	// AgentTerms says what an agent may have. Required.
	AgentTerms func(agent string) AgentTerms
	// Cluster is what is known of the relay's cluster; nil for a relay by itself. It must not block: it is asked for each page, and each second while one is
	// open.
	Cluster func() *ClusterView
	// AgentLabel is the grouping label of agents' groups; empty for none.
	AgentLabel string

	// Flags are all flags as text, by name, and Build what is known of how the program was built.
	Flags, Build map[string]string
	// StartedAt is when the program started.
	StartedAt time.Time
	// TelemetryPath is where the exposition is, below the route prefix.
	TelemetryPath string
	// RoutePrefix stands before all paths; empty, or with a leading slash.
	RoutePrefix string
	// ExternalURL is how others reach the relay; nil if that is how they ask.
	ExternalURL *url.URL
	// AgentsPort is where agents dial in; empty if they cannot. DataDir is where the relay keeps what it issues certificates with; empty for none.
	AgentsPort, DataDir string
	// Names is how the push routes read label names.
	Names metric.NameScheme
	// Logger reports a page that could not be made. Required.
	Logger *slog.Logger
}

//go:embed templates/*.html
var templateFiles embed.FS

// Handler serves the pages. It is safe for concurrent use and starts nothing but Run.
type Handler struct {
	cfg   Config
	pages *webpage.Pages
	live  *live

	summaries summaries
	secret    [32]byte // of the tokens that pages prove by that they are ours
}

// places are the pages that every page leads to.
func places(cfg *Config) []webpage.Place {
	all := []webpage.Place{
		{Name: overview, Path: ""},
		{Name: "Agents", Path: "agents"},
		{Name: "Targets", Path: "targets"},
		{Name: "Groups", Path: "groups"},
	}
	if cfg.Cluster != nil {
		all = append(all, webpage.Place{Name: "Relays", Path: "relays"})
	}
	return append(all, webpage.Place{Name: "First steps", Path: "start"}, webpage.Place{Name: "Status", Path: "status"})
}

const overview = "Overview"

// New returns a handler.
func New(cfg Config) *Handler {
	h := &Handler{
		cfg: cfg, live: newLive(&cfg),
		pages: webpage.New(webpage.Config{
			Templates: templates(), Program: "pushrelay", Places: places(&cfg), Events: "events", Logger: cfg.Logger,
		}),
	}
	rand.Read(h.secret[:])
	return h
}

// Run tells pages that are open of changes, until ctx ends.
func (h *Handler) Run(ctx context.Context) error { return h.live.run(ctx) }

// Mount registers the pages. What they change is another handler's: [Handler.TakeChanges].
func (h *Handler) Mount(r *route.Router, counted func(name string, h http.HandlerFunc) http.HandlerFunc) {
	all := func(path string, show http.HandlerFunc) { // every page is there, so that HEAD costs none
		r.Get(path, show)
		r.Head(path, h.pages.ShowHead)
	}
	one := func(path string, show http.HandlerFunc) {
		r.Get(path, show)
		r.Head(path, show)
	}
	r.Get("/", counted("status", h.showOverview))
	r.Head("/", counted("status", h.pages.ShowHead))
	r.Get("/status", counted("status", h.showStatus))
	r.Head("/status", counted("status", h.pages.ShowHead))
	all("/start", h.showStart)
	all("/agents", h.showAgents)
	all("/targets", h.showTargets)
	all("/groups", h.showGroups)
	all("/groups/delete", h.showDeletion)
	all("/refused", h.showRefused)
	if h.cfg.Cluster != nil {
		all("/relays", h.showRelays)
	}
	one("/agents/:agent", h.showAgent)
	one("/agents/:agent/targets/:target", h.showTarget)
	one("/group/*labels", h.showGroup)
	one("/assets/:version/:name", h.pages.ServeAsset)
	r.Get("/events", func(w http.ResponseWriter, r *http.Request) {
		if rights := h.cfg.Rights(r); rights.Nothing != nil {
			http.Error(w, rights.Nothing.Error(), http.StatusForbidden)
			return
		}
		h.live.serve(w, r)
	})
}

// show answers with a page that its reader may see a part of.
func (h *Handler) show(w http.ResponseWriter, r *http.Request, depth int, newPage func(rights *Rights, now time.Time) webpage.Page) {
	rights := h.cfg.Rights(r)
	if rights.Nothing != nil {
		http.Error(w, rights.Nothing.Error(), http.StatusForbidden)
		return
	}
	h.pages.Show(w, r, depth, func(now time.Time) webpage.Page {
		page := newPage(&rights, now)
		if !rights.HidesStatus {
			page.Version = h.cfg.Build["version"]
		}
		return page
	})
}

// An absence says that something is not shown, and why.
type absence struct{ Title, Words string }

// notForYou is the page of what the relay tells of itself, for who may not read it.
func notForYou() webpage.Page {
	const title = "Not for you"
	return webpage.Page{
		Template: "missing", Title: title, Status: http.StatusForbidden,
		Content: absence{title, "What the relay tells of itself is not for you to read. The policy file says for whom it is."},
	}
}

// missing is the page of what is not there, or is not for who asks.
func missing(what string) webpage.Page {
	return webpage.Page{Template: "missing", Title: "Not here", Status: http.StatusNotFound, Content: absence{"Not here", what}}
}
