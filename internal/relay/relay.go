// Package relay composes the relay: the grouping store and the push API over it, the registry of agents and the tunnel to
// them, and every HTTP route.
//
// [New] checks everything that can be wrong and binds the listeners; [Server.Run] runs it all until its context ends,
// drains, and waits for every part. Start reading at [Options], then routes.go.
package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/version"
	"golang.org/x/sync/errgroup"

	"pushrelay/internal/agents"
	"pushrelay/internal/authority"
	"pushrelay/internal/datadir"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/httpserver"
	"pushrelay/internal/ingest"
	"pushrelay/internal/mtls"
	"pushrelay/internal/push"
	"pushrelay/internal/storelog"
	"pushrelay/internal/tunnel/tunnelserver"
)

// httpGrace is how long HTTP requests that are still in flight after draining may take.
const httpGrace = 3 * time.Second

// state is what /-/ready tells.
type state int32

const (
	starting state = iota
	ready
	draining
)

// Server is a running relay, or one about to run.
type Server struct {
	// static after New
	opts          Options
	logger        *slog.Logger
	telemetry     *prometheus.Registry
	instrument    push.Instrument        // counts requests for the legacy metrics
	laterFamilies []groupstore.OwnFamily // metric families of ours that have no series yet
	store         *groupstore.Store
	log           *storelog.Log // what keeps the store; nil in memory only
	agents        *agents.Registry
	ingester      *ingest.Ingester
	quotas        *quotas
	budget        *push.Budget
	authority     *authority.Authority // nil if certificate files are given, or without a data dir
	grpc          net.Listener         // nil if agents cannot dial in
	usedBefore    bool                 // some relay has run on the data dir before
	web           *httpserver.Server
	routes        *routes
	startedAt     time.Time

	// set by Run before the state is ready
	tunnel       *tunnelserver.Server // nil if agents cannot dial in
	certificates *mtls.Reloader       // what the tunnel shows; nil with it

	// exported is the position of the store at the last export, nil before it; owned by exportOften, then by keepStore.
	exported *uint64
	// exportFailures is nil unless a Pushgateway's file is written.
	exportFailures prometheus.Counter

	state atomic.Int32
	quit  chan struct{} // /-/quit asks for an end; one slot
}

// New returns a relay that listens but does not serve yet. On error nothing is left open, and nothing was made in the
// data dir if the flags, the ports or the certificate files were at fault.
func New(opts Options) (*Server, error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	s := &Server{opts: opts, logger: opts.Logger, telemetry: newTelemetry(), startedAt: time.Now(), quit: make(chan struct{}, 1)}
	if err := s.listen(); err != nil {
		return nil, err
	}
	if err := s.build(); err != nil {
		s.closeListeners()
		return nil, err
	}
	return s, nil
}

// build makes all parts, from the store up.
func (s *Server) build() error {
	opts := &s.opts
	logger := opts.Logger // of a warning, if nothing can be kept; it says what that means for agents
	if opts.GRPCTLS.CertFile == "" {
		logger = logger.With(slog.String("also", "agents cannot dial in: without a data dir the relay has no certificate authority; give --data.dir or the --grpc.tls files"))
	}
	dataDir, err := datadir.Open(opts.DataDir, datadir.ChoiceOf(opts.DataDirAsked), logger)
	if err != nil {
		return err
	}
	s.instrument = uncounted
	if opts.LegacyMetrics {
		s.instrument, s.laterFamilies = newLegacyInstrument(s.telemetry), legacyFamilies
	}
	s.agents, err = agents.Open(agents.Config{
		File: agentsFile(dataDir), Release: version.Version, ForgetAfter: opts.AgentForgetAfter, MaxConcurrentScrapes: opts.AgentMaxConcurrentScrapes,
		Logger: s.logger.With(slog.String("component", "agents")), Registerer: s.telemetry,
	})
	if err != nil {
		return err
	}
	if err := s.newStore(dataDir); err != nil {
		return err
	}
	s.usedBefore = wasUsed(dataDir) // before anything is made in it
	if err := s.prepareTunnel(dataDir); err != nil {
		return err
	}
	s.routes, err = s.newRoutes()
	return err
}

