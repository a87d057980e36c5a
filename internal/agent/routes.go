package agent

import (
	"cmp"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/common/route"
	"github.com/prometheus/common/version"

	"pushrelay/internal/agentapi"
	"pushrelay/internal/agentweb"
	"pushrelay/internal/httpserver"
	"pushrelay/internal/push"
)

// routes is every route of the agent. There is none that wipes: an agent answers for its own groups only.
func (a *Agent) routes() http.Handler {
	r := route.New()
	a.pushes.Mount(r, func(_ string, h http.HandlerFunc) http.HandlerFunc { return h })
	get := func(path string, h http.HandlerFunc) { // net/http leaves out the body of an answer to HEAD
		r.Get(path, h)
		r.Head(path, h)
	}
	agentweb.New(agentweb.Config{
		Status: a.currentStatus, Spool: a.currentSpool, Textfiles: a.pushedTextfiles, Version: version.Version, Logger: a.logger.With(slog.String("component", "web")),
	}).Mount(r)
	get("/metrics", promhttp.HandlerFor(a.registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}).ServeHTTP)
	get("/api/v1/status", a.status)
	get("/api/v1/spool", a.spoolContent)
	get("/-/healthy", healthy)
	get("/-/ready", a.ready)
	r.Post("/-/reload", a.reload)
	mux := http.NewServeMux() // cleans paths, as in front of a Pushgateway
	mux.Handle("/", r)
	const hint = "let a program on this machine do it"
	return httpserver.RefuseOtherSites(nil, hint, httpserver.RefuseOtherHosts(a.opts.AllowedHosts, push.RefuseAmbiguous("", mux)))
}

// healthy also says that this is an agent.
func healthy(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set(agentapi.AgentHeader, cmp.Or(version.Version, "unknown"))
	fmt.Fprintln(w, "OK")
}

// ready says whether the agent takes pushes, and in further lines how its relays are.
func (a *Agent) ready(w http.ResponseWriter, _ *http.Request) {
	if err := a.spool.Failure(); err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintf(w, "the spool takes no pushes: %v\n", err)
	} else {
		fmt.Fprintln(w, "OK")
	}
	for _, loss := range a.spool.Losses() {
		fmt.Fprintf(w, "the spool has lost something, or may have (relay-agent acknowledge-loss takes note of it): %v\n", loss)
	}
	spooled := a.spool.Status()
	for _, link := range a.links {
		st := link.Status()
		if note := spooled.Note(st.Address); note != "" {
			fmt.Fprintf(w, "relay %s: %s\n", st.Address, note)
		}
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
