package relay

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/common/version"

	"pushrelay/internal/cluster/link"
	"pushrelay/internal/cluster/membership"
	"pushrelay/internal/datadir"
	"pushrelay/internal/fileowner"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/ingest"
	"pushrelay/internal/ledger"
	"pushrelay/internal/lifecycle"
	"pushrelay/internal/policy"
	"pushrelay/internal/push"
	"pushrelay/internal/recent"
	"pushrelay/internal/roster"
	"pushrelay/internal/tunnel/tunnelserver"
)

// New returns a relay that listens but does not serve yet. On error nothing is left open, and nothing was made in the
// data dir if the flags, the ports, the configuration file or the certificate files were at fault.
func New(opts Options) (*Server, error) { return newServer(opts, process{}) }

func newServer(opts Options, p process) (*Server, error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	files, err := opts.readFiles()
	if err != nil {
		return nil, fmt.Errorf("the relay does not start with a wrong file, also if it ran with an earlier content: %w (relay-server check-config says when it is right)", err)
	}
	s := &Server{opts: opts, process: p, logger: opts.Logger, telemetry: newTelemetry(), startedAt: time.Now(), isReady: make(chan struct{}), quit: make(chan struct{}, 1), restart: make(chan struct{}, 1), recent: recent.New()}
	if s.external, err = opts.externalURL(); err != nil {
		return nil, err
	}
	s.prefix = opts.routePrefix(s.external)
	if err := s.listen(); err != nil {
		return nil, err
	}
	if err = s.openDataDir(); err == nil {
		err = s.openMember()
	}
	if s.files = files; err == nil && s.cluster == nil { // a member is built once its etcd runs
		err = s.build(files)
	}
	if err != nil {
		s.closeListeners()
		return nil, err
	}
	return s, nil
}

// openDataDir makes the data dir, if nothing can be kept otherwise.
func (s *Server) openDataDir() error {
	logger := s.logger // of a warning, if nothing can be kept; it says what that means for agents
	if s.opts.GRPCTLS.CertFile == "" {
		logger = logger.With(slog.String("also", "agents cannot dial in: without a data dir the relay has no certificate authority; give --data.dir or the --grpc.tls files"))
	}
	var err error
	if s.dataDir, err = datadir.Open(s.opts.DataDir, datadir.ChoiceOf(s.opts.DataDirAsked), logger); err != nil {
		return err
	}
	if s.dataDir == "" && s.opts.DataDir != "" && ledger.Exists(s.opts.DataDir) {
		return fmt.Errorf("--data.dir %s cannot be used: %w", s.opts.DataDir, errLedgerUnused)
	}
	s.warnOfOthers(s.dataDir)
	return nil
}

// build makes all parts, from the store up.
func (s *Server) build(files files) error {
	opts, dataDir := &s.opts, s.dataDir
	s.instrument = uncounted
	if opts.LegacyMetrics {
		s.instrument, s.laterFamilies = newLegacyInstrument(s.telemetry), legacyFamilies
	}
	s.guard = policy.NewGuard(s.logger.With(slog.String("component", "policy")), s.telemetry)
	s.guard.Set(files.policy) // before any agent is known
	var sharing roster.Sharing
	if s.cluster != nil {
		s.cluster.parts()
		sharing = s.cluster.location
	}
	var err error
	s.agents, err = roster.Open(roster.Config{
		Sharing: sharing,
		File:    agentsFile(dataDir), Release: version.Version, ForgetAfter: opts.AgentForgetAfter, Terms: s.termsOf, ThrownOut: s.thrownOut, Withheld: s.noteWithheld, Scraped: s.recent.Scraped,
		Logger: s.logger.With(slog.String("component", "agents")), Registerer: s.telemetry,
	})
	if err != nil {
		return err
	}
	s.presence = &presence{agents: s.agents}
	if err := s.newStore(dataDir); err != nil {
		return err
	}
	s.reloads = newReloadMetrics(s.telemetry)
	s.apply(files)
	if err := s.prepareTunnel(dataDir); err != nil {
		return err
	}
	s.routes.Store(s.newRoutes())
	return nil
}

// warnOfOthers says who else may write to what the relay relies on.
func (s *Server) warnOfOthers(dataDir string) {
	relied := append(datadir.Parts(dataDir),
		fileowner.Named{Name: "--grpc.tls.key-file", Path: s.opts.GRPCTLS.KeyFile},
		fileowner.Named{Name: "--grpc.tls.cert-file", Path: s.opts.GRPCTLS.CertFile},
		fileowner.Named{Name: "--grpc.tls.client-ca-file", Path: s.opts.GRPCTLS.CAFile},
		fileowner.Named{Name: "--grpc.tls.crl-file", Path: s.opts.GRPCCRLFile},
		fileowner.Named{Name: "--config.file", Path: s.opts.ConfigFile},
		fileowner.Named{Name: "--policy.file", Path: s.opts.PolicyFile},
		fileowner.Named{Name: "--web.config.file", Path: *s.opts.Web.WebConfigFile},
		fileowner.Named{Name: "--persistence.file", Path: s.opts.PersistenceFile},
	)
	s.warnOf(relied...)
}

