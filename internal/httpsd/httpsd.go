// Package httpsd lists the targets behind agents for Prometheus' HTTP service discovery.
//
// Every target group carries all that Prometheus needs as labels, so that no relabelling is needed: which path of the
// relay to scrape, and the job, instance and agent that the series shall have. An empty list makes Prometheus drop all
// targets, so the handler says "not yet" instead for as long as it does not know better.
package httpsd

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/common/model"

	"pushrelay/internal/policy"
	"pushrelay/internal/roster"
	"pushrelay/internal/target"
)

// Labels of every target beside job, instance and those of its configuration.
const (
	agentLabel     = "agent"
	connectedLabel = "__meta_relay_agent_connected"
	lastSeenLabel  = "__meta_relay_agent_last_seen"
	addressLabel   = "__meta_relay_target_address"
)

// Registry is what the handler needs of roster.Registry.
type Registry interface {
	// Agents returns what is known of every agent.
	Agents() []roster.Agent
	// Settled reports whether that is the truth, or may be because nothing came yet.
	Settled() bool
}

// Config is what a [Handler] works with.
type Config struct {
	// Registry knows the targets. Required.
	Registry Registry
	// ExternalURL is how Prometheus reaches the relay; nil if it is not configured: then as this request did.
	ExternalURL *url.URL
	// RoutePrefix is the prefix of all routes, without a trailing slash, for relays without an external URL.
	RoutePrefix string
}

// Handler serves GET /sd/targets[?agent=…&job=…].
type Handler struct {
	cfg Config
}

// NewHandler returns a handler. It starts nothing.
func NewHandler(cfg Config) *Handler { return &Handler{cfg: cfg} }

// targetGroup is one element of the answer, as Prometheus defines it.
type targetGroup struct {
	Targets []string          `json:"targets"`
	Labels  map[string]string `json:"labels"`
}

// ServeHTTP answers with the targets of all agents, departed ones included, or of those asked for.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	for name := range query {
		if name != "agent" && name != "job" { // a filter that is misspelt would be none, and all targets the answer
			http.Error(w, fmt.Sprintf("unknown parameter %q, want agent or job", name), http.StatusBadRequest)
			return
		}
	}
	self := h.self(r)
	h.respond(w, r, func(agents []roster.Agent) []targetGroup {
		groups := []targetGroup{}
		for _, a := range agents {
			if wanted(query, "agent", a.Name) {
				groups = self.appendAgent(groups, a, query)
			}
		}
		return groups
	})
}

// ServeClients serves GET /clients as PushProx does, for those who come from there: the hosts that can be scraped through
// the relay as a proxy, without ports.
func (h *Handler) ServeClients(w http.ResponseWriter, r *http.Request) {
	h.respond(w, r, func(agents []roster.Agent) []targetGroup {
		hosts := map[string]bool{}
		for _, a := range agents {
			for _, t := range a.Targets {
				hosts[hostOf(t.Instance)] = true
			}
		}
		groups := make([]targetGroup, 0, len(hosts))
		for _, host := range slices.Sorted(maps.Keys(hosts)) {
			groups = append(groups, targetGroup{Targets: []string{host}, Labels: map[string]string{}})
		}
		return groups
	})
}

func hostOf(instance string) string {
	if host, _, err := net.SplitHostPort(instance); err == nil {
		return host
	}
	return instance
}

// respond answers with target groups of the agents that the request's user may scrape, or that it does not know them yet. An empty list would
// make Prometheus drop its targets: whoever may scrape none at all is told so.
func (h *Handler) respond(w http.ResponseWriter, r *http.Request, groups func([]roster.Agent) []targetGroup) {
	user := policy.UserOf(r.Context())
	if !policy.Permit(w, user.ScrapeSome()) {
		return
	}
	if !h.cfg.Registry.Settled() {
		w.Header().Set("Retry-After", "5")
		http.Error(w, "no agent has announced its targets since this relay started without any: not yet an answer", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(groups(roster.Visible(h.cfg.Registry.Agents(), user.Sight()))) //nolint:errcheck,errchkjson // The scraper that does not read its targets asks again.
}

// wanted reports whether a value passes the filter of that name; several filters of one name mean any of them.
func wanted(query url.Values, name, value string) bool {
	return len(query[name]) == 0 || slices.Contains(query[name], value)
}

// relay is how Prometheus reaches this relay.
type relay struct {
	host, scheme, prefix string
}

func (h *Handler) self(r *http.Request) relay {
	if u := h.cfg.ExternalURL; u != nil && u.Host != "" {
		return relay{host: u.Host, scheme: u.Scheme, prefix: trimSlash(u.Path)}
	}
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	return relay{host: r.Host, scheme: scheme, prefix: h.cfg.RoutePrefix}
}

func trimSlash(path string) string {
	for path != "" && path[len(path)-1] == '/' {
		path = path[:len(path)-1]
	}
	return path
}

func (s relay) appendAgent(groups []targetGroup, a roster.Agent, query url.Values) []targetGroup {
	for _, t := range a.Targets {
		if !wanted(query, "job", t.Job) {
			continue
		}
		labels := make(map[string]string, len(t.Labels)+8)
		for _, l := range t.Labels {
			labels[l.Name] = l.Value
		}
		labels[model.JobLabel] = t.Job
		labels[model.InstanceLabel] = t.Instance
		labels[agentLabel] = a.Name
		labels[model.SchemeLabel] = s.scheme
		labels[model.MetricsPathLabel] = s.prefix + "/agents/" + url.PathEscape(a.Name) + "/targets/" + url.PathEscape(t.Name) + "/metrics"
		labels[connectedLabel] = strconv.FormatBool(a.Connected)
		labels[lastSeenLabel] = a.LastSeen.UTC().Format(time.RFC3339)
		labels[addressLabel] = t.Address
		// Earlier agents announce half a pair.
		if interval, timeout := target.FitTimes(t.ScrapeInterval, t.ScrapeTimeout, target.DefaultScrapeTimeout); interval > 0 {
			labels[model.ScrapeIntervalLabel] = model.Duration(interval).String()
			labels[model.ScrapeTimeoutLabel] = model.Duration(timeout).String()
		}
		groups = append(groups, targetGroup{Targets: []string{s.host}, Labels: labels})
	}
	return groups
}
