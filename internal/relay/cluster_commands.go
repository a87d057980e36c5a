package relay

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/common/version"

	"pushrelay/internal/apiclient"
	"pushrelay/internal/cluster/membership"
	"pushrelay/internal/monotonic"
	"pushrelay/internal/relayapi"
)

// becomePatience bounds how long a command waits until a relay is something else.
const becomePatience = 5 * time.Minute

// A Cluster is the membership of a data dir as commands see it.
type Cluster struct {
	Agents

	// Say is told what a command waits for, each time once; nil for nobody.
	Say func(words string)
}

func (c Cluster) say(format string, args ...any) {
	if c.Say != nil {
		c.Say(fmt.Sprintf(format, args...))
	}
}

// Init makes the relay the first member of a cluster: the one that runs, which then restarts in place, or what a stopped one is at its next start.
func (c Cluster) Init(ctx context.Context, n relayapi.NewCluster) (relayapi.MadeCluster, Source, error) {
	return either(c.Agents,
		func(relay *relayapi.Control) (relayapi.MadeCluster, error) {
			made, err := relay.FoundCluster(ctx, n)
			if err == nil {
				err = c.await(ctx, restarted, func() bool {
					_, err := relay.Cluster(ctx)
					return err == nil
				})
			}
			return made, err
		},
		func() (made relayapi.MadeCluster, err error) {
			d, err := membership.Found(membership.Founding{
				DataDir: c.DataDir, Name: n.Name, Addresses: membership.Addresses{Peer: n.PeerAddress, Link: n.LinkAddress, Web: n.WebAddress}, Listen: n.ListenAddress,
				PeerCADir: n.PeerCADir, Release: version.Version,
			})
			if err != nil {
				return made, err
			}
			m := d.Member()
			return relayapi.MadeCluster{Cluster: m.Cluster, Name: m.Name}, nil
		})
}

// restarted is what most commands wait for.
const restarted = "the relay has restarted in place"

// await waits until a relay has done something.
func (c Cluster) await(ctx context.Context, what string, done func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, becomePatience)
	defer cancel()
	c.say("waiting until %s", what)
	for !done() {
		if !monotonic.Sleep(ctx, 200*time.Millisecond) {
			return fmt.Errorf("it is not known that %s: its log says why: %w", what, context.Cause(ctx))
		}
	}
	return nil
}

// Joined is a member that was let in, or begins the cluster, and starts next.
type Joined struct {
	Cluster string `json:"cluster"`
	Name    string `json:"name"`
	Witness bool   `json:"witness"`
	// First says that it begins the cluster, and Already that it was a member before.
	First   bool     `json:"first"`
	Already bool     `json:"already"`
	Members []string `json:"members"`
	// EtcdPrefix is what the keys begin with in an etcd that runs by itself; empty for one within the members.
	EtcdPrefix string `json:"etcd_prefix,omitempty"`
}

func joinedAs(m *membership.Member) Joined {
	return Joined{Cluster: m.Cluster, Name: m.Name, Witness: m.Witness, Members: slices.Sorted(maps.Keys(m.Members)), EtcdPrefix: m.EtcdPrefix}
}

// Join makes an empty data dir that of a new member. With the authority of members nothing is done if it is one already.
func (c Cluster) Join(ctx context.Context, j membership.Joining) (Joined, error) {
	if j.PeerCADir != "" {
		before, is, err := c.already(ctx, &j)
		if err != nil || is {
			return before, err
		}
	}
	j.DataDir, j.Release = c.DataDir, version.Version
	told := ""
	j.Progress = func(words string) {
		if words != told {
			c.say("%s; asking again", words)
		}
		told = words
	}
	d, err := membership.Join(ctx, j)
	if err != nil {
		return Joined{}, err
	}
	m := d.Member()
	joined := joinedAs(&m)
	joined.First = m.Pending == membership.Import
	return joined, nil
}

// already says whether the data dir is that of the member already, whether it runs or not. A relay alone that runs stays one.
func (c Cluster) already(ctx context.Context, j *membership.Joining) (joined Joined, is bool, err error) {
	d, err := membership.Open(c.DataDir, version.Version)
	if err != nil {
		return joined, false, err
	}
	if d == nil {
		running, err := relayapi.NewControl(c.DataDir)
		if err != nil {
			return joined, false, err
		}
		if _, err := running.Cluster(ctx); !isAbsent(err) {
			return joined, false, fmt.Errorf("--data.dir %s: %w, or make it the first member as it runs (relay-server cluster init)", c.DataDir, ErrRuns)
		}
		return joined, false, nil
	}
	m := d.Member()
	if m.Name != j.Name {
		return joined, false, fmt.Errorf("--data.dir %s is that of member %q, and this is to be %q: each has its own", c.DataDir, m.Name, j.Name)
	}
	joined = joinedAs(&m)
	joined.Already = true
	return joined, true, nil
}

