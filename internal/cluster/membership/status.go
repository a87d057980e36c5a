package membership

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"pushrelay/internal/relayapi"
)

// majorityPatience is how long a majority may take until it counts as away.
const majorityPatience = 2 * time.Second

// Status returns what this member knows of the cluster, also while no majority answers.
func (o *Office) Status(ctx context.Context) (relayapi.ClusterStatus, error) {
	if err := o.check(); err != nil {
		return relayapi.ClusterStatus{}, err
	}
	r, err := readRoll(ctx, o.cfg.Client, o.cfg.Dir, clientv3.WithSerializable())
	if err != nil {
		return relayapi.ClusterStatus{}, unavailable(fmt.Errorf("the etcd of this member does not answer: %w", err))
	}
	own := o.cfg.Dir.Member()
	s := relayapi.ClusterStatus{Cluster: own.Cluster, Member: own.Name, Leader: o.cfg.Leader(), ExternalEtcd: !own.HasOwnEtcd(), Members: []relayapi.ClusterMember{}}
	for i := range r.entries {
		s.Members = append(s.Members, o.statusOf(&r.entries[i], s.Leader))
	}
	if o.cfg.FeatureLevel != nil {
		s.FeatureLevel = o.cfg.FeatureLevel()
	}
	slices.SortFunc(s.Members, func(a, b relayapi.ClusterMember) int { return cmp.Compare(a.Name, b.Name) })
	s.Majority = o.hasMajority(ctx)
	Describe(&s)
	return s, nil
}

func (o *Office) hasMajority(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, majorityPatience)
	defer cancel()
	_, err := o.cfg.Client.Get(ctx, o.cfg.Dir.keys().members(), clientv3.WithCountOnly())
	return err == nil
}

func (o *Office) statusOf(e *entry, leader string) relayapi.ClusterMember {
	m := relayapi.ClusterMember{
		Name: e.Name, PeerAddress: e.Peer, LinkAddress: e.Link, WebAddress: e.Web, Witness: e.Witness, Leader: e.Name != "" && e.Name == leader,
		Self: e.Name == o.cfg.Dir.Member().Name, Role: relayapi.RoleVoter,
	}
	switch {
	case e.alone && e.started():
		m.Role, m.PeerAddress = relayapi.RoleMember, ""
	case e.alone:
		m.Role, m.PeerAddress = relayapi.RoleAwaited, ""
	case e.engine == nil:
		m.Role = relayapi.RoleMissing
	case e.engine.IsLearner && e.started():
		m.Role = relayapi.RoleLearner
	case e.engine.IsLearner:
		m.Role = relayapi.RoleAwaited
	default:
	}
	of, running := o.cfg.Members.Running(e.Name)
	m.Running, m.Release, m.FeatureLevel = running || m.Self, of.Release, of.Level
	if o.cfg.Lag != nil {
		if lag, known := o.cfg.Lag(e.Name); known {
			m.LagRevisions = &lag
		}
	}
	return m
}

// Describe says of a status what is lost if the next member fails, and what to do (C18).
func Describe(s *relayapi.ClusterStatus) {
	s.Words, s.MayFail = []string{}, 0
	t := tallyOf(s)
	if s.ExternalEtcd {
		t.describeRelays(s)
	} else {
		t.describeVoters(s)
	}
	for _, m := range s.Members {
		switch m.Role {
		case relayapi.RoleLearner:
			say(s, "%s catches up, and does not count yet.", m.Name)
		case relayapi.RoleAwaited:
			say(s, "%s was let in, and has not started: start it, or relay-server cluster remove %s.", cmp.Or(m.Name, m.PeerAddress), cmp.Or(m.Name, "it"))
		case relayapi.RoleMissing:
			say(s, "%s was removed, and goes off the list by itself.", m.Name)
		default:
		}
	}
	describeLevel(s)
}