func (s *Server) newStore(dataDir string) error {
	own, err := ownFamilies(s.telemetry, s.laterFamilies)
	if err != nil {
		return err
	}
	check := groupstore.CheckEnforced
	if s.opts.DisableConsistencyCheck {
		check = groupstore.CheckQuarantine
	}
	s.openStore(dataDir, groupstore.Config{
		OwnFamilies: own, Check: check, MaxSeries: s.opts.MaxSeries, MaxGroups: s.opts.MaxGroups,
		AccountLabel: s.opts.AgentLabel, MaxAccountSeries: s.opts.AgentMaxSeries, MaxAccountGroups: s.opts.AgentMaxGroups,
	})
	registerStoreMetrics(s.telemetry, s.store, s.storeFailure)
	s.quotas = newQuotas(s.agents.Agents, s.store, quotaLimits{groups: s.opts.AgentMaxGroups, series: s.opts.AgentMaxSeries}, s.logger)
	s.telemetry.MustRegister(s.quotas)
	if s.exports() {
		s.exportFailures = newExportFailures(s.telemetry)
	}
	s.budget = push.NewBudget(s.opts.PushLimits.MaxInflightBytes)
	s.ingester = ingest.New(ingest.Config{
		Store: s.store, Check: check, Limits: s.opts.PushLimits.Exposition(), Names: s.opts.exposedNames(),
		AgentLabel: s.opts.AgentLabel, KnownAgent: s.agents.Known, Registerer: s.telemetry,
	})
	return nil
}

// prepareTunnel opens the certificate authority, or closes the agents' port. Without a data dir and without certificate
// files there is none: an authority that is forgotten at the end would lock every agent out at the next start.
func (s *Server) prepareTunnel(dataDir string) error {
	if s.opts.GRPCTLS.CertFile != "" {
		return nil
	}
	if dataDir == "" {
		return s.closeGRPC()
	}
	return s.openAuthority(dataDir)
}

// newTunnel makes the relay's end of the tunnel, once it is known to which store it belongs, and that the data dir is this
// relay's: another one's certificate must not be replaced.
func (s *Server) newTunnel() error {
	if s.grpc == nil {
		return nil
	}
	files := s.opts.GRPCTLS
	if s.authority != nil {
		var err error
		if files, err = s.ensureCertificate(); err != nil {
			return err
		}
	}
	var err error
	s.certificates, err = mtls.NewReloader(mtls.Config{Role: mtls.Relay, Files: files, Logger: s.logger, Renewal: s.certificateRenewal()})
	if err != nil {
		return err
	}
	s.tunnel = tunnelserver.New(tunnelserver.Config{
		Certificates: s.certificates, Registry: s.agents, Pusher: s.ingester, Budget: s.budget, Limits: s.opts.PushLimits,
		Timeout: s.opts.PushTimeout, Journals: s.ingester,
		AgentLabel: s.opts.AgentLabel, Names: s.opts.groupingNames(),
		MaxConcurrentScrapes: s.opts.AgentMaxConcurrentScrapes, MaxScrapeBodyBytes: s.opts.ScrapeMaxBodyBytes,
		StoreID: s.storeID(), History: s.storeHistory(), Version: version.Version, Logger: s.logger.With(slog.String("component", "tunnel")), Registerer: s.telemetry,
	})
	return nil
}

func (s *Server) serverNames() []string {
	if len(s.opts.GRPCServerNames) > 0 {
		return s.opts.GRPCServerNames
	}
	names := []string{"localhost", "127.0.0.1"}
	if host, err := os.Hostname(); err == nil && host != "" && host != "localhost" {
		names = append(names, host)
	}
	return names
}

// listen binds all listeners, or none.
func (s *Server) listen() error {
	var err error
	if s.web, err = httpserver.Listen(httpserver.Config{Flags: s.opts.Web, Logger: s.logger}); err != nil {
		return err
	}
	if s.opts.DataDir == "" && s.opts.GRPCTLS.CertFile == "" {
		return nil // agents cannot dial in
	}
	if s.grpc, err = new(net.ListenConfig).Listen(context.Background(), "tcp", s.opts.GRPCListenAddress); err != nil {
		s.web.Close()
		if errors.Is(err, syscall.EADDRINUSE) {
			err = fmt.Errorf("%w: another program has that port: choose another one, and have the agents dial that", err)
		}
		return fmt.Errorf("--grpc.listen-address %s: %w", s.opts.GRPCListenAddress, err)
	}
	return nil
}

