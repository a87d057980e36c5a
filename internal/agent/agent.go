// Package agent composes the agent: links to relays, targets from the configuration file, the local push API.
//
// [New] checks everything that can be wrong and binds the listener; [Agent.Run] runs it all until its context ends and
// waits for every part. Start reading at [Options].
package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	versioncollector "github.com/prometheus/client_golang/prometheus/collectors/version"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/common/version"
	"github.com/prometheus/exporter-toolkit/web"
	"golang.org/x/sync/errgroup"

	"pushrelay/internal/datadir"
	"pushrelay/internal/grouping"
	"pushrelay/internal/httpserver"
	"pushrelay/internal/mtls"
	"pushrelay/internal/push"
	"pushrelay/internal/scrape"
	"pushrelay/internal/spool"
	"pushrelay/internal/target"
	"pushrelay/internal/textfile"
	"pushrelay/internal/tunnel/tunnelclient"
)

// shutdownGrace is how long pushes in flight may take when the agent stops.
const shutdownGrace = 10 * time.Second

// maxConcurrentScrapes bounds the scrapes that the agent does at once, whatever relays ask for.
const maxConcurrentScrapes = 64

// certificateRenewal says what to do about the agent's certificate when it ends.
const certificateRenewal = "issue it again on the relay's machine (relay-server agent-certificate NAME --out DIR) and copy agent.key and agent.crt over the old ones; no restart is needed"

// Options are the flags of the agent; see relay-agent --help.
type Options struct {
	// RelayAddresses are the relays to dial, host:port. At least one.
	RelayAddresses []string
	// RelayProxyURL is an HTTP proxy on the way to the relays; empty takes it from HTTPS_PROXY and NO_PROXY.
	RelayProxyURL string
	// TLS are the files of mutual TLS. Required.
	TLS mtls.Files
	// ConfigFile names the targets; empty for an agent that only pushes.
	ConfigFile string
	// PushLimits bound each push, PushWait the wait for the relays' verdicts.
	PushLimits push.Limits
	PushWait   time.Duration
	// DataDir is where the spool is kept; see DataDirAsked.
	DataDir string
	// DataDirAsked says that DataDir was given and is no default: it must then be usable, and empty means memory only.
	DataDirAsked bool
	// DataDirNoLock does without the lock on the spool, for file systems that have none.
	DataDirNoLock bool
	// SpoolMaxBytes bounds what the spool holds; 0 means no limit.
	SpoolMaxBytes int64
	// Web says where to listen. Required.
	Web *web.FlagConfig
	// WebOptional are those of its addresses that are left out where the machine has no such address.
	WebOptional []string
	// Logger is required.
	Logger *slog.Logger
}

func (o *Options) validate() error {
	if len(o.RelayAddresses) == 0 {
		return errors.New("--relay.address is missing: give the relay's host:port, as its --grpc.listen-address and certificate have it")
	}
	if len(o.RelayAddresses) > spool.MaxRelays {
		return fmt.Errorf("--relay.address is given %d times, and %d are allowed", len(o.RelayAddresses), spool.MaxRelays)
	}
	seen := map[string]bool{}
	for _, address := range o.RelayAddresses {
		if err := checkRelayAddress(address); err != nil {
			return err
		}
		if _, err := o.proxyFor(address); err != nil {
			return err
		}
		if seen[address] {
			return fmt.Errorf("--relay.address %s is given twice", address)
		}
		seen[address] = true
	}
	for _, file := range []struct{ flag, name string }{
		{"--tls.ca-file", o.TLS.CAFile}, {"--tls.cert-file", o.TLS.CertFile}, {"--tls.key-file", o.TLS.KeyFile},
	} {
		if file.name == "" {
			return fmt.Errorf("%s is missing: `relay-server agent-certificate NAME --out DIR` on the relay makes the files", file.flag)
		}
	}
	if o.PushWait <= 0 {
		return fmt.Errorf("--push.wait is %s, want more than nothing", o.PushWait)
	}
	return nil
}

// Agent is a running agent, or one about to run.
type Agent struct {
	opts         Options
	logger       *slog.Logger
	registry     *prometheus.Registry
	startedAt    time.Time
	certificates *mtls.Reloader
	spool        *spool.Spool
	links        []*tunnelclient.Link
	scrapes      *countingScraper
	discovery    *targetDiscovery
	textfiles    *textfile.Collector
	pushes       *push.Handler
	web          *httpserver.Server
	reloads      *reloadMetrics
}

