//go:build linux

package cluster_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/netns"
	"pushrelay/internal/e2e/program"
)

// A member is one relay of a cluster.
type member struct {
	*program.Process

	owner       testing.TB // whose end is the process', also when a subtest starts it again
	name        string
	url         string // of its HTTP routes
	link        string // where agents and members dial in
	peer        string // where the etcd of others does
	web         string
	dir         string // its data dir
	relayServer string // its program
	command     program.Command
	started     func() // is told of each start; nil for nobody
}

// setDir gives a relay that does not run another data dir.
func (m *member) setDir(dir string) {
	m.dir, m.command.Args[0] = dir, "--data.dir="+dir
}

// A site is a cluster with its network.
type site struct {
	star    netns.Star // without machines for a cluster on loopback
	members []*member
}

// newMember returns a relay that does not run and is no member yet.
func newMember(t testing.TB, name, namespace, host string, flags ...string) *member {
	t.Helper()
	m := &member{owner: t, name: name, dir: filepath.Join(t.TempDir(), name), relayServer: program.RelayServer()}
	m.web, m.link, m.peer = host+":9091", host+":9443", host+":9444"
	if namespace == "" {
		m.web, m.link, m.peer = program.FreeAddress(t), program.FreeAddress(t), program.FreeAddress(t)
	}
	m.url = "http://" + m.web
	m.command = program.Command{Path: m.relayServer, Dir: t.TempDir(), Netns: namespace, Args: append([]string{
		"--data.dir=" + m.dir, "--web.listen-address=" + m.web, "--grpc.listen-address=" + m.link, "--grpc.tls.server-name=" + strings.Split(m.link, ":")[0],
	}, flags...)}
	return m
}

// start starts the relay, and waits until it is ready.
func (m *member) start(t testing.TB) {
	t.Helper()
	m.restart(t)
	m.wantReady(t)
}

// restart starts it without waiting.
func (m *member) restart(t testing.TB) {
	t.Helper()
	m.Process = program.Start(m.owner, m.command)
	if m.started != nil {
		m.started()
	}
}

func (m *member) wantReady(t testing.TB) {
	t.Helper()
	client.Eventually(t, 60*time.Second, m.name+" ready", func() error {
		if !m.Running() {
			t.Fatalf("%s ended: %s", m.name, m.Cmd.ProcessState)
		}
		_, err := client.WantOK(m.url + "/-/ready")
		return err
	})
}

// run runs a command on the member's data dir, and returns what it prints.
func (m *member) run(t testing.TB, args ...string) string {
	t.Helper()
	return program.MustOutput(t, m.asked(args...))
}

func (m *member) asked(args ...string) program.Command {
	return program.Command{Path: m.relayServer, Netns: m.command.Netns, Args: append([]string{"--data.dir=" + m.dir}, args...)}
}

// begin makes the running relay the first member.
func (m *member) begin(t testing.TB) {
	t.Helper()
	m.run(t, "cluster", "init", "--name="+m.name, "--peer-address="+m.peer, "--link-address="+m.link, "--web-address="+m.web)
	m.wantReady(t)
}

// join makes the relay a member of the cluster that another one is of, and starts it.
func (m *member) join(t testing.TB, of *member) {
	t.Helper()
	token := strings.TrimSpace(of.run(t, "cluster", "token", m.name))
	m.run(t, "cluster", "join", token, "--peer-address="+m.peer, "--link-address="+m.link, "--web-address="+m.web)
	m.start(t)
}

// newSite starts a cluster of n relays on loopback.
func newSite(t testing.TB, n int, flags ...string) *site {
	t.Helper()
	return (&site{}).fill(t, n, flags...)
}

// newStarSite starts a cluster of n relays, each on a machine of its own.
func newStarSite(t testing.TB, n int, flags ...string) *site {
	t.Helper()
	return (&site{star: netns.NewStar(t, n)}).fill(t, n, flags...)
}

func (s *site) fill(t testing.TB, n int, flags ...string) *site {
	t.Helper()
	for i := range n {
		namespace, host := "", ""
		if len(s.star.Names) > 0 {
			namespace, host = s.star.Names[i], s.star.Addresses[i]
		}
		s.members = append(s.members, newMember(t, string(rune('a'+i)), namespace, host, flags...))
	}
	return s.begin(t)
}

// begin makes one cluster of the relays of a site.
func (s *site) begin(t testing.TB) *site {
	t.Helper()
	first := s.members[0]
	first.start(t)
	first.begin(t)
	for _, m := range s.members[1:] {
		m.join(t, first)
	}
	s.wantVoters(t)
	return s
}

// A status is what cluster status says, as far as these tests read it.
type status struct {
	Members []struct {
		Name         string
		Role         string
		Leader       bool
		Running      bool
		FeatureLevel int `json:"feature_level"` // that it understands; 0 if who is asked is of a release that does not tell
	}
	FeatureLevel int `json:"feature_level"` // of the cluster; 0 as above
}

// status asks a member.
func (m *member) status(t testing.TB) (status, error) {
	t.Helper()
	r := program.Output(t, m.asked("cluster", "status", "--output=json"))
	if r.Code != 0 {
		return status{}, fmt.Errorf("%w: %s", client.ErrStatus, r.Stderr)
	}
	var s status
	err := json.Unmarshal([]byte(r.Stdout), &s)
	return s, err
}

