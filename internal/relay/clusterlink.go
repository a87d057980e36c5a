package relay

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/common/version"

	"pushrelay/internal/change"
	"pushrelay/internal/cluster/link"
	"pushrelay/internal/cluster/shared"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/ingest"
	"pushrelay/internal/keep"
	"pushrelay/internal/keep/replicated"
)

// newKeep makes the copy that this relay has of the cluster's store.
func (c *clustered) newKeep(store groupstore.Config) keep.Keep {
	s := c.server
	store.Gone, store.Records = c.gone, groupstore.RecordLimits{Full: c.full()}
	store.ShortWipes = func() bool { return c.level.Present() >= levelOfShortWipes }
	c.keep = replicated.New(replicated.Config{
		Client: c.client, Prefix: c.dir.Prefix() + storeKeys, Name: c.members.Name(), Store: store, Limits: replicated.Limits(c.limits), HasQuorum: c.hasQuorum(), Heard: c.heard, Others: c.others, MaxStaleness: s.opts.ClusterMaxStaleness, Release: version.Version,
		Sealed:     func() bool { return c.level.Present() >= levelOfSealedRecords },
		Registerer: s.telemetry, Logger: s.logger.With(slog.String("component", "store")),
	})
	return c.keep
}

// newLink makes the relay's end of the connections between members, once there is what decides.
func (c *clustered) newLink() {
	s := c.server
	c.link = link.New(link.Config{
		Name: c.members.Name(), Incarnation: c.dir.Incarnation(),
		ServerTLS: c.certificates.ServerTLS, ClientTLS: func() *tls.Config { return c.certificates.ClientTLS("") }, Identify: c.certificates.Identify,
		Members: c.linked, IsMember: c.members.IsMember, Address: c.members.Address,
		Leader: c.leader, Running: c.running, EpochCurrent: c.location.EpochCurrent, Gone: c.gone, Journals: func() [][16]byte { return s.store.Journals("") },
		Push: decider{s.ingester, c}, Store: s.store, WaitFor: c.keep.WaitFor, Timeout: s.opts.PushTimeout, Budget: s.budget,
		Local: s.agents, Here: c.location.IsHere, Places: c.location.Places, State: c.state,
		Logger: s.logger.With(slog.String("component", "link")), Registerer: s.telemetry,
	})
}

// linked returns the members that have a link.
func (c *clustered) linked() (names []string) {
	for _, m := range c.members.All() {
		if !m.Witness {
			names = append(names, m.Name)
		}
	}
	return names
}

func (c *clustered) leader() link.Leader {
	changed := c.changed.next()
	l := c.keep.Leader()
	return link.Leader{Name: l.Name, Term: l.Term, Leads: c.keep.Leads(), Changed: changed}
}

func (c *clustered) running(name string) (incarnation [16]byte, running bool) {
	p, running := c.members.Running(name)
	return p.Incarnation, running
}

func (c *clustered) gone(incarnation [16]byte) bool { return c.members.Gone(incarnation) }

func (c *clustered) state() link.State {
	s := c.keep.Status()
	return link.State{Revision: s.Revision, Position: s.Position, Lag: s.Lag, Leads: s.Leads || s.Leader.Name != "", Term: s.Leader.Term, HasQuorum: s.HasQuorum}
}

// heard returns when the leader was last heard over the link.
func (c *clustered) heard() time.Time { return c.link.States()[c.keep.Leader().Name].Heard }

// others asks the other members what they show, and whether there can be a majority with this one or without it.
func (c *clustered) others(ctx context.Context) replicated.Others {
	all := c.members.All()
	var asking sync.WaitGroup
	var witnesses, ableWitnesses atomic.Int64
	for _, m := range all {
		if m.Witness {
			asking.Go(func() {
				// A witness has no link, and cannot be asked what it knows.
				runs, refused := link.Knock(ctx, m.Peer)
				if runs {
					witnesses.Add(1)
				}
				if !refused {
					ableWitnesses.Add(1)
				}
			})
		}
	}
	position, answered, able := c.link.Others(ctx)
	asking.Wait()
	if c.engine == nil { // the majority is that of etcd's members: any relay that hears them will do
		return replicated.Others{Position: position, MayDecide: able > 0}
	}
	answered, able = answered+int(witnesses.Load()), able+int(ableWitnesses.Load())
	return replicated.Others{Position: position, MayElect: answered+1 > len(all)/2, MayDecide: able > len(all)/2}
}

// heardWithin is how long a member that was heard is waited for before what it lacks is given up (C19).
const heardWithin = time.Minute

// revisions returns up to which revision the members have everything that were heard lately, this one among them.
func (c *clustered) revisions() map[string]int64 {
	all := map[string]int64{c.members.Name(): c.keep.Status().Revision}
	for name, s := range c.link.States() {
		if s.Revision > 0 && time.Since(s.Heard) < heardWithin {
			all[name] = s.Revision
		}
	}
	return all
}

// lag returns how many revisions a member is behind what is committed.
func (c *clustered) lag(name string) (revisions int64, known bool) {
	revision, known := c.revisions()[name]
	return max(0, c.keep.Status().Head-revision), known
}

// understood returns the highest feature level that all members understand; 0 if that is not known.
func (c *clustered) understood() uint32 {
	least := uint32(featureLevel)
	all := c.members.All()
	for _, m := range all {
		p, running := c.members.Running(m.Name)
		if !running {
			return 0
		}
		least = min(least, p.Level)
	}
	if len(all) == 0 {
		return 0
	}
	return least
}

