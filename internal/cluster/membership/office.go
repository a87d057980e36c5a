package membership

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"pushrelay/internal/enrol"
	"pushrelay/internal/monotonic"
	"pushrelay/internal/relayapi"
)

// changePatience bounds what a change of the members may take, and one question to do with it.
const changePatience = 10 * time.Second

// handOverPatience bounds how long a former leader waits for the next one.
const handOverPatience = 10 * time.Second

// stopPatience bounds the wait for this member's etcd to stop, which was told that it was removed.
const stopPatience = 2 * time.Second

// OfficeConfig is what an [Office] works with.
type OfficeConfig struct {
	// DataDir and Release are required, and so are Restart and Logger.
	DataDir, Release string
	// Dir, Members and Client are nil for a relay that is no member: it can become the first one of a cluster.
	Dir     *Dir
	Members *Members
	Client  *clientv3.Client
	// Leader returns the member that decides, empty for none; HandOver has another one take its place, if this one decides. Required for a member.
	Leader   func() string
	HandOver func(ctx context.Context) error
	// FeatureLevel returns the cluster's feature level, 0 while it is not known; nil if nobody knows it.
	FeatureLevel func() uint32
	// Lag returns how far a member is behind what is committed, in revisions; nil if nobody knows of any.
	Lag func(name string) (revisions int64, known bool)
	// Restart has the relay begin anew, as what its data dir says then; a witness ends. It must not wait for that.
	Restart func()
	Logger  *slog.Logger
}

// Office does what the operator of a member says. It is safe for concurrent use.
type Office struct{ cfg OfficeConfig }

// NewOffice returns an office. It starts nothing.
func NewOffice(cfg OfficeConfig) *Office { return &Office{cfg} }

// Found makes the relay the first member of a cluster.
func (o *Office) Found(_ context.Context, n relayapi.NewCluster) (relayapi.MadeCluster, error) {
	if o.cfg.Dir != nil {
		return relayapi.MadeCluster{}, conflict(fmt.Errorf("this relay is member %q of a cluster already (relay-server cluster status)", o.cfg.Dir.Member().Name))
	}
	f := Founding{
		DataDir: o.cfg.DataDir, Name: n.Name, Addresses: Addresses{Peer: n.PeerAddress, Link: n.LinkAddress, Web: n.WebAddress}, Listen: n.ListenAddress, PeerCADir: n.PeerCADir,
		Release: o.cfg.Release,
	}
	if err := f.check(); err != nil {
		return relayapi.MadeCluster{}, badRequest(err)
	}
	d, err := Found(f)
	if err != nil {
		return relayapi.MadeCluster{}, err
	}
	m := d.Member()
	o.cfg.Logger.Warn("this relay becomes the first member of a cluster", slog.String("audit", "cluster_made"), slog.String("member", m.Name), slog.String("cluster", m.Cluster))
	o.cfg.Restart()
	return relayapi.MadeCluster{Cluster: m.Cluster, Name: m.Name, Restarts: true}, nil
}

// errNoMember is what a relay says that is none.
var errNoMember = errors.New("this relay is no member of a cluster: relay-server cluster init makes it the first one of a new one, and relay-server cluster join an empty data dir another one of one that is there")

func (o *Office) check() error {
	if o.cfg.Dir == nil {
		return conflict(errNoMember)
	}
	return nil
}