// describeLevel says of an upgrade that it is not at its end: until then there is a way back (C20).
func describeLevel(s *relayapi.ClusterStatus) {
	var next uint32
	for _, m := range s.Members {
		next = max(next, m.FeatureLevel)
	}
	if 0 < s.FeatureLevel && s.FeatureLevel < next {
		say(s, "The feature level is %d. It rises to %d once all members run a release that understands that. Until then any of them may go back to the release before.", s.FeatureLevel, next)
	}
}

func say(s *relayapi.ClusterStatus, format string, args ...any) {
	s.Words = append(s.Words, fmt.Sprintf(format, args...))
}

// tally is which members count, and which of those run.
type tally struct {
	all, up int
	relays  []string // that run
	away    []string
}

func tallyOf(s *relayapi.ClusterStatus) (t tally) {
	for _, m := range s.Members {
		if m.Role != relayapi.RoleVoter && m.Role != relayapi.RoleMember {
			continue
		}
		t.all++
		if !m.Running {
			t.away = append(t.away, m.Name)
			continue
		}
		t.up++
		if !m.Witness {
			t.relays = append(t.relays, m.Name)
		}
	}
	return t
}

// describeVoters says it of members that have the cluster's etcd within.
func (t *tally) describeVoters(s *relayapi.ClusterStatus) {
	majority := t.all/2 + 1
	switch {
	case !s.Majority:
		say(s, "No majority of the voters answers, %d of %d: pushes are refused, agents keep what they are given, and scrapes go on with what each relay has. It is over once %d of them run and hear one another.", majority, t.all, majority)
		say(s, "If more of them are lost for good than may be: on one that is left, stop it, and relay-server cluster force-new. Nothing else brings the cluster back then.")
	case t.all == 1:
		say(s, "This is the only voter. While it is away nothing is taken and nothing shown, and if its disk is lost, so is what it holds, but for backups and what agents still have. Two more members end that: relay-server cluster token NAME")
	case t.up <= majority:
		say(s, "If one more voter fails, pushes are refused until it or another one is back. Scrapes go on at the relays that are left, agents keep what they are given, and nothing that was acknowledged is lost.")
	default:
		s.MayFail = t.up - majority
		say(s, "Any %s may fail: pushes go on within two seconds, and nothing that was acknowledged is lost.", countOf(s.MayFail))
	}
	t.describeAway(s)
	if s.Majority && t.all > 1 && len(t.relays) == 1 {
		say(s, "%s is the only relay that runs: if it fails, nobody takes pushes, and nobody answers scrapes.", t.relays[0])
	}
	if t.all > 1 && t.all%2 == 0 {
		say(s, "%d voters are no safer than %d: one more ends that, and a witness will do (relay-server cluster token NAME --witness).", t.all, t.all-1)
	}
}

// describeRelays says it of members whose etcd runs by itself.
func (t *tally) describeRelays(s *relayapi.ClusterStatus) {
	switch {
	case !s.Majority:
		say(s, "The cluster's etcd, which runs by itself, does not answer this relay: pushes are refused, agents keep what they are given, and scrapes go on with what each relay has. It is over once etcd answers.")
	case t.up <= 1:
		say(s, "This is the only relay that runs: if it fails, nobody takes pushes, and nobody answers scrapes. Nothing that was acknowledged is lost with it: etcd has it.")
	default:
		s.MayFail = t.up - 1
		say(s, "Any %s may fail, as long as etcd answers, which runs by itself: pushes go on within two seconds, and nothing that was acknowledged is lost.", countOf(s.MayFail))
	}
	t.describeAway(s)
}

func (t *tally) describeAway(s *relayapi.ClusterStatus) {
	if len(t.away) > 0 {
		say(s, "Not running, or not heard: %s. Start each, or relay-server cluster remove it, if it is lost.", strings.Join(t.away, ", "))
	}
}

func countOf(n int) string {
	if n == 1 {
		return "one member"
	}
	return fmt.Sprintf("%d members", n)
}