// Token makes a token that lets in a member.
func (c Cluster) Token(ctx context.Context, t relayapi.NewMemberToken) (relayapi.MemberToken, error) {
	return asking(c, func(relay *relayapi.Control) (relayapi.MemberToken, error) { return relay.MakeMemberToken(ctx, t) })
}

// Status returns what the member knows of its cluster.
func (c Cluster) Status(ctx context.Context) (relayapi.ClusterStatus, error) {
	return asking(c, func(relay *relayapi.Control) (relayapi.ClusterStatus, error) { return relay.Cluster(ctx) })
}

// Remove removes another member.
func (c Cluster) Remove(ctx context.Context, name string) (relayapi.MemberGone, error) {
	return asking(c, func(relay *relayapi.Control) (relayapi.MemberGone, error) { return relay.RemoveMember(ctx, name) })
}

// HandOver has another member lead.
func (c Cluster) HandOver(ctx context.Context) (relayapi.HandedOver, error) {
	return asking(c, func(relay *relayapi.Control) (relayapi.HandedOver, error) { return relay.HandOver(ctx) })
}

// asking asks the member that runs on the data dir.
func asking[T any](c Cluster, ask func(*relayapi.Control) (T, error)) (T, error) {
	answer, _, err := either(c.Agents, ask, func() (T, error) {
		var none T
		d, err := membership.Open(c.DataDir, version.Version)
		switch {
		case err != nil:
			return none, err
		case d == nil:
			return none, fmt.Errorf("it is no member of a cluster, and %w", ErrNeedsRelay)
		default:
			return none, fmt.Errorf("it is that of member %q; %w: start it, or ask on another member", d.Member().Name, ErrNeedsRelay)
		}
	})
	return answer, err
}

// Leave makes the member a relay of its own: the one that runs, which then restarts in place, or what a stopped one is at its next start, of which the
// cluster is not told. A witness ends instead, and its data dir is nobody's.
func (c Cluster) Leave(ctx context.Context) (relayapi.MemberGone, Source, error) {
	return either(c.Agents,
		func(relay *relayapi.Control) (relayapi.MemberGone, error) {
			gone, err := relay.LeaveCluster(ctx)
			switch {
			case err != nil:
			case gone.Witness:
				err = c.await(ctx, "the witness has ended", func() bool { d, err := membership.Open(c.DataDir, version.Version); return err == nil && d == nil })
			default:
				err = c.await(ctx, restarted, func() bool { return isNoMember(ctx, relay) })
			}
			return gone, err
		},
		func() (gone relayapi.MemberGone, err error) {
			d, err := c.stopped()
			if err != nil {
				return gone, err
			}
			gone = relayapi.MemberGone{Name: d.Member().Name, Witness: d.Member().Witness}
			if err := d.Leave(); err != nil || !gone.Witness {
				return gone, err
			}
			return gone, d.Done() // it holds nothing that anybody would want
		})
}

// isNoMember reports whether a relay answers that it is no member.
func isNoMember(ctx context.Context, relay *relayapi.Control) bool {
	_, err := relay.Cluster(ctx)
	refused, answered := errors.AsType[*apiclient.RefusedError](err)
	return answered && refused.Status == http.StatusConflict
}

// stopped returns the member of a data dir that no relay runs on.
func (c Cluster) stopped() (*membership.Dir, error) {
	d, err := membership.Open(c.DataDir, version.Version)
	if err == nil && d == nil {
		err = errors.New("it is no member of a cluster")
	}
	return d, err
}

// Forced is a new cluster of one member that was stopped.
type Forced struct {
	Cluster string   `json:"cluster"`
	Name    string   `json:"name"`
	Lost    []string `json:"lost"`
}

// ErrRuns means that a relay runs where none may.
var ErrRuns = errors.New("a relay runs on it: stop it first")

// ForceNew makes a stopped member the only one of a new cluster.
func (c Cluster) ForceNew(ctx context.Context) (Forced, error) {
	forced, _, err := either(c.Agents,
		func(relay *relayapi.Control) (Forced, error) {
			if _, err := relay.Cluster(ctx); isAbsent(err) {
				return Forced{}, err
			}
			return Forced{}, fmt.Errorf("--data.dir %s: %w", c.DataDir, ErrRuns)
		},
		func() (Forced, error) {
			d, err := c.stopped()
			if err != nil {
				return Forced{}, err
			}
			lost, err := d.ForceBegin()
			m := d.Member()
			return Forced{Cluster: m.Cluster, Name: m.Name, Lost: append([]string{}, lost...)}, err
		})
	return forced, err
}