type reloadMetrics struct {
	successful, at prometheus.Gauge
}

// New returns an agent that listens but does not serve yet. On error nothing is left open.
func New(opts Options) (*Agent, error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	// Also says that a certificate is expired, which a running agent would live with.
	if _, err := mtls.Load(mtls.Agent, opts.TLS); err != nil {
		return nil, err
	}
	certificates, err := mtls.NewReloader(mtls.Config{Role: mtls.Agent, Files: opts.TLS, Logger: opts.Logger, Renewal: certificateRenewal})
	if err != nil {
		return nil, err
	}
	identity, err := mtls.PeerIDFromCertificate(certificates.Material().Leaf())
	if err != nil {
		return nil, err
	}
	cfg, err := LoadConfig(opts.ConfigFile)
	if err != nil {
		return nil, err
	}
	a := &Agent{opts: opts, logger: opts.Logger, registry: prometheus.NewRegistry(), startedAt: time.Now(), certificates: certificates}
	if a.web, err = httpserver.Listen(httpserver.Config{Flags: opts.Web, Optional: opts.WebOptional, PlainSockets: true, Logger: a.logger}); err != nil {
		return nil, err
	}
	if err := a.build(identity.Agent, cfg); err != nil {
		a.web.Close()
		return nil, err
	}
	return a, nil
}

// build makes all parts, from the spool up.
func (a *Agent) build(identity string, cfg *FileConfig) error {
	dataDir, err := datadir.Open(a.opts.DataDir, datadir.ChoiceOf(a.opts.DataDirAsked), a.logger)
	if err != nil {
		return err
	}
	a.registerMetrics()
	a.spool = spool.New(spool.Config{
		Dir: spoolDir(dataDir), Agent: identity, Relays: a.opts.RelayAddresses, MaxBytes: a.opts.SpoolMaxBytes, Wait: a.opts.PushWait,
		Limits: a.opts.PushLimits, Release: version.Version, NoLock: a.opts.DataDirNoLock, Logger: a.logger.With(slog.String("component", "spool")), Registerer: a.registry,
	})
	scraper := scrape.NewHTTPScraper()
	a.scrapes = newCountingScraper(scraper, a.registry)
	if err := a.newLinks(a.scrapes); err != nil {
		return err
	}
	a.discovery = newTargetDiscovery(scraper, a.announce, a.logger.With(slog.String("component", "discovery")), a.registry)
	a.textfiles = textfile.New(textfile.Config{
		Groups: a.spool, Limits: a.opts.PushLimits, Registerer: a.registry, Logger: a.logger.With(slog.String("component", "textfile")),
	})
	if err := a.apply(cfg); err != nil {
		return err
	}
	a.pushes = push.NewHandler(push.HandlerConfig{
		Pusher: &countingPusher{pusher: a.spool, metrics: newPushMetrics(a.registry)},
		Limits: a.opts.PushLimits,
		Names:  a.names,
		Budget: push.NewBudget(a.opts.PushLimits.MaxInflightBytes),
		Logger: a.logger.With(slog.String("component", "push")),
	})
	return nil
}

// names is the scheme of label names in grouping keys: the wider one as soon as a relay announced that it takes it.
func (a *Agent) names() grouping.NameScheme {
	for _, link := range a.links {
		if link.Status().UTF8Names {
			return grouping.UTF8Names
		}
	}
	return grouping.LegacyNames
}

func (a *Agent) registerMetrics() {
	a.registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		versioncollector.NewCollector("relay_agent"),
	)
	promauto.With(a.registry).NewGaugeFunc(prometheus.GaugeOpts{
		Name: "relay_agent_certificate_not_after_seconds",
		Help: "When the certificate that the agent shows to relays expires, in seconds since the epoch.",
	}, func() float64 { return float64(a.certificates.NotAfter().Unix()) })
	a.reloads = &reloadMetrics{
		successful: promauto.With(a.registry).NewGauge(prometheus.GaugeOpts{
			Name: "relay_agent_config_last_reload_successful",
			Help: "Whether the configuration file could be put to use when it was last read.",
		}),
		at: promauto.With(a.registry).NewGauge(prometheus.GaugeOpts{
			Name: "relay_agent_config_last_reload_success_timestamp_seconds",
			Help: "When the configuration file was last put to use, in seconds since the epoch.",
		}),
	}
}

