package relay

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"pushrelay/internal/cluster/membership"
	"pushrelay/internal/httpsd"
	"pushrelay/internal/relayapi"
	"pushrelay/internal/web"
)

// viewEvery is how often it is looked who the members are, for the pages.
const viewEvery = 2 * time.Second

// clusterView is what the pages were told last of the members.
type clusterView struct {
	status atomic.Pointer[relayapi.ClusterStatus]
}

// runView looks who the members are, until ctx ends.
func (c *clustered) runView(ctx context.Context) error {
	tick := time.NewTicker(viewEvery)
	defer tick.Stop()
	for {
		if s, err := c.office.Status(ctx); err == nil {
			c.view.status.Store(&s)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// page returns what is known of the cluster, for the pages.
func (c *clustered) page() *web.ClusterView {
	s := c.keep.Status()
	v := &web.ClusterView{
		Name: c.members.Name(), Leader: s.Leader.Name, Term: s.Leader.Term, HasQuorum: s.HasQuorum, LastHeard: s.LastHeard, Lag: s.Lag, Clock: s.Clock, Settings: c.settings.Words(),
	}
	told := c.view.status.Load()
	if told == nil {
		return v
	}
	v.Words = told.Words
	for _, m := range told.Members {
		v.Members = append(v.Members, web.ClusterMember{
			Name: m.Name, WebAddress: m.WebAddress, LinkAddress: m.LinkAddress, PeerAddress: m.PeerAddress, Role: webRole(m.Role), Witness: m.Witness,
			Running: m.Running, Release: m.Release, Behind: m.LagRevisions,
		})
	}
	return v
}

// webRole returns what a member is for the pages: one that has run counts, whether or not it votes.
func webRole(role string) web.Role {
	if role == relayapi.RoleMember {
		return web.Voter
	}
	return web.Role(role)
}

// ready returns why this member should not be asked.
func (c *clustered) ready() error {
	if c.upkeep != nil {
		if busy := c.upkeep.Busy(); busy != "" {
			return fmt.Errorf("this relay is not to be asked now: %s", busy)
		}
	}
	return c.keep.Ready(c.server.opts.ClusterMaxStaleness)
}

// writeState says how the member is, for people.
func (c *clustered) writeState(w io.Writer) {
	s := c.keep.Status()
	leader := "none leads"
	switch {
	case s.Leads:
		leader = "it leads"
	case s.Leader.Name != "":
		leader = s.Leader.Name + " leads"
	}
	fmt.Fprintf(w, "\nmember %s of a cluster: %s\n", c.members.Name(), leader)
	if !s.HasQuorum {
		fmt.Fprintln(w, "no majority of the cluster answers: pushes are answered 503, and what is shown is what this relay has")
	}
	for _, words := range c.settings.Words() {
		fmt.Fprintln(w, words)
	}
}

// relays are the members with their own metrics.
func (c *clustered) relays() (all []httpsd.Relay) {
	for _, m := range c.members.All() {
		if !m.Witness && m.Web != "" {
			all = append(all, httpsd.Relay{Name: m.Name, Address: m.Web})
		}
	}
	return all
}

// relayMetricsPath is where a member says what is true of it alone (C9).
const relayMetricsPath = "/-/relay-metrics"

func registerMembersMetrics(reg prometheus.Registerer, c *clustered) {
	states := []string{"running", "away"}
	for _, state := range states {
		promauto.With(reg).NewGaugeFunc(prometheus.GaugeOpts{
			Name: "relay_cluster_members", Help: "Members of the cluster, by whether they are known to run; one that was let in and has not started is not among them.",
			ConstLabels: prometheus.Labels{"state": state},
		}, func() float64 { return float64(c.count(state == states[0])) })
	}
	promauto.With(reg).NewGaugeFunc(prometheus.GaugeOpts{
		Name: "relay_cluster_feature_level", Help: "The feature level of the cluster, as this relay knows it: it rises once all members run a release that understands it; 0 until it is known.",
	}, func() float64 { return float64(c.level.Present()) })
	promauto.With(reg).NewGaugeFunc(prometheus.GaugeOpts{
		Name: "relay_cluster_etcd_leader", Help: "Whether this member leads the cluster's etcd, which need not be the one that decides pushes.",
	}, func() float64 {
		if c.engine != nil && c.engine.Leads() {
			return 1
		}
		return 0
	})
	if c.quota > 0 {
		promauto.With(reg).NewGaugeFunc(prometheus.GaugeOpts{
			Name: "relay_cluster_etcd_quota_bytes", Help: "What this member's etcd may store at most; of one that runs by itself the member that may least.",
		}, func() float64 { return float64(c.quota) })
	}
}

// count counts members that run, or that do not.
func (c *clustered) count(run bool) (n int) {
	for _, m := range c.members.All() {
		_, running := c.members.Running(m.Name)
		started := m.Incarnation != membership.Incarnation{}
		if running == run && (running || started) {
			n++
		}
	}
	return n
}
