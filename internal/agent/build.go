package agent

import (
	"log/slog"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/version"

	"pushrelay/internal/datadir"
	"pushrelay/internal/fileowner"
	"pushrelay/internal/httpserver"
	"pushrelay/internal/push"
	"pushrelay/internal/scrape"
	"pushrelay/internal/spool"
	"pushrelay/internal/target"
	"pushrelay/internal/targets"
	"pushrelay/internal/textfile"
	"pushrelay/internal/tunnel/tunnelclient"
)

// maxConcurrentScrapes bounds the scrapes that the agent does at once, whatever relays ask for.
const maxConcurrentScrapes = 64

// New returns an agent that listens but does not serve yet. On error nothing is left open.
func New(opts Options) (*Agent, error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	cfg, err := targets.Load(opts.ConfigFile)
	if err != nil {
		return nil, err
	}
	a := &Agent{opts: opts, logger: opts.Logger, registry: prometheus.NewRegistry(), startedAt: time.Now(), client: opts.enrolClient()}
	if err := a.prepare(); err != nil {
		return nil, err
	}
	if a.web, err = httpserver.Listen(httpserver.Config{Flags: opts.Web, Optional: opts.WebOptional, PlainSockets: true, Logger: a.logger}); err != nil {
		return nil, err
	}
	if a.enrolment != nil {
		return a, nil // Run builds it
	}
	if err := a.build(cfg); err != nil {
		a.web.Close()
		return nil, err
	}
	return a, nil
}

// build makes all parts, from the spool up.
func (a *Agent) build(cfg *targets.Config) error {
	dataDir, err := datadir.Open(a.opts.DataDir, datadir.ChoiceOf(a.opts.DataDirAsked), a.logger)
	if err != nil {
		return err
	}
	a.warnOfOthers(dataDir)
	a.registerMetrics()
	a.spool = spool.New(spool.Config{
		Dir: spoolDir(dataDir), Agent: a.name, Relays: a.relays(), MaxBytes: a.opts.SpoolMaxBytes, Wait: a.opts.PushWait,
		Limits: a.opts.PushLimits, Release: version.Version, NoLock: a.opts.DataDirNoLock, Logger: a.logger.With(slog.String("component", "spool")), Registerer: a.registry,
	})
	a.discovery = targets.NewDiscovery(targets.DiscoveryConfig{
		Announce: a.announce, Registerer: a.registry, Logger: a.logger.With(slog.String("component", "discovery")),
	})
	if err := a.newLinks(a.discovery.Scraper()); err != nil {
		return err
	}
	a.textfiles = textfile.New(textfile.Config{
		Groups: a.spool, Limits: a.opts.PushLimits, Registerer: a.registry, Logger: a.logger.With(slog.String("component", "textfile")),
	})
	if err := a.apply(cfg); err != nil {
		return err
	}
	a.pushes = push.NewHandler(push.HandlerConfig{
		Applier:      &countingApplier{applier: &addingApplier{applier: a.spool, rules: &a.rules}, metrics: newPushMetrics(a.registry)},
		Limits:       a.opts.PushLimits,
		Names:        a.spool.Names,
		NamesInDoubt: a.spool.NamesInDoubt,
		Budget:       push.NewBudget(a.opts.PushLimits.MaxInflightBytes),
		Logger:       a.logger.With(slog.String("component", "push")),
	})
	a.built.Store(true)
	return nil
}

// warnOfOthers says who else may write to what the agent relies on. The configuration file says so of itself, whenever it is read.
func (a *Agent) warnOfOthers(dataDir string) {
	relied := append(datadir.Parts(dataDir),
		fileowner.Named{Name: "--tls.key-file", Path: a.opts.TLS.KeyFile},
		fileowner.Named{Name: "--tls.cert-file", Path: a.opts.TLS.CertFile},
		fileowner.Named{Name: "--tls.ca-file", Path: a.opts.TLS.CAFile},
		fileowner.Named{Name: "--web.config.file", Path: *a.opts.Web.WebConfigFile},
	)
	for _, warning := range fileowner.Warnings(relied...) {
		a.logger.Warn("others may change what the agent relies on", slog.String("warning", warning))
	}
}

func (a *Agent) newLinks(scraper scrape.Scraper) error {
	metrics := tunnelclient.NewMetrics(a.registry)
	process := tunnelclient.NewProcess()
	for _, c := range a.credentials {
		for _, address := range c.relays {
			proxy, err := a.opts.proxyFor(address)
			if err != nil {
				return err
			}
			link := tunnelclient.NewLink(tunnelclient.Config{
				Address: address, Proxy: proxy, Certificates: c.certificates, Expired: c.expired(), AskRevoked: a.askRevoked(c, address), Scraper: scraper, Spool: a.spool,
				MaxConcurrentScrapes: maxConcurrentScrapes, Process: process, Version: version.Version,
				Logger: a.logger.With(slog.String("component", "tunnel")), Metrics: metrics,
			})
			c.links, a.links = append(c.links, link), append(a.links, link)
		}
	}
	return nil
}

// relays are those that are dialled.
func (a *Agent) relays() (addresses []string) {
	for _, c := range a.credentials {
		addresses = append(addresses, c.relays...)
	}
	return addresses
}

// announce tells every relay what can be scraped.
func (a *Agent) announce(set target.Set) {
	for _, link := range a.links {
		link.SetTargets(set)
	}
}

// spoolDir is where the spool is in a data dir; empty for one in memory.
func spoolDir(dataDir string) string {
	if dataDir == "" {
		return ""
	}
	return filepath.Join(dataDir, "spool")
}
