//go:build linux

package cluster_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"pushrelay/internal/cluster/enginetest"
	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/program"
)

// defaults are what an etcd takes that was not told.
const defaultTxnOps, defaultRequestBytes = 128, 3 << 19

// newEtcdSite starts n relays whose etcd runs by itself.
func newEtcdSite(t testing.TB, n int, etcd *enginetest.Foreign, flags ...string) *site {
	t.Helper()
	flags = append([]string{timeout, "--cluster.etcd-endpoints=" + strings.ReplaceAll(etcd.Endpoint, "https://", ""), "--cluster.etcd-ca-file=" + etcd.CAFile}, flags...)
	s := &site{}
	for i := range n {
		s.members = append(s.members, newMember(t, string(rune('a'+i)), "", "", flags...))
	}
	first := s.members[0]
	first.start(t)
	if code, answer := first.push(http.MethodPut, "/job/before", 1); code != http.StatusOK {
		t.Fatalf("push before the cluster: %d %s", code, answer)
	}
	first.begin(t)
	for _, m := range s.members[1:] {
		m.join(t, first)
	}
	return s
}

// TestEtcdOfOnesOwn: relays share an etcd that runs by itself, with certificates, users and its default limits. Each of them takes and shows everything, alone as
// well; one leaves, one is removed, and the last one takes all with it and leaves nothing (C1).
func TestEtcdOfOnesOwn(t *testing.T) {
	t.Parallel()
	etcd := enginetest.StartForeign(t, 1, defaultTxnOps, defaultRequestBytes)
	s := newEtcdSite(t, 3, etcd, "--cluster.etcd-credentials-file="+etcd.CredentialsFile)
	want := map[string]float64{`done{instance="", job="before"}`: 1}
	push := func(m *member, value int) {
		t.Helper()
		m.pushUntil(t, 30*time.Second, "/job/at-"+m.name, value, http.StatusOK)
		want[fmt.Sprintf(`done{instance="", job="at-%s"}`, m.name)] = float64(value)
	}
	wantEverywhere := func(members ...*member) {
		t.Helper()
		for _, m := range members {
			client.Eventually(t, 30*time.Second, "all at "+m.name, func() error { return wantAll(m, want) })
		}
	}
	for _, m := range s.members {
		push(m, 1)
	}
	wantEverywhere(s.members...)
	// More than etcd takes at once is written in parts, and shown whole.
	var body strings.Builder
	for i := range 500 {
		fmt.Fprintf(&body, "many{i=\"%d\"} %d\n", i, i)
	}
	for i := range 150 {
		r, err := client.Fetch(http.MethodPut, fmt.Sprintf("%s/metrics/job/many/group/%d", s.members[1].url, i), strings.NewReader(body.String()))
		if err != nil || r.Status != http.StatusOK {
			t.Fatal(r, err)
		}
	}

	leader := s.leader(t)
	leader.run(t, "cluster", "leave")
	leader.wantReady(t)
	wantEverywhere(leader)
	s.members = s.followers(leader)
	leader = s.leader(t)
	left := s.followers(leader)[0]
	leader.Kill(t)
	push(left, 2)
	wantEverywhere(left)
	leader.start(t)
	push(leader, 3)
	wantEverywhere(s.members...)
	if got := left.run(t, "cluster", "status"); !strings.Contains(got, "member, leads") || strings.Contains(got, "voter") {
		t.Errorf("cluster status says\n%s", got)
	}
	if r := program.Output(t, left.asked("cluster", "token", "--witness", "w")); r.Code == 0 || !strings.Contains(r.Stderr, "nothing to do") {
		t.Errorf("a token for a witness: %d %s", r.Code, r.Stderr)
	}

	t.Run("wrong flags", func(t *testing.T) {
		left.Stop(t)
		defer left.start(t)
		for flags, words := range map[string]string{
			"": "start it with --cluster.etcd-endpoints",
			"--cluster.etcd-endpoints=" + etcd.Endpoint + " --cluster.etcd-ca-file=" + etcd.CAFile + " --cluster.etcd-prefix=/pushrelay/other/ --cluster.etcd-credentials-file=" + etcd.CredentialsFile: "give that as --cluster.etcd-prefix",
		} {
			r := program.Output(t, left.asked(append(strings.Fields(flags), "--web.listen-address=127.0.0.1:0", "--grpc.listen-address=127.0.0.1:0")...))
			if r.Code == 0 || !strings.Contains(r.Stderr, words) {
				t.Errorf("with %q: exit code %d, want %q\n%s", flags, r.Code, words, r.Stderr)
			}
		}
	})

	t.Run("removed", func(t *testing.T) {
		leader.run(t, "cluster", "remove", left.name)
		if !left.Ended(program.StopTimeout) {
			t.Fatal("a removed member runs on")
		}
		if r := program.Output(t, left.command); r.Code == 0 || !strings.Contains(r.Stderr, "removed") {
			t.Errorf("a removed member starts: exit code %d\n%s", r.Code, r.Stderr)
		}
		push(leader, 4)
		left.run(t, "cluster", "leave")
		left.start(t)
		wantEverywhere(left)
	})

	t.Run("the last one", func(t *testing.T) {
		leader.run(t, "cluster", "leave")
		leader.wantReady(t)
		wantEverywhere(leader)
		got, err := etcd.Root.Get(t.Context(), "", clientv3.WithPrefix(), clientv3.WithCountOnly())
		if err != nil || got.Count > 0 {
			t.Errorf("etcd has %d keys of a cluster that is no more, %v", got.Count, err)
		}
		leader.Stop(t)
		leader.start(t)
		wantEverywhere(leader)
	})
}