// wantVoters waits until all are full members.
func (s *site) wantVoters(t testing.TB) {
	t.Helper()
	client.Eventually(t, 60*time.Second, "all are full members", func() error {
		got, err := s.members[0].status(t)
		if err != nil {
			return err
		}
		voters := 0
		for _, m := range got.Members {
			if m.Role == "voter" && m.Running {
				voters++
			}
		}
		if voters != len(s.members) {
			return fmt.Errorf("%w: %d of %d: %+v", client.ErrStatus, voters, len(s.members), got)
		}
		return nil
	})
}

// ownSeries returns what a member says of itself.
func (m *member) ownSeries() (map[string]float64, error) {
	page, err := client.WantOK(m.url + "/-/relay-metrics")
	if err != nil {
		return nil, err
	}
	return client.SeriesOf(page)
}

// leader waits for one that leads.
func (s *site) leader(t testing.TB) *member {
	t.Helper()
	var leader *member
	client.Eventually(t, 60*time.Second, "a leader", func() error {
		for _, m := range s.members {
			if own, err := m.ownSeries(); err == nil && own["relay_cluster_leader"] == 1 {
				leader = m
				return nil
			}
		}
		return fmt.Errorf("%w: nobody leads", client.ErrStatus)
	})
	return leader
}

// handOverTo has a member lead, or another one.
func (s *site) handOverTo(t testing.TB, m *member, leads bool) {
	t.Helper()
	client.Eventually(t, client.Patience, fmt.Sprintf("%s leads: %t", m.name, leads), func() error {
		leader := s.leader(t)
		if (leader == m) == leads {
			return nil
		}
		r := program.Output(t, leader.asked("cluster", "handover"))
		return fmt.Errorf("%w: %s led: %s%s", client.ErrStatus, leader.name, r.Stdout, r.Stderr)
	})
}

// followers are all others.
func (s *site) followers(leader *member) (others []*member) {
	for _, m := range s.members {
		if m != leader {
			others = append(others, m)
		}
	}
	return others
}

// push pushes one value at a member, and returns the status; 0 for no answer.
func (m *member) push(method, path string, value int) (code int, answer string) {
	r, err := client.Fetch(method, m.url+"/metrics"+path, strings.NewReader(fmt.Sprintf("# TYPE done counter\ndone %d\n", value)))
	if err != nil {
		return 0, err.Error()
	}
	return r.Status, r.Body
}

// pushUntil pushes until the answer has that status.
func (m *member) pushUntil(t testing.TB, within time.Duration, path string, value, status int) {
	t.Helper()
	client.Eventually(t, within, fmt.Sprintf("status %d of a push at %s", status, m.name), func() error {
		if code, answer := m.push(http.MethodPut, path, value); code != status {
			return fmt.Errorf("%w: %d %s", client.ErrStatus, code, answer)
		}
		return nil
	})
}

// TestThreeRelays: what is pushed at any relay is scraped at any, also while the one that decides is dead, and when it is back.
func TestThreeRelays(t *testing.T) {
	t.Parallel()
	s := newSite(t, 3)
	want := map[string]float64{}
	pushAll := func(members []*member, value int) {
		t.Helper()
		for _, m := range members {
			if code, answer := m.push(http.MethodPut, "/job/at-"+m.name, value); code != http.StatusOK {
				t.Fatalf("push at %s: %d %s", m.name, code, answer)
			}
			want[fmt.Sprintf(`done{instance="", job="at-%s"}`, m.name)] = float64(value)
		}
	}
	wantAt := func(members []*member) {
		t.Helper()
		for _, m := range members {
			client.WantAllSeries(t, m.url, want)
		}
	}
	pushAll(s.members, 1)
	wantAt(s.members)
	leader := s.leader(t)
	leader.Kill(t)
	rest := s.followers(leader)
	pushAll(rest, 2)
	wantAt(rest)
	leader.start(t)
	pushAll(s.members, 3)
	wantAt(s.members)
	first := s.members[0]
	if got := first.run(t, "cluster", "status"); !strings.Contains(got, leader.name) {
		t.Errorf("cluster status says\n%s", got)
	}
}

// TestWatchedMetrics: what the rules and dashboards ask a cluster for is what its members say of themselves.
func TestWatchedMetrics(t *testing.T) {
	t.Parallel()
	s := newSite(t, 3)
	for _, m := range s.members {
		if code, answer := m.push(http.MethodPut, "/job/j", 1); code != http.StatusOK {
			t.Fatalf("push at %s: %d %s", m.name, code, answer)
		}
	}
	for _, m := range s.members {
		page := client.MustGet(t, m.url+"/-/relay-metrics")
		for name := range strings.Lines(client.ReadFile(t, "../alerts/testdata/cluster-metrics.txt")) {
			if name = strings.TrimSpace(name); !strings.Contains(page, "\n"+name+"{") && !strings.Contains(page, "\n"+name+" ") {
				t.Errorf("%s does not have %s", m.name, name)
			}
		}
	}
}
