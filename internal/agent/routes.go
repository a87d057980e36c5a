package agent

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/common/route"
	"github.com/prometheus/common/version"

	"pushrelay/internal/push"
)

// routes is every route of the agent. There is none that wipes: an agent answers for its own groups only.
func (a *Agent) routes() http.Handler {
	r := route.New()
	a.pushes.Mount(r, func(_ string, h http.HandlerFunc) http.HandlerFunc { return h })
	r.Get("/metrics", promhttp.HandlerFor(a.registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}).ServeHTTP)
	r.Get("/api/v1/status", a.status)
	r.Get("/-/healthy", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "OK") })
	r.Get("/-/ready", a.ready)
	r.Post("/-/reload", a.reload)
	mux := http.NewServeMux() // cleans paths, as in front of a Pushgateway
	mux.Handle("/", r)
	return push.RefuseAmbiguous("", mux)
}

// ready says whether the agent takes pushes, and in further lines how its relays are.
func (a *Agent) ready(w http.ResponseWriter, _ *http.Request) {
	if err := a.spool.Failure(); err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintf(w, "the spool takes no pushes: %v\n", err)
	} else {
		fmt.Fprintln(w, "OK")
	}
	for _, link := range a.links {
		st := link.Status()
		if st.Connected {
			fmt.Fprintf(w, "relay %s: connected since %s\n", st.Address, st.Since.UTC().Format(time.RFC3339))
			continue
		}
		fmt.Fprintf(w, "relay %s: not connected since %s: %s\n", st.Address, st.Since.UTC().Format(time.RFC3339), st.LastError)
	}
}

func (a *Agent) reload(w http.ResponseWriter, _ *http.Request) {
	if err := a.Reload(); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.WriteHeader(http.StatusOK)
}

// statusJSON is the answer to GET /api/v1/status.
type statusJSON struct {
	Version   string       `json:"version"`
	StartTime time.Time    `json:"start_time"`
	Relays    []relayJSON  `json:"relays"`
	Targets   []targetJSON `json:"targets"`
}

type relayJSON struct {
	Address          string    `json:"address"`
	Connected        bool      `json:"connected"`
	Since            time.Time `json:"since"`
	RoundTripSeconds float64   `json:"round_trip_seconds"`
	Version          string    `json:"version"`
	LastError        string    `json:"last_error"`
}

type targetJSON struct {
	Target   string `json:"target"`
	Job      string `json:"job"`
	Instance string `json:"instance"`
	Address  string `json:"address"`
}

func (a *Agent) status(w http.ResponseWriter, _ *http.Request) {
	st := statusJSON{Version: version.Version, StartTime: a.startedAt.UTC(), Relays: []relayJSON{}, Targets: []targetJSON{}}
	for _, link := range a.links {
		l := link.Status()
		st.Relays = append(st.Relays, relayJSON{
			Address: l.Address, Connected: l.Connected, Since: l.Since.UTC(), RoundTripSeconds: l.RoundTrip.Seconds(),
			Version: l.RelayVersion, LastError: l.LastError,
		})
	}
	for _, t := range a.discovery.targets() {
		st.Targets = append(st.Targets, targetJSON{Target: t.Name, Job: t.Job, Instance: t.Instance, Address: t.Address})
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]any{"status": "success", "data": st}) //nolint:errcheck,errchkjson // Whoever does not read the answer asks again.
}
