package queryapi

import (
	"errors"
	"net/http"
	"time"

	"github.com/prometheus/common/route"

	"pushrelay/internal/policy"
	"pushrelay/internal/relayapi"
	"pushrelay/internal/roster"
)

// Registry is what the API needs of roster.Registry.
type Registry interface {
	// Agents returns what is known of every agent, sorted by name.
	Agents() []roster.Agent
	// Forget removes a departed agent.
	Forget(name string) error
}

// Accounts is what the API needs of a store to tell what agents hold in it.
type Accounts interface {
	// Account returns how many groups and series an agent has.
	Account(agent string) (groups, series int)
}

// agentJSON is one agent in the answer to GET /api/v1/agents.
type agentJSON struct {
	Agent               string       `json:"agent"`
	Connected           bool         `json:"connected"`
	Conflict            bool         `json:"conflict"`
	SessionStarted      *time.Time   `json:"session_started"`
	LastSeen            *time.Time   `json:"last_seen"`
	Version             string       `json:"version"`
	RemoteAddress       string       `json:"remote_address"`
	RoundTripSeconds    *float64     `json:"round_trip_seconds"`
	ClockSkewSeconds    *float64     `json:"clock_skew_seconds"`
	SpoolPending        uint64       `json:"spool_pending"`
	Groups              *int         `json:"groups"` // null for who may not read the status
	Series              *int         `json:"series"`
	CertificateNotAfter *time.Time   `json:"certificate_not_after"`
	Targets             []targetJSON `json:"targets"`
	TargetsDown         int          `json:"targets_down"`
	TargetsDenied       int          `json:"targets_denied"`
}

type targetJSON struct {
	Target              string            `json:"target"`
	Job                 string            `json:"job"`
	Instance            string            `json:"instance"`
	Address             string            `json:"address"`
	Labels              map[string]string `json:"labels"`
	LastScrape          *time.Time        `json:"last_scrape"`
	LastDurationSeconds *float64          `json:"last_duration_seconds"`
	LastStatus          *int              `json:"last_status"`
	LastError           string            `json:"last_error"`
	ListedUntil         *time.Time        `json:"listed_until"`
}

// Agents serves GET /api/v1/agents: those that the request's user may scrape.
func Agents(registry Registry, accounts Accounts) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		user := policy.UserOf(r.Context())
		if !permit(w, user.ScrapeSome()) {
			return
		}
		known := roster.Visible(registry.Agents(), user.Sight())
		out := make([]agentJSON, 0, len(known))
		for _, a := range known {
			one := newAgentJSON(a)
			if user.SeesStatus() {
				groups, series := accounts.Account(a.Name)
				one.Groups, one.Series = &groups, &series
			}
			out = append(out, one)
		}
		respond(w, out)
	}
}

// ForgetAgent serves DELETE /api/v1/agents/:agent.
func ForgetAgent(registry Registry) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		err := registry.Forget(route.Param(r.Context(), "agent"))
		switch {
		case errors.Is(err, roster.ErrUnknown):
			respondError(w, http.StatusNotFound, "not_found", err)
		case errors.Is(err, roster.ErrConnected):
			respondError(w, http.StatusConflict, "conflict", err)
		case err != nil:
			respondError(w, http.StatusInternalServerError, "internal", err)
		default:
			w.WriteHeader(http.StatusAccepted)
		}
	}
}

func newAgentJSON(a roster.Agent) agentJSON {
	out := agentJSON{
		Agent: a.Name, Connected: a.Connected, Conflict: a.Conflict, Version: a.Version, RemoteAddress: a.RemoteAddress,
		SessionStarted: relayapi.TimeOrNull(a.SessionStarted), LastSeen: relayapi.TimeOrNull(a.LastSeen),
		RoundTripSeconds: secondsOrNull(a.RoundTrip), ClockSkewSeconds: secondsOrNull(a.ClockSkew),
		SpoolPending: a.SpoolPending, CertificateNotAfter: relayapi.TimeOrNull(a.CertificateNotAfter),
		Targets: make([]targetJSON, 0, len(a.Targets)), TargetsDown: a.Down(), TargetsDenied: a.Withheld,
	}
	for _, t := range a.Targets {
		tj := targetJSON{
			Target: t.Name, Job: t.Job, Instance: t.Instance, Address: t.Address, Labels: make(map[string]string, len(t.Labels)),
			LastScrape: relayapi.TimeOrNull(t.LastScrape), LastError: t.LastError, ListedUntil: relayapi.TimeOrNull(t.ListedUntil),
		}
		for _, l := range t.Labels {
			tj.Labels[l.Name] = l.Value
		}
		if !t.LastScrape.IsZero() {
			tj.LastDurationSeconds = secondsOrNull(&t.LastDuration)
		}
		if t.LastStatus != 0 {
			tj.LastStatus = &t.LastStatus
		}
		out.Targets = append(out.Targets, tj)
	}
	return out
}

func secondsOrNull(d *time.Duration) *float64 {
	if d == nil {
		return nil
	}
	seconds := d.Seconds()
	return &seconds
}