// A decider decides pushes where this relay leads. One that did not wait is pushed now, by the cluster's clock: that of the relay which took it may be another one,
// and no time that is shown goes back (C9). One of an agent counts if the session that carried it still may change groups, on whatever relay that is, and
// the agent was not thrown out.
type decider struct {
	*ingest.Ingester

	cluster *clustered
}

// epochPatience bounds the wait until this relay has heard of the session that carried a push.
const epochPatience = time.Second

// Apply stores the push. See push.Applier.
func (d decider) Apply(ctx context.Context, c *change.Change) change.Outcome {
	if !c.Waited && d.cluster.keep.Leads() {
		timed := *c
		timed.At = d.cluster.keep.Now()
		c = &timed
	}
	if c.Agent == "" {
		return d.Ingester.Apply(ctx, c)
	}
	waiting, cancel := context.WithTimeout(ctx, epochPatience)
	d.cluster.location.WaitEpoch(waiting, c.Epoch) //nolint:errcheck // What is not heard of then is not current.
	cancel()
	fenced := *c
	fenced.Current = func() bool {
		_, out := d.cluster.server.thrownOut(c.Agent)
		return !out && (c.Current == nil || c.Current()) && d.cluster.location.EpochCurrent(c.Agent, c.Epoch)
	}
	return d.Ingester.Apply(ctx, &fenced)
}

// journals is what the tunnel needs to know of agents' journals.
type journals struct{ cluster *clustered }

// decidedPatience bounds the wait until what was decided is committed.
const decidedPatience = time.Second

// Decided returns how far the agent's journal was decided, by all that is committed. What may vanish yet is not told: the agent would not send it again. It sends
// again what it is not told of, and that is recognised.
func (j journals) Decided(agent string, journal [16]byte) (sequence uint64, digest change.Digest, ok bool) {
	ctx, cancel := context.WithTimeout(context.Background(), decidedPatience)
	defer cancel()
	sequence, digest, ok = j.cluster.server.ingester.Decided(agent, journal)
	if !ok || j.cluster.keep.WaitFor(ctx, j.cluster.server.store.Position()) != nil {
		return 0, change.Digest{}, false
	}
	return sequence, digest, true
}

// Forget says that the agent will never send pushes of that journal again that are numbered up to through.
func (j journals) Forget(agent string, journal [16]byte, through uint64) {
	j.cluster.link.Forwarder.Forget(agent, journal, through)
}

// sharedStore is the store as this relay has it, whose changes are decided where the leader is.
type sharedStore struct {
	*groupstore.Store

	link *link.Link
}

// ApplyBodiless decides a change without a body.
func (s sharedStore) ApplyBodiless(ctx context.Context, c *change.Change) change.Outcome {
	return s.link.Forwarder.Store().ApplyBodiless(ctx, c)
}

// changes tells those who wait that another member leads, or is there.
type changes struct {
	mu sync.Mutex
	ch chan struct{} // guarded by mu; closed and replaced by tell
}

func newChanges() *changes { return &changes{ch: make(chan struct{})} }

func (c *changes) next() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ch
}

func (c *changes) tell() {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.ch)
	c.ch = make(chan struct{})
}

// followLeadership tells those who wait when another member leads, until ctx ends.
func (c *clustered) followLeadership(ctx context.Context) error {
	for {
		changed := c.keep.LeaderChanged()
		c.changed.tell()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// leadSettings makes this relay's files those of all whenever it begins to lead, until ctx ends.
func (c *clustered) leadSettings(ctx context.Context) error {
	for {
		changed := c.keep.LeaderChanged()
		if c.keep.Leads() {
			c.setFiles(ctx)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

func (c *clustered) setFiles(ctx context.Context) {
	texts, err := c.server.opts.readTexts()
	if err == nil {
		err = c.set(ctx, texts)
	}
	if err != nil && ctx.Err() == nil && !errors.Is(err, shared.ErrNotLeading) {
		c.logger.Error("the files of this relay, which leads, are not in use: all relays go by what they had", slog.Any("err", err))
	}
}

// set makes files those of all relays, if this one leads; otherwise they are noted as its own.
func (c *clustered) set(ctx context.Context, t texts) error {
	for kind, text := range map[shared.Kind][]byte{shared.ConfigFile: t.rules, shared.PolicyFile: t.policy} {
		if !c.keep.Leads() {
			c.settings.Own(kind, text)
			continue
		}
		if err := c.settings.Set(ctx, kind, text); err != nil {
			return err
		}
	}
	return nil
}

// settingPatience bounds the wait until what a file says is in use on this relay.
const settingPatience = 10 * time.Second

// reload makes files those of all relays, or notes them as this one's.
func (c *clustered) reload(t texts) error {
	ctx, cancel := context.WithTimeout(context.Background(), settingPatience) // nobody who asks for it has one
	defer cancel()
	return c.set(ctx, t)
}

// applySetting puts to use what the leader's file says.
func (s *Server) applySetting(kind shared.Kind, setting shared.Setting) error {
	s.using.Lock()
	defer s.using.Unlock()
	t := s.shared
	name := "the file of " + setting.By
	switch kind {
	case shared.ConfigFile:
		t.rules = setting.Text
	case shared.PolicyFile:
		t.policy = setting.Text
	}
	read, err := t.parse(name, name)
	if err != nil {
		return err
	}
	s.shared = t
	s.apply(read)
	s.agents.Review()
	return nil
}