func (a *Agent) newLinks(scraper scrape.Scraper) error {
	metrics := tunnelclient.NewMetrics(a.registry)
	processID := tunnelclient.NewProcessID()
	for _, address := range a.opts.RelayAddresses {
		proxy, err := a.opts.proxyFor(address)
		if err != nil {
			return err
		}
		a.links = append(a.links, tunnelclient.NewLink(tunnelclient.Config{
			Address: address, Proxy: proxy, Certificates: a.certificates, Scraper: scraper, Spool: a.spool,
			MaxConcurrentScrapes: maxConcurrentScrapes, ProcessID: processID, Version: version.Version,
			Logger: a.logger.With(slog.String("component", "tunnel")), Metrics: metrics,
		}))
	}
	return nil
}

// Addr returns the address of the local push API.
func (a *Agent) Addr() net.Addr { return a.web.Addr() }

// Run runs the agent until ctx ends: first it stops taking pushes, then it leaves the relays, then it closes the spool. It
// returns nil after an orderly end.
func (a *Agent) Run(ctx context.Context) error {
	a.logger.Info("agent starts", slog.String("version", version.Version), slog.String("relays", strings.Join(a.opts.RelayAddresses, ",")), slog.String("addr", a.Addr().String()), slog.Int("pid", os.Getpid()))
	if err := a.spool.Recover(ctx); err != nil {
		a.web.Close()
		return explainSpoolError(a.opts.DataDir, err)
	}
	linkCtx, leave := context.WithCancel(context.WithoutCancel(ctx)) // ended below, after the last push
	defer leave()
	links, _ := errgroup.WithContext(linkCtx)
	links.Go(func() error { return a.spool.Run(linkCtx) })
	for _, link := range a.links {
		links.Go(func() error { return link.Run(linkCtx) })
	}
	local, localCtx := errgroup.WithContext(ctx)
	local.Go(func() error { return a.discovery.Run(localCtx) })
	local.Go(func() error { return a.textfiles.Run(localCtx) })
	local.Go(func() error { return a.certificates.Run(localCtx) })
	local.Go(func() error { return a.web.Run(localCtx, a.routes(), shutdownGrace) })
	err := local.Wait()
	leave()
	err = errors.Join(err, links.Wait(), a.closeSpool())
	a.discovery.stop()
	a.logger.Info("agent stopped")
	return err
}

// Reload puts the configuration file to use as it is now, whole, or returns an error and changes nothing.
func (a *Agent) Reload() error {
	cfg, err := LoadConfig(a.opts.ConfigFile)
	if err == nil {
		err = a.apply(cfg)
	}
	if err != nil {
		a.reloads.successful.Set(0)
		a.logger.Error("configuration was not reloaded, the earlier one stays", slog.Any("err", err))
		return err
	}
	a.logger.Info("configuration reloaded", slog.String("file", a.opts.ConfigFile), slog.Int("targets", len(a.discovery.targets())))
	return nil
}

// apply puts a configuration to use, or returns an error and changes nothing.
func (a *Agent) apply(cfg *FileConfig) error {
	if err := a.discovery.apply(cfg); err != nil {
		return fmt.Errorf("configuration %s: %w", a.opts.ConfigFile, err)
	}
	// A configuration that says nothing at all is not the way to have all groups of text files deleted.
	if cfg.ScrapeConfigs != nil || cfg.TextfileConfigs != nil {
		if err := a.textfiles.Apply(cfg.TextfileConfigs); err != nil {
			return err // not after LoadConfig
		}
	}
	for _, warning := range append(cfg.Warnings, cfg.lookAround()...) {
		a.logger.Warn("configuration", slog.String("file", a.opts.ConfigFile), slog.String("warning", warning))
	}
	a.reloads.successful.Set(1)
	a.reloads.at.SetToCurrentTime()
	return nil
}

// announce tells every relay what can be scraped.
func (a *Agent) announce(set target.Set) {
	a.scrapes.announce(set.Targets)
	for _, link := range a.links {
		link.SetTargets(set)
	}
}