// TestEtcdAway: while an etcd that runs by itself does not answer, relays show what they have and take nothing.
func TestEtcdAway(t *testing.T) {
	t.Parallel()
	etcd := enginetest.StartForeign(t, 1, defaultTxnOps, defaultRequestBytes)
	s := newEtcdSite(t, 2, etcd, "--cluster.etcd-credentials-file="+etcd.CredentialsFile)
	want := map[string]float64{`done{instance="", job="before"}`: 1}
	for _, m := range s.members {
		client.WantAllSeries(t, m.url, want)
	}
	etcd.Stop()
	for _, m := range s.members {
		m.pushUntil(t, 30*time.Second, "/job/lost", 1, http.StatusServiceUnavailable)
		client.Eventually(t, 30*time.Second, "what "+m.name+" has", func() error { return wantAll(m, want) })
	}
	etcd.Start(t)
	for _, m := range s.members {
		m.pushUntil(t, 60*time.Second, "/job/back", 2, http.StatusOK)
	}
}

// TestEtcdOfThree: an etcd that runs by itself loses the member that leads it, and later another one, under pushes and scrapes at all relays. They go on with those that are left.
func TestEtcdOfThree(t *testing.T) {
	t.Parallel()
	etcd := enginetest.StartForeign(t, 3, defaultTxnOps, defaultRequestBytes)
	s := newEtcdSite(t, 2, etcd, "--cluster.etcd-credentials-file="+etcd.CredentialsFile)
	l := startLoad(t, s.members, []*agent{s.startAgent(t, "site-a")}, 1)
	for _, kill := range []func(testing.TB){etcd.KillLeader, etcd.KillFollower} {
		l.wantService()
		kill(t)
		began := time.Now()
		l.wantService()
		t.Logf("a member is dead, and all is well after %.1f s: %s", time.Since(began).Seconds(), l.tally())
		etcd.Start(t)
	}
	l.end()
}

// TestEtcdOccupied: a cluster begins where nothing is, and nowhere else.
func TestEtcdOccupied(t *testing.T) {
	t.Parallel()
	etcd := enginetest.StartForeign(t, 1, defaultTxnOps, defaultRequestBytes)
	if _, err := etcd.Root.Put(t.Context(), "/pushrelay/somebody", "else"); err != nil {
		t.Fatal(err)
	}
	m := newMember(t, "a", "", "", "--cluster.etcd-endpoints="+etcd.Endpoint, "--cluster.etcd-ca-file="+etcd.CAFile, "--cluster.etcd-credentials-file="+etcd.RootFile, "--cluster.etcd-dedicated")
	m.start(t)
	m.Stop(t)
	m.run(t, "cluster", "init", "--name=a", "--peer-address="+m.peer, "--link-address="+m.link, "--web-address="+m.web)
	if r := program.Output(t, m.command); r.Code == 0 || !strings.Contains(r.Stderr, "another --cluster.etcd-prefix") {
		t.Fatalf("a cluster among the keys of others: exit code %d\n%s", r.Code, r.Stderr)
	}
	if got, err := etcd.Root.Get(t.Context(), "/pushrelay/", clientv3.WithPrefix()); err != nil || got.Count != 1 {
		t.Errorf("the keys of others are %v, %v", got, err)
	}
	if _, err := etcd.Root.Delete(t.Context(), "/pushrelay/somebody"); err != nil {
		t.Fatal(err)
	}
	m.start(t)
	own, err := m.ownSeries()
	if err = errors.Join(err, m.ready()); err != nil || own["relay_cluster_etcd_quota_bytes"] != enginetest.ForeignQuota {
		t.Errorf("a relay with an etcd that is its own says it may hold %g, %v", own["relay_cluster_etcd_quota_bytes"], err)
	}
}

// ready returns an error unless the member is.
func (m *member) ready() error {
	_, err := client.WantOK(m.url + "/-/ready")
	return err
}