// Token makes a token that lets in one member.
func (o *Office) Token(ctx context.Context, t relayapi.NewMemberToken) (relayapi.MemberToken, error) {
	if err := o.check(); err != nil {
		return relayapi.MemberToken{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, changePatience)
	defer cancel()
	r, err := readRoll(ctx, o.cfg.Client, o.cfg.Dir)
	if err != nil {
		return relayapi.MemberToken{}, explainQuorum(err)
	}
	if e := r.get(t.Name); e != nil && e.started() {
		return relayapi.MemberToken{}, conflict(fmt.Errorf("there is a member %q already: give the new one another name, or remove the old one first (relay-server cluster remove %s)", t.Name, t.Name))
	}
	if len(r.entries) >= MaxMembers && r.get(t.Name) == nil {
		return relayapi.MemberToken{}, conflict(fmt.Errorf("the cluster has %d members, and more make it slower and no safer: remove one first", len(r.entries)))
	}
	addresses := o.links()
	text, token, ends, err := MakeToken(ctx, o.cfg.Client, o.cfg.Dir, NewToken{
		Name: t.Name, TTL: time.Duration(t.TTLSeconds) * time.Second, Witness: t.Witness, Addresses: addresses,
	})
	if err != nil {
		return relayapi.MemberToken{}, err
	}
	o.cfg.Logger.Info("join token for a member made", slog.String("audit", "member_token_made"), slog.String("token", token.ID.String()), slog.String("member", t.Name), slog.Time("ends", ends))
	return relayapi.MemberToken{ID: token.ID.String(), Name: t.Name, Witness: t.Witness, EndsAt: ends.UTC().Truncate(time.Second), Text: text, Addresses: addresses}, nil
}

// links are where the members' ports for agents are, that of this one first.
func (o *Office) links() []string {
	own := o.cfg.Dir.Member()
	all := []string{own.Link}
	for _, m := range o.cfg.Members.All() {
		if m.Name != own.Name && !m.Witness && len(all) < enrol.MaxAddresses {
			all = append(all, m.Link)
		}
	}
	return all
}

// Remove removes another member.
func (o *Office) Remove(ctx context.Context, name string) (relayapi.MemberGone, error) {
	if err := o.check(); err != nil {
		return relayapi.MemberGone{}, err
	}
	if name == o.cfg.Dir.Member().Name {
		return relayapi.MemberGone{}, conflict(fmt.Errorf("this is member %q itself: relay-server cluster leave, or remove it on another one", name))
	}
	ctx, cancel := context.WithTimeout(ctx, changePatience)
	defer cancel()
	r, err := readRoll(ctx, o.cfg.Client, o.cfg.Dir)
	if err != nil {
		return relayapi.MemberGone{}, explainQuorum(err)
	}
	e := r.get(name)
	if e == nil {
		return relayapi.MemberGone{}, notFound(fmt.Errorf("there is no member %q (relay-server cluster status lists them)", name))
	}
	if err := o.remove(ctx, e); err != nil {
		return relayapi.MemberGone{}, err
	}
	o.cfg.Logger.Warn("a member was removed from the cluster", slog.String("audit", "member_removed"), slog.String("member", name))
	return relayapi.MemberGone{Name: name}, nil
}

// remove removes a member from etcd, and then from the list. Cut short in between it is done by whoever asks again, or by the sweep.
func (o *Office) remove(ctx context.Context, e *entry) error {
	ctx, cancel := context.WithTimeout(ctx, changePatience)
	defer cancel()
	for e.engine != nil {
		_, err := o.cfg.Client.MemberRemove(ctx, e.engine.ID)
		if err == nil || errors.Is(err, rpctypes.ErrMemberNotFound) {
			break
		}
		if !errors.Is(err, rpctypes.ErrUnhealthy) || ctx.Err() != nil {
			return explainRemoval(e.Name, err)
		}
		monotonic.Sleep(ctx, time.Second) // those who have just come have not heard one another for long enough
	}
	return strike(ctx, o.cfg.Client, o.cfg.Dir.keys(), e)
}

// strike takes a member off the list that etcd does not have any more.
func strike(ctx context.Context, client *clientv3.Client, keys keys, e *entry) error {
	key := keys.member(e.Name)
	same := clientv3.Compare(clientv3.ModRevision(key), "=", e.revision)
	if e.alone { // it writes its key anew now and then, and nobody would come back to it
		same = clientv3.Compare(clientv3.CreateRevision(key), "=", e.created)
	}
	_, err := client.Txn(ctx).If(same).Then(clientv3.OpDelete(key), clientv3.OpDelete(keys.running(e.Name))).Commit()
	switch {
	case err != nil && e.alone:
		return explainQuorum(err)
	case err != nil:
		return unavailable(fmt.Errorf("member %q is removed, and still listed: %w; it goes off the list by itself", e.Name, err))
	default:
		return nil
	}
}

func explainRemoval(name string, err error) error {
	switch {
	case errors.Is(err, rpctypes.ErrUnhealthy):
		return unavailable(fmt.Errorf("member %q is not removed: the others have not all heard one another for some seconds, and without it fewer than a majority might be left (relay-server cluster status): ask again", name))
	case errors.Is(err, rpctypes.ErrMemberNotEnoughStarted):
		return conflict(fmt.Errorf("without member %q no majority of those that are left would run: start another one first (relay-server cluster status)", name))
	default:
		return explainQuorum(err)
	}
}

func explainQuorum(err error) error {
	return unavailable(fmt.Errorf("no majority of the cluster's members answers (relay-server cluster status says who is away): %w", err))
}

// HandOver has another member decide.
func (o *Office) HandOver(ctx context.Context) (relayapi.HandedOver, error) {
	if err := o.check(); err != nil {
		return relayapi.HandedOver{}, err
	}
	name := o.cfg.Dir.Member().Name
	if leader := o.cfg.Leader(); leader != name {
		return relayapi.HandedOver{}, conflict(fmt.Errorf("member %q does not lead, %s does: ask that one", name, nobodyOr(leader)))
	}
	if err := o.cfg.HandOver(ctx); err != nil {
		return relayapi.HandedOver{}, unavailable(fmt.Errorf("member %q leads on: %w", name, err))
	}
	ctx, cancel := context.WithTimeout(ctx, handOverPatience)
	defer cancel()
	for ctx.Err() == nil {
		if leader := o.cfg.Leader(); leader != name && leader != "" {
			o.cfg.Logger.Info("another member leads, as the operator wants", slog.String("audit", "handed_over"), slog.String("leader", leader))
			return relayapi.HandedOver{Former: name, Leader: leader}, nil
		}
		monotonic.Sleep(ctx, 20*time.Millisecond)
	}
	return relayapi.HandedOver{}, unavailable(fmt.Errorf("member %q has handed over, and no other one has taken the lead within %s: is another relay running?", name, handOverPatience))
}

func nobodyOr(name string) string {
	if name == "" {
		return "nobody"
	}
	return fmt.Sprintf("%q", name)
}

// Leave makes the relay one of its own, with what it holds.
func (o *Office) Leave(ctx context.Context) (relayapi.MemberGone, error) {
	if err := o.check(); err != nil {
		return relayapi.MemberGone{}, err
	}
	name := o.cfg.Dir.Member().Name
	ctx, cancel := context.WithTimeout(ctx, handOverPatience+2*changePatience)
	defer cancel()
	r, err := readRoll(ctx, o.cfg.Client, o.cfg.Dir)
	if err != nil {
		return relayapi.MemberGone{}, explainQuorum(err)
	}
	own, last, err := r.leaving(name)
	if err != nil {
		return relayapi.MemberGone{}, err
	}
	if !last && o.cfg.Leader() == name {
		if _, err := o.HandOver(ctx); err != nil {
			return relayapi.MemberGone{}, err
		}
	}
	// First: what the cluster has removed must not start as its member.
	if err := o.cfg.Dir.Leave(); err != nil {
		return relayapi.MemberGone{}, err
	}
	if !last {
		if err := o.remove(ctx, own); err != nil && o.hasStill(ctx, own) {
			return relayapi.MemberGone{}, errors.Join(err, o.cfg.Dir.stay())
		}
	}
	o.cfg.Logger.Warn("this member leaves the cluster", slog.String("audit", "member_left"), slog.String("member", name), slog.Bool("last", last))
	o.cfg.Restart()
	witness := o.cfg.Dir.Member().Witness
	return relayapi.MemberGone{Name: name, Last: last, Restarts: !witness, Witness: witness}, nil
}

// leaving returns the entry of a member that leaves, and whether nobody is left then.
func (r *roll) leaving(name string) (own *entry, last bool, err error) {
	relays, others := 0, 0
	for i := range r.entries {
		switch e := &r.entries[i]; {
		case e.listed && e.Name == name:
			own = e
		case e.engine == nil && !e.alone: // it has left just now, and goes off the list next
		case e.Witness:
			others++
		default:
			others++
			relays++
		}
	}
	if own == nil {
		return nil, false, conflict(fmt.Errorf("member %q was removed from the cluster: stop this relay, and then relay-server cluster leave", name))
	}
	if others > 0 && relays == 0 {
		return nil, false, conflict(errors.New("what would be left are witnesses, which hold nothing for anybody: remove them first (relay-server cluster remove NAME)"))
	}
	return own, others == 0, nil
}

// hasStill reports whether etcd has this member still, or cannot say.
func (o *Office) hasStill(ctx context.Context, e *entry) bool {
	if o.wasTold(ctx) {
		return false
	}
	if e.alone {
		got, err := o.cfg.Client.Get(ctx, o.cfg.Dir.keys().member(e.Name), clientv3.WithCountOnly())
		return err != nil || got.Count > 0
	}
	list, err := o.cfg.Client.MemberList(ctx, clientv3.WithSerializable())
	if err != nil {
		return true
	}
	for _, member := range list.Members {
		if e.engine != nil && member.ID == e.engine.ID {
			return true
		}
	}
	return false
}

// wasTold reports whether this member's etcd has stopped because it was removed. Another member may tell it that before it hears that its own wish was granted.
func (o *Office) wasTold(ctx context.Context) bool {
	engine := o.cfg.Members.cfg.Engine
	if engine == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, stopPatience)
	defer cancel()
	select {
	case <-engine.Stopped():
	case <-ctx.Done():
	}
	return engine.Removed()
}

// Leave notes that the data dir is to become that of a relay of its own, with what its etcd holds. The cluster is not told.
func (d *Dir) Leave() error {
	if m := d.Member(); m.Pending != Nothing && m.Pending != Leave {
		return conflict(fmt.Errorf("member %q has not done yet what is pending, %q: start it once, and leave then", m.Name, m.Pending))
	}
	return d.change(func(m *Member) { m.Pending = Leave })
}

// stay takes Leave back.
func (d *Dir) stay() error { return d.change(func(m *Member) { m.Pending = Nothing }) }
