package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"time"

	"github.com/prometheus/common/version"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"pushrelay/internal/cluster/engine"
	"pushrelay/internal/cluster/level"
	"pushrelay/internal/cluster/link"
	"pushrelay/internal/cluster/location"
	"pushrelay/internal/cluster/membership"
	"pushrelay/internal/cluster/shared"
	"pushrelay/internal/cluster/upkeep"
	"pushrelay/internal/enrol"
	"pushrelay/internal/keep/replicated"
	"pushrelay/internal/ledger"
)

// Where the parts of a relay keep what all relays of a cluster share, beside the members themselves: below what all keys of the cluster begin with.
const (
	storeKeys    = "store/"
	ledgerKeys   = "ledger/"
	settingsKeys = "settings/"
	levelKey     = "level"
	turnKey      = "turn"
)

// What members hand on to one another and keep that those of earlier releases do not understand (C20): each from a feature level on.
const (
	levelOfShortWipes    = 2
	levelOfSealedRecords = 2

	// featureLevel is the highest one that this release understands.
	featureLevel = 2
)

// clustered is what a relay has as a member of several that are one service.
type clustered struct {
	// static after New
	server *Server
	dir    *membership.Dir
	logger *slog.Logger

	// set by begin, before the relay is built
	engine       *engine.Engine // nil for an etcd that runs by itself
	client       *clientv3.Client
	limits       engine.Limits // the zero value for those of the engine
	quota        int64         // 0 if it is not known
	certificates *membership.Certificates
	members      *membership.Members
	office       *membership.Office
	level        *level.Level
	location     *location.Location
	journal      *shared.Journal
	upkeep       *upkeep.Upkeep // nil for an etcd that others look after
	keep         *replicated.Keep
	link         *link.Link
	settings     *shared.Settings
	door         *membership.Door
	view         clusterView
	changed      *changes
}

// openMember finds out whether the data dir is that of a member.
func (s *Server) openMember() error {
	dir, err := membership.Open(s.dataDir, version.Version)
	if err != nil || dir == nil {
		return err
	}
	if m := dir.Member(); m.Witness {
		return fmt.Errorf("--data.dir %s is that of member %q, which is a witness and no relay: start it with relay-server witness", s.dataDir, m.Name)
	}
	s.wasMember = true
	s.cluster = &clustered{server: s, dir: dir, logger: s.logger.With(slog.String("component", "cluster")), changed: newChanges()}
	return nil
}

// begin starts the member's etcd and waits for a majority, and builds the relay on it. A member that leaves becomes a relay alone.
func (c *clustered) begin(ctx context.Context) error {
	s := c.server
	peers := membership.Peers{Dir: c.dir}
	if err := c.dir.Settle(s.opts.etcdPrefix()); err != nil {
		return fmt.Errorf("--data.dir %s: %w", s.dataDir, err)
	}
	if err := c.dir.Prepare(ctx, peers.Confirm); err != nil {
		return err
	}
	if c.dir.Member().Pending == membership.Leave {
		if err := c.becomeAlone(ctx); err != nil {
			return err
		}
		s.cluster = nil
		return s.build(s.files)
	}
	if err := c.enter(ctx, peers); err != nil {
		return err
	}
	if err := s.build(s.files); err != nil {
		return err
	}
	return c.level.Check(ctx) // before anything else is read
}

// enter becomes the member that the data dir says, with what is pending done.
func (c *clustered) enter(ctx context.Context, peers membership.Peers) (err error) {
	pending := c.dir.Member().Pending
	if pending == membership.Import {
		if err := c.dir.BeginImport(); err != nil {
			return err
		}
	}
	c.certificates, err = membership.NewCertificates(membership.CertificatesConfig{Dir: c.dir, Renew: peers.Renew, Logger: c.logger})
	if err != nil {
		return err
	}
	if err := c.connect(ctx); err != nil {
		return err
	}
	if err := c.dir.Enter(ctx, c.client); err != nil {
		return err
	}
	if pending == membership.Nothing {
		return c.putAway()
	}
	if err := c.bring(ctx, pending); err != nil {
		return err
	}
	if err := c.dir.Done(); err != nil {
		return err
	}
	return c.putAway()
}

