package relay

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/common/route"

	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	"pushrelay/internal/gather"
	"pushrelay/internal/httpsd"
	"pushrelay/internal/httpserver"
	"pushrelay/internal/push"
	"pushrelay/internal/queryapi"
	"pushrelay/internal/relayapi"
	"pushrelay/internal/scrape"
)

// routes is every route of the relay.
type routes struct {
	handler http.Handler
}

func (s *Server) newRoutes() *routes {
	external, prefix := s.external, s.prefix
	pushes := push.NewHandler(push.HandlerConfig{
		Applier: s.applier, Limits: s.opts.PushLimits, Budget: s.budget, Names: s.opts.names, Permit: s.permitPush, Sees: seenGroups, Refused: s.refused,
		Timeout: s.opts.PushTimeout, Logger: s.logger.With(slog.String("component", "push")),
	})
	exposed := gather.Config{
		Store: s.store, Gatherer: s.telemetry, Offers: exposition.Offers{OpenMetrics: s.opts.EnableOpenMetrics},
		MaxConcurrent: s.opts.MaxConcurrentScrapes, Registerer: s.telemetry, Logger: s.logger.With(slog.String("component", "gather")),
	}
	var scraper scrape.Scraper = s.agents
	if s.cluster != nil {
		exposed.Gatherer, exposed.CaughtUp, scraper = nil, s.cluster.keep.CatchUp, s.cluster.link.Scraper
	}
	metrics := gather.New(exposed)
	scrapes := scrape.NewHandler(scrape.HandlerConfig{
		Scraper: scraper, Permit: s.permitScrape, MaxTimeout: s.opts.ScrapeMaxTimeout, MaxBodyBytes: s.opts.ScrapeMaxBodyBytes,
		Logger: s.logger.With(slog.String("component", "scrape")),
	})
	targets := httpsd.NewHandler(httpsd.Config{Registry: s.agents, ExternalURL: external, RoutePrefix: prefix})

	r := route.New()
	at := r.WithPrefix(prefix)
	counted := s.instrument
	pushes.Mount(at, counted)
	get := func(path string, h http.HandlerFunc) { // net/http leaves out the body of an answer to HEAD
		at.Get(path, h)
		at.Head(path, h)
	}
	get(s.opts.TelemetryPath, metrics.ServeHTTP)
	get("/sd/targets", targets.ServeHTTP)
	get("/clients", targets.ServeClients)
	if c := s.cluster; c != nil {
		get("/sd/relays", targets.ServeRelays(relayMetricsPath, c.relays))
		get(relayMetricsPath, status(promhttp.HandlerFor(s.telemetry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}).ServeHTTP))
	}
	get("/agents/:agent/targets/:target/metrics", scrapes.ServeHTTP)
	at.Options("/api/v1/*path", counted("api/v1/options", queryapi.Options()))
	get("/api/v1/status", counted("api/v1/status", status(queryapi.Status(s.opts.Flags, s.startedAt))))
	get("/api/v1/metrics", counted("api/v1/metrics", queryapi.Metrics(queryapi.MetricsConfig{
		Store: s.store, MaxConcurrent: s.opts.MaxConcurrentScrapes,
	})))
	groups := queryapi.GroupStore(s.store)
	if s.cluster != nil {
		groups = sharedStore{s.store, s.cluster.link}
	}
	s.groups = queryapi.NewGroups(queryapi.GroupsConfig{
		Store: groups, AgentLabel: s.opts.AgentLabel, MaxConcurrent: s.opts.MaxConcurrentScrapes, Timeout: s.opts.PushTimeout,
	})
	get(relayapi.GroupsPath, s.groups.List)
	get("/api/v1/agents", queryapi.Shared(queryapi.Agents(s.agents, s.store)))
	get("/-/healthy", counted("healthy", s.healthy))
	get("/-/ready", counted("ready", s.ready))
	for path, h := range map[string]http.HandlerFunc{"/-/quit": admin("end the relay", s.quitHandler), "/-/reload": admin("reload its configuration", s.reloadHandler)} {
		h = s.lifecycle(h)
		at.Put(path, h)
		at.Post(path, h)
		at.Get(path, lifecycleByGet)
	}
	if s.opts.EnableAdminAPI {
		at.Put("/api/v1/admin/wipe", counted("wipe", admin("wipe the store", s.wipe)))
		at.Del("/api/v1/agents/:agent", admin("forget agents", queryapi.ForgetAgent(s.agents)))
		at.Del(relayapi.GroupsPath, s.groups.Delete)
	} else {
		at.Del(relayapi.GroupsPath, adminOff)
		for _, register := range []func(string, http.HandlerFunc){at.Get, at.Head, at.Put, at.Post, at.Del} {
			register("/api/v1/admin/wipe", adminOff)
			register("/api/v1/agents/:agent", adminOff)
		}
	}
	s.pages = s.newPages(prefix, external)
	s.pages.Mount(at, counted)
	at.Get("/debug/pprof/*profile", s.profiles(prefix))
	mux := http.NewServeMux() // cleans paths, as in front of a Pushgateway
	mux.Handle("/", r)
	refusing := push.RefuseAmbiguous(prefix, mux)
	handler := pushesToSelf(prefix, external, refusing, scrapes.Proxy(s.agents, refusing))
	const hint = "if this is the relay's own address behind a proxy, say so with --web.external-url"
	return &routes{handler: s.guard.Identify(s.pages.TakeChanges(httpserver.RefuseOtherSites(external, hint, handler)), s.identityOf)}
}

