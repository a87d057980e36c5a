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
	r, err := readRoll(ctx, o.cfg.Client, clientv3.WithSerializable())
	if err != nil {
		return relayapi.ClusterStatus{}, unavailable(fmt.Errorf("this member's etcd does not answer: %w", err))
	}
	own := o.cfg.Dir.Member()
	s := relayapi.ClusterStatus{Cluster: own.Cluster, Member: own.Name, Leader: o.cfg.Leader(), Members: []relayapi.ClusterMember{}}
	for i := range r.entries {
		s.Members = append(s.Members, o.statusOf(&r.entries[i], s.Leader))
	}
	slices.SortFunc(s.Members, func(a, b relayapi.ClusterMember) int { return cmp.Compare(a.Name, b.Name) })
	s.Majority = o.hasMajority(ctx)
	Describe(&s)
	return s, nil
}

func (o *Office) hasMajority(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, majorityPatience)
	defer cancel()
	_, err := o.cfg.Client.Get(ctx, membersPrefix, clientv3.WithCountOnly())
	return err == nil
}

func (o *Office) statusOf(e *entry, leader string) relayapi.ClusterMember {
	m := relayapi.ClusterMember{
		Name: e.Name, PeerAddress: e.Peer, LinkAddress: e.Link, WebAddress: e.Web, Witness: e.Witness, Leader: e.Name != "" && e.Name == leader,
		Self: e.Name == o.cfg.Dir.Member().Name, Role: relayapi.RoleVoter,
	}
	switch {
	case e.engine == nil:
		m.Role = relayapi.RoleMissing
	case e.engine.IsLearner && e.started():
		m.Role = relayapi.RoleLearner
	case e.engine.IsLearner:
		m.Role = relayapi.RoleAwaited
	default:
	}
	of, running := o.cfg.Members.Running(e.Name)
	m.Running, m.Release = running || m.Self, of.Release
	if o.cfg.Lag != nil {
		if lag, known := o.cfg.Lag(e.Name); known {
			m.LagRevisions = &lag
		}
	}
	return m
}

// Describe says of a status what is lost if the next member fails, and what to do (C18).
func Describe(s *relayapi.ClusterStatus) {
	voters, up, relays := 0, 0, []string{}
	var away []string
	for _, m := range s.Members {
		if m.Role != relayapi.RoleVoter {
			continue
		}
		voters++
		if !m.Running {
			away = append(away, m.Name)
			continue
		}
		up++
		if !m.Witness {
			relays = append(relays, m.Name)
		}
	}
	s.Words, s.MayFail = []string{}, 0
	say := func(format string, args ...any) { s.Words = append(s.Words, fmt.Sprintf(format, args...)) }
	majority := voters/2 + 1
	switch {
	case !s.Majority:
		say("No majority of the voters answers, %d of %d: pushes are refused, agents keep what they are given, and scrapes go on with what each relay has. It is over once %d of them run and hear one another.", majority, voters, majority)
		say("If more of them are lost for good than may be: on one that is left, stop it, and relay-server cluster force-new. Nothing else brings the cluster back then.")
	case voters == 1:
		say("This is the only voter. While it is away nothing is taken and nothing shown, and if its disk is lost, so is what it holds, but for backups and what agents still have. Two more members end that: relay-server cluster token NAME")
	case up <= majority:
		say("If one more voter fails, pushes are refused until it or another one is back. Scrapes go on at the relays that are left, agents keep what they are given, and nothing that was acknowledged is lost.")
	default:
		s.MayFail = up - majority
		say("Any %s may fail: pushes go on within two seconds, and nothing that was acknowledged is lost.", countOf(s.MayFail))
	}
	if len(away) > 0 {
		say("Not running, or not heard: %s. Start each, or relay-server cluster remove it, if it is lost.", strings.Join(away, ", "))
	}
	if s.Majority && voters > 1 && len(relays) == 1 {
		say("%s is the only relay that runs: if it fails, nobody takes pushes, and nobody answers scrapes.", relays[0])
	}
	if voters > 1 && voters%2 == 0 {
		say("%d voters are no safer than %d: one more ends that, and a witness will do (relay-server cluster token NAME --witness).", voters, voters-1)
	}
	for _, m := range s.Members {
		switch m.Role {
		case relayapi.RoleLearner:
			say("%s catches up, and does not count yet.", m.Name)
		case relayapi.RoleAwaited:
			say("%s was let in, and has not started: start it, or relay-server cluster remove %s.", cmp.Or(m.Name, m.PeerAddress), cmp.Or(m.Name, "it"))
		case relayapi.RoleMissing:
			say("%s was removed, and goes off the list by itself.", m.Name)
		default:
		}
	}
}

func countOf(n int) string {
	if n == 1 {
		return "one member"
	}
	return fmt.Sprintf("%d members", n)
}