// closeGRPC closes the agents' port of a relay that turns out to have no certificate for it.
func (s *Server) closeGRPC() error {
	if s.grpc == nil {
		return nil
	}
	err := s.grpc.Close()
	s.grpc = nil
	return err
}

func (s *Server) closeListeners() {
	s.web.Close()
	s.closeGRPC() //nolint:errcheck // Nothing was accepted on it.
}

// Addr returns the address of the HTTP listener.
func (s *Server) Addr() net.Addr { return s.web.Addr() }

// GRPCAddr returns the address of the agents' port, nil if there is none.
func (s *Server) GRPCAddr() net.Addr {
	if s.grpc == nil {
		return nil
	}
	return s.grpc.Addr()
}

// Run runs the relay until ctx ends or somebody asks for it by /-/quit, then drains it. It returns nil after an orderly
// end. The store is recovered first, while HTTP answers 503 already.
func (s *Server) Run(ctx context.Context) error {
	attrs := []any{"version", version.Version, "addr", s.Addr().String(), "pid", os.Getpid()}
	if s.grpc != nil {
		attrs = append(attrs, "grpc_addr", s.grpc.Addr().String())
	}
	s.logger.Info("relay starts", attrs...)

	// What serves outlives ctx: it serves while the relay drains.
	serveCtx, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	defer stopServing()
	serving, serveCtx := errgroup.WithContext(serveCtx)
	serving.Go(func() error { return s.web.Run(serveCtx, s.routes.handler, httpGrace) })
	err := s.recoverStore(ctx)
	if err == nil {
		err = s.newTunnel()
	}
	if err != nil {
		stopServing()
		err = errors.Join(err, serving.Wait(), s.closeGRPC(), s.closeStore())
		if ctx.Err() != nil {
			return nil // it was asked to end before it was ready
		}
		return err
	}
	s.runStore(serveCtx, serving)
	serving.Go(func() error { return s.agents.Run(serveCtx) })
	serving.Go(func() error { return s.quotas.Run(serveCtx) })
	if s.tunnel != nil {
		serving.Go(func() error { return s.tunnel.Serve(s.web.Guard(s.grpc)) })
		serving.Go(func() error { return s.certificates.Run(serveCtx) })
	}
	if s.authority != nil {
		serving.Go(func() error { return s.renewCertificate(serveCtx) })
	}
	s.state.Store(int32(ready))

	select {
	case <-ctx.Done():
	case <-s.quit:
	case <-serveCtx.Done(): // something failed; Wait has the reason
	}
	s.drain()
	stopServing()
	err = serving.Wait()
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	err = errors.Join(err, s.keepStore())
	s.logger.Info("relay stopped")
	return err
}

// drain lets what is in flight finish (T7).
func (s *Server) drain() {
	s.state.Store(int32(draining))
	s.agents.Drain()
	if s.tunnel == nil {
		return
	}
	s.logger.Info("relay drains", slog.Duration("timeout", s.opts.ShutdownTimeout))
	ctx, cancel := context.WithTimeout(context.Background(), s.opts.ShutdownTimeout) // the caller's context has ended; this one ends here
	defer cancel()
	s.tunnel.Drain(ctx)
	s.tunnel.Stop()
}

// ensureCertificate makes or renews the relay's own certificate if that is due, and returns its files.
func (s *Server) ensureCertificate() (mtls.Files, error) {
	ensured, err := s.authority.EnsureRelay(s.serverNames())
	if err != nil {
		return mtls.Files{}, err
	}
	if ensured.Reissued != "" {
		s.logger.Info("issued the relay's own certificate", slog.String("reason", ensured.Reissued), slog.Time("not_after", ensured.NotAfter), slog.Any("names", s.serverNames()))
	}
	return ensured.Files, nil
}

// renewCertificate renews the relay's own certificate in good time; the reloader sees the new file.
func (s *Server) renewCertificate(ctx context.Context) error {
	look := time.NewTicker(time.Hour)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
			if _, err := s.ensureCertificate(); err != nil {
				s.logger.Error("the relay's certificate could not be renewed", slog.Any("err", err))
			}
		}
	}
}