// serve answers what can be answered: 503 before the store is recovered, but whether the relay is well and ready.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	routes := s.routes.Load()
	if state(s.state.Load()) == starting {
		switch path := strings.TrimPrefix(r.URL.Path, s.prefix); {
		case path != "/-/healthy" && path != "/-/ready" && !s.becomesReady(r.Context()):
			w.Header().Set("Retry-After", "1")
			http.Error(w, "relay is starting: its store is being recovered", http.StatusServiceUnavailable)
			return
		case routes != nil:
		case path == "/-/healthy":
			s.healthy(w, r)
			return
		case path == "/-/ready":
			s.ready(w, r)
			return
		default:
			routes = s.routes.Load() // it has become ready
		}
	}
	routes.handler.ServeHTTP(w, r)
}

// restartPatience is how long who asks waits for a relay that takes another one's place.
const restartPatience = 10 * time.Second

// becomesReady waits until a relay is ready that takes another one's place. Another one is not waited for.
func (s *Server) becomesReady(ctx context.Context) bool {
	if !s.process.restarted {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, restartPatience)
	defer cancel()
	select {
	case <-s.isReady:
		return true
	case <-ctx.Done():
		return false
	}
}

func (s *Server) healthy(w http.ResponseWriter, _ *http.Request) {
	fmt.Fprint(w, "OK")
}

// ready answers 200 while the relay takes pushes and scrapes.
func (s *Server) ready(w http.ResponseWriter, _ *http.Request) {
	switch state(s.state.Load()) {
	case ready:
		if s.cluster != nil {
			if err := s.cluster.ready(); err != nil {
				http.Error(w, err.Error(), http.StatusServiceUnavailable)
				return
			}
		}
		fmt.Fprint(w, "OK")
		if s.cluster != nil {
			s.cluster.writeState(w)
		}
		if s.tunnel == nil {
			fmt.Fprintln(w, "\nagents cannot dial in: no data dir and no certificate files")
		}
		if err := s.durability.Failure(); err != nil && s.cluster == nil {
			fmt.Fprintf(w, "\nthe store cannot be changed, pushes are answered 503: %v\n", err)
		}
		for _, loss := range s.durability.Losses() {
			fmt.Fprintf(w, "\nthe store has lost something, or may have (relay-server acknowledge-loss takes note of it): %v\n", loss)
		}
	case draining:
		http.Error(w, "relay is stopping", http.StatusServiceUnavailable)
	default:
		words := "relay is starting"
		if s.wasMember && s.routes.Load() == nil {
			words += ": it waits for a majority of the cluster's members (its log says which, relay-server cluster status on another one who is away)"
		}
		http.Error(w, words, http.StatusServiceUnavailable)
	}
}

// lifecycleByGet refuses to end or reload the relay by what a browser or a crawler may do by itself.
func lifecycleByGet(w http.ResponseWriter, _ *http.Request) {
	w.WriteHeader(http.StatusMethodNotAllowed)
	fmt.Fprint(w, "Only POST or PUT requests allowed.")
}

// lifecycle returns the handler where whoever reaches the relay may end and reload it. Elsewhere it is 403.
func (s *Server) lifecycle(h http.HandlerFunc) http.HandlerFunc {
	if s.opts.EnableLifecycle {
		return h
	}
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, "Lifecycle API is not enabled.")
	}
}

func (s *Server) quitHandler(w http.ResponseWriter, _ *http.Request) {
	fmt.Fprint(w, "Requesting termination... Goodbye!")
	select {
	case s.quit <- struct{}{}:
	default: // somebody asked before
	}
}

// adminOff answers what the admin API would serve: 404, as a Pushgateway without it.
func adminOff(w http.ResponseWriter, _ *http.Request) {
	http.Error(w, "the admin API is not enabled (--web.enable-admin-api)", http.StatusNotFound)
}

func (s *Server) wipe(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(httpserver.Outlasting(r.Context()), s.opts.PushTimeout)
	defer cancel()
	if o := s.changes.ApplyBodiless(ctx, &change.Change{Operation: change.Wipe}); !o.IsTaken() {
		http.Error(w, o.Detail, http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusAccepted)
}