// connect starts the member's etcd and waits for a majority, or connects to the one that runs by itself.
func (c *clustered) connect(ctx context.Context) (err error) {
	cfg := c.dir.Engine()
	cfg.Logger = engine.NewLogger(c.logger)
	if m := c.dir.Member(); !m.HasOwnEtcd() {
		return c.dial(ctx, cfg.Logger)
	}
	cfg.AdminSocket = c.server.opts.ClusterEtcdAdminSocket
	cfg.CheckValue = func(key string, value []byte) error {
		return replicated.CheckValue(c.dir.Prefix()+storeKeys, key, value)
	}
	c.logger.Info("waiting for a majority of the cluster's members", slog.String("member", cfg.Name))
	if c.engine, err = engine.Start(ctx, cfg); err != nil {
		return explainEngine(ctx, c.dir.Member(), err)
	}
	c.client, c.quota = c.engine.Client(), engine.QuotaBytes
	return nil
}

// explainEngine says what to do where it may be that the files of the member's etcd are damaged.
func explainEngine(ctx context.Context, m membership.Member, err error) error {
	if _, network := errors.AsType[*net.OpError](err); network || ctx.Err() != nil {
		return err
	}
	lost, witness := "If these files are damaged, the", ""
	if errors.Is(err, engine.ErrDamaged) {
		lost = "The"
	}
	if m.Witness {
		witness = "--witness "
	}
	return fmt.Errorf("%w. %s member is lost: on another one, relay-server cluster remove %s, and relay-server cluster token %s%s; then empty this data dir,"+
		" and relay-server cluster join %sTOKEN", err, lost, m.Name, witness, m.Name, witness)
}

// formerStore is where the store is of a relay that has become a member.
func (s *Server) formerStore() string { return storeDir(s.dataDir) + ".before-cluster" }

// putAway puts the store of the relay alone out of the way, which the cluster has by now.
func (c *clustered) putAway() error {
	from, to := storeDir(c.server.dataDir), c.server.formerStore()
	if _, err := os.Lstat(from); err != nil {
		return nil //nolint:nilerr // There is none.
	}
	if err := os.RemoveAll(to); err != nil {
		return fmt.Errorf("putting the store away that the cluster has: %w", err)
	}
	if err := os.Rename(from, to); err != nil {
		return fmt.Errorf("putting the store away that the cluster has: %w", err)
	}
	c.logger.Info("the cluster has what this relay held; its files are kept aside, and can be deleted", slog.String("dir", to))
	return nil
}

// parts makes what the relay is built on.
func (c *clustered) parts() {
	s, own := c.server, c.dir.Member()
	logger := func(component string) *slog.Logger { return s.logger.With(slog.String("component", component)) }
	prefix := c.dir.Prefix()
	members := membership.Config{Client: c.client, Dir: c.dir, Release: version.Version, Level: featureLevel, Changed: c.changed.tell, Logger: c.logger}
	if c.engine != nil {
		members.Engine = c.engine
	}
	c.members = membership.NewMembers(members)
	c.level = level.New(level.Config{Client: c.client, Key: prefix + levelKey, Own: featureLevel, Leads: c.leads, Understood: c.understood, Logger: c.logger})
	c.location = location.New(location.Config{
		Client: c.client, Prefix: prefix, MaxValueBytes: c.maxValueBytes(), Relay: own.Name, Address: own.Link, Incarnation: c.dir.Incarnation(), Leads: c.leads, Logger: logger("agents"), Registerer: s.telemetry,
	})
	c.journal = shared.NewJournal(shared.LedgerConfig{
		Client: c.client, Prefix: prefix + ledgerKeys, Release: version.Version, Grace: s.opts.AgentRenewalGrace, Revoked: func() { s.control.Enforce() }, Logger: c.logger,
	})
	c.upkeep = c.newUpkeep()
	c.settings = shared.NewSettings(shared.SettingsConfig{
		Client: c.client, Prefix: prefix + settingsKeys, Name: own.Name, Apply: s.applySetting, Logger: c.logger, Registerer: s.telemetry,
		Leads: func() (key string, revision int64, leads bool) {
			return replicated.LeaderKey(prefix + storeKeys), c.keep.Leader().Term, c.keep.Leads()
		},
	})
	c.office = membership.NewOffice(membership.OfficeConfig{
		DataDir: s.dataDir, Release: version.Version, Dir: c.dir, Members: c.members, Client: c.client, Leader: func() string { return c.keep.Leader().Name },
		HandOver: c.handOver, FeatureLevel: c.level.Present, Lag: c.lag, Restart: s.Restart, Logger: c.logger,
	})
	c.door = membership.NewDoor(membership.DoorConfig{Client: c.client, Dir: c.dir, Certificates: c.certificates, Authority: s.authorityFiles, Logger: c.logger})
	registerMembersMetrics(s.telemetry, c)
}