func (s *Server) warnOf(relied ...fileowner.Named) {
	for _, warning := range fileowner.Warnings(relied...) {
		s.logger.Warn("others may change what the relay relies on", slog.String("warning", warning))
	}
}

func (s *Server) newStore(dataDir string) error {
	var err error
	s.ownFamilies, err = ownFamilies(s.telemetry, s.laterFamilies)
	if err != nil {
		return err
	}
	check := groupstore.CheckEnforced
	if s.opts.DisableConsistencyCheck {
		check = groupstore.CheckQuarantine
	}
	store := groupstore.Config{
		OwnFamilies: s.ownFamilies, Check: check, MaxSeries: s.opts.MaxSeries, MaxGroups: s.opts.MaxGroups,
		AccountLabel: s.opts.AgentLabel, AccountLimits: s.limitsOf,
		Presence: s.presence,
	}
	if s.cluster != nil {
		s.durability = newDurability(dataDir, &s.opts, s.cluster.newKeep(store), s.telemetry)
	} else {
		s.durability = newDurability(dataDir, &s.opts, newKeep(dataDir, &s.opts, store, s.telemetry), s.telemetry)
	}
	s.store = s.durability.Store()
	lives := lifecycle.Config{
		Store: s.store, ForgetAfter: s.opts.GroupsForgetAfter, Logger: s.logger.With(slog.String("component", "lifecycle")), Registerer: s.telemetry,
	}
	if s.cluster != nil {
		lives.Leads = s.cluster.leads
	}
	s.lives = lifecycle.New(lives)
	registerStoreMetrics(s.telemetry, s.store, quotaLimits{groups: s.opts.MaxGroups, series: s.opts.MaxSeries}, s.durability.Failure)
	s.quotas = newQuotas(s.agents.Agents, s.store, quotaLimits{groups: s.opts.AgentMaxGroups, series: s.opts.AgentMaxSeries}, s.limitsOf, s.logger)
	s.telemetry.MustRegister(s.quotas)
	s.budget = push.NewBudget(s.opts.PushLimits.MaxInflightBytes)
	s.ingester = ingest.New(ingest.Config{
		Store: s.store, Limits: s.opts.PushLimits, Names: s.opts.names(),
		AgentLabel: s.opts.AgentLabel, KnownAgent: s.agents.Known, Permit: s.permitAgent, Sees: s.seenByAgent, Adding: s.addingOf, Decided: s.decided, Registerer: s.telemetry,
	})
	s.applier, s.changes = s.ingester, s.store
	if s.cluster != nil {
		s.cluster.newLink()
		s.applier, s.changes = s.cluster.link.Forwarder, sharedStore{s.store, s.cluster.link}
	}
	return nil
}

// prepareTunnel opens the certificate authority, or closes the agents' port. Without a data dir and without certificate
// files there is none: an authority that is forgotten at the end would lock every agent out at the next start.
func (s *Server) prepareTunnel(dataDir string) error {
	switch {
	case s.hasFiles() && !s.opts.GRPCAlsoOwnCA:
		return nil
	case dataDir != "":
		return s.openAuthority(dataDir)
	case s.hasFiles():
		return fmt.Errorf("--grpc.tls.also-own-ca: the relay's own authority is in the data dir, and --data.dir %s cannot be used", s.opts.DataDir)
	default:
		return s.closeGRPC()
	}
}

// newTunnel makes the relay's end of the tunnel, once it is known to which store it belongs, and that the data dir is this
// relay's: another one's certificate must not be replaced.
func (s *Server) newTunnel() error {
	if s.grpc == nil {
		return nil
	}
	if err := s.loadCertificates(); err != nil {
		return err
	}
	s.enrolment = s.newEnrolment()
	var known tunnelserver.Journals = s.ingester
	var protocols map[string]tunnelserver.Protocol
	if c := s.cluster; c != nil {
		known = journals{c}
		protocols = map[string]tunnelserver.Protocol{link.Protocol: c.link.Server, membership.JoinProtocol: c.door}
	}
	s.tunnel = tunnelserver.New(tunnelserver.Config{
		Certificates: s.certificates, Revoked: s.revoked, Enrolment: s.enrolment, Protocols: protocols, Registry: s.agents, Applier: s.applier, Budget: s.budget, Limits: s.opts.PushLimits,
		Timeout: s.opts.PushTimeout, Journals: known,
		AgentLabel: s.opts.AgentLabel, Names: s.opts.names(), OwnFamilies: s.toldFamilies(),
		MaxScrapeBodyBytes: s.opts.ScrapeMaxBodyBytes,
		StoreID:            s.durability.ID(), History: s.durability.History, Version: version.Version, Logger: s.logger.With(slog.String("component", "tunnel")), Registerer: s.telemetry,
	})
	return nil
}