// leads says whether this relay decides. It may be asked before there is a copy, by metrics that are gathered to know their names.
func (c *clustered) leads() bool { return c.keep != nil && c.keep.Leads() }

// handOver lets another member lead the relays and the engine, if this one does. The engine comes first: what others ask for while it changes hands, as to lead the
// relays, may be dropped without a word, and is not tried again for seconds.
func (c *clustered) handOver(ctx context.Context) error {
	var err error
	if c.engine != nil {
		err = c.engine.HandOver()
	}
	if c.keep.Leads() {
		err = errors.Join(err, c.keep.HandOver(ctx, ""))
	}
	return err
}

// endLead hands over as soon as the relay is about to stop: pushes then go to the next one while this one drains.
func (c *clustered) endLead() {
	ctx, cancel := context.WithTimeout(context.Background(), handOverGrace) // the caller's context has ended; this one ends here
	defer cancel()
	if len(c.members.All()) < 2 {
		return
	}
	if err := c.handOver(ctx); err != nil {
		c.logger.Warn("this relay stops while it leads the cluster: another one takes its place when it is not heard", slog.Any("err", err))
	}
}

// handOverGrace bounds the wait for another leader at the end.
const handOverGrace = 3 * time.Second

// recover reads what the cluster's etcd holds beside the store.
func (c *clustered) recover(ctx context.Context) error {
	if err := c.location.Recover(ctx, c.server.agents); err != nil {
		return err
	}
	if err := c.journal.Recover(ctx); err != nil {
		return err
	}
	texts, err := c.server.opts.readTexts()
	if err != nil {
		return err
	}
	c.server.shared = texts
	c.settings.Own(shared.ConfigFile, texts.rules)
	c.settings.Own(shared.PolicyFile, texts.policy)
	return c.settings.Recover(ctx)
}

// run starts what belongs to a member while the relay runs.
func (c *clustered) run(ctx context.Context, keeping *errgroup.Group) {
	for _, part := range []func(context.Context) error{
		c.members.Run, c.certificates.Run, c.level.Run, c.location.Run, c.journal.Run, c.settings.Run, c.link.Run, c.runView, c.leadSettings, c.followLeadership,
	} {
		keeping.Go(func() error { return part(ctx) })
	}
	if c.upkeep != nil {
		keeping.Go(func() error { return c.upkeep.Run(ctx) })
	}
}

// end ends the member, once nothing of the relay uses it any more.
func (c *clustered) end() error {
	if c.journal != nil && c.server.ledger != nil { // for when it is none any more
		cfg := ledger.Config{Dir: c.server.dataDir, Release: version.Version, Grace: c.server.opts.AgentRenewalGrace}
		if err := ledger.WriteFile(cfg, c.journal.State()); err != nil {
			c.logger.Warn("the ledger in the data dir is older than that of the cluster", slog.Any("err", err))
		}
	}
	return c.disconnect()
}

// links are where agents dial the members, this one first.
func (c *clustered) links() []string {
	all := []string{c.dir.Member().Link}
	for _, m := range c.members.All() {
		if m.Name != c.members.Name() && !m.Witness && len(all) < enrol.MaxAddresses {
			all = append(all, m.Link)
		}
	}
	return all
}

// isOther reports whether an address is that of another member.
func (c *clustered) isOther(address string) bool {
	return slices.ContainsFunc(c.members.All(), func(m membership.Listed) bool { return m.Name != c.members.Name() && m.Link == address })
}

// authorityFiles returns the relays' own authority for agents, for one that joins.
func (s *Server) authorityFiles() (certificate, key []byte, err error) {
	if s.authority == nil {
		return nil, nil, nil
	}
	if certificate, err = os.ReadFile(s.authority.Files().CAFile); err != nil {
		return nil, nil, fmt.Errorf("reading the certificate of the relays' authority: %w", err)
	}
	if key, err = os.ReadFile(s.authority.KeyFile()); err != nil {
		return nil, nil, fmt.Errorf("reading the key of the relays' authority: %w", err)
	}
	return certificate, key, nil
}
