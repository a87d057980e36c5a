package web_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pushrelay/internal/roster"
	"pushrelay/internal/web"
)

// threeMembers is a cluster that is well, as its member a knows it.
func threeMembers(now time.Time) *web.ClusterView {
	nothing, some := int64(0), int64(12)
	return &web.ClusterView{
		Name: "a", Leader: "b", Term: 4711, HasQuorum: true, LastHeard: now, Clock: now.Add(2 * time.Second), Words: []string{"Any one member may fail."},
		Members: []web.ClusterMember{
			{Name: "a", WebAddress: "a:9091", LinkAddress: "a:9443", PeerAddress: "a:9444", Role: web.Voter, Running: true, Since: now.Add(-time.Hour), Release: "1.2.3", Behind: &nothing},
			{Name: "b", Role: web.Voter, Running: true, Release: "1.2.4", Behind: &some},
			{Name: "c", Role: web.Voter, Running: true, Witness: true},
		},
	}
}

// joined makes the site a member of a cluster.
func (s *site) joined(view *web.ClusterView) {
	s.Helper()
	s.config = func(cfg *web.Config) { cfg.Cluster = func() *web.ClusterView { return view } }
	s.build()
}

// TestRelays: who is a member, who decides, and what is lost if the next one dies. The clock stands still, so that spans are what they are.
func TestRelays(t *testing.T) { synctest.Test(t, testRelays) }

func testRelays(t *testing.T) {
	t.Helper()
	now := time.Now()
	s := newSite(t, roster.Agent{Name: "site-a", Connected: true, Relays: []string{"a", "relay-b"}})
	view := threeMembers(now)
	s.joined(view)
	d := s.get("/")
	d.wantText("All is well", "Members running 3 of 3 b decides")
	d = s.get(d.link("Members running"))
	d.wantText("3 of 3 members are running; b decides.", "Any one member may fail.", "This relay a", "Decides what is pushed b", "Its term 4711", "A majority is heard now",
		"What it shows is behind by nothing", "The cluster's clock is 2s ahead",
		"a running this relay 1h ago counts 0 1.2.3 HTTP a:9091 agents a:9443 etcd a:9444", "b running decides unknown counts 12 1.2.4", "c running witness unknown counts unknown unknown")
	if d.link("Relays") != "/relays" {
		t.Errorf("no page leads to the relays: %s", d.raw)
	}
	s.get("/agents").wantText("Relays", "site-a connected 0 0 never 0 unknown unknown a, relay-b")
	s.get("/agents/site-a").wantText("Relays with which it has a session a, relay-b")

	none := int64(-1)
	for _, tt := range []struct {
		name     string
		change   func(*web.ClusterView)
		overview []string // all that is read there
		relays   []string
		class    string // of the mark
	}{
		{
			"a member is away", func(v *web.ClusterView) { v.Members[2].Running, v.Members[2].Since = false, now.Add(-time.Minute) },
			[]string{"One thing to look at", "1 member does not run c", "2 of 3 1 member does not run"},
			[]string{"1 member does not run: c .", "c not running witness 1m ago"},
			"warn",
		},
		{
			"two have not come yet", func(v *web.ClusterView) {
				v.Members[1].Running, v.Members[1].Role = true, web.Learner
				v.Members[2].Running, v.Members[2].Role = false, web.Awaited
			},
			[]string{"All is well", "2 of 3 b decides"},
			[]string{"not yet: it catches up", "not yet: it was let in, and has not started"},
			"",
		},
		{
			"one is removed", func(v *web.ClusterView) { v.Members[2].Running, v.Members[2].Role = false, web.Missing },
			[]string{"All is well"},
			[]string{"no more: it was removed"},
			"",
		},
		{
			"a majority is lost", func(v *web.ClusterView) { v.HasQuorum, v.LastHeard = false, now.Add(-90*time.Second) },
			[]string{"One thing needs attention", "No majority of the members answers it was heard last 1m 30s ago; direct pushes are refused, agents keep theirs, and scrapes go on"},
			[]string{"not now; last 1m 30s ago"},
			"bad",
		},
		{
			"none was heard", func(v *web.ClusterView) {
				v.HasQuorum, v.LastHeard, v.Clock, v.Leader = false, time.Time{}, time.Time{}, ""
			},
			[]string{"One thing needs attention", "No majority of the members was heard yet"},
			[]string{"not now; last never", "clock is unknown", "none decides"},
			"bad",
		},
		{
			"none decides", func(v *web.ClusterView) { v.Leader = "" },
			[]string{"One thing needs attention", "No relay decides"},
			[]string{"Decides what is pushed none"},
			"bad",
		},
		{
			"this one is behind", func(v *web.ClusterView) { v.Lag, v.Members[0].Behind = 6*time.Second, &none },
			[]string{"One thing to look at", "What this relay shows is old its copy is 6s behind"},
			[]string{"is behind by 6s"},
			"warn",
		},
		{
			"a little", func(v *web.ClusterView) { v.Lag = 5 * time.Second }, []string{"All is well"}, []string{"is behind by 5s"}, "",
		},
		{
			"settings differ", func(v *web.ClusterView) { v.Settings = []string{"the policy file says something else than that of b"} },
			[]string{"One thing to look at", "! A file of this relay is not what the cluster goes by the policy file says something else than that of b"},
			[]string{"A file of this relay is not what the cluster goes by: the policy file says something else than that of b."},
			"warn",
		},
		{
			"all at once", func(v *web.ClusterView) {
				v.HasQuorum, v.Lag, v.Settings, v.Members[1].Running = false, time.Minute, []string{"differs"}, false
			},
			[]string{"4 things need attention"},
			nil, "bad",
		},
	} {
		*view = *threeMembers(now)
		tt.change(view)
		s.get("/").wantText(tt.overview...)
		d := s.get("/relays")
		if d.wantText(tt.relays...); d.status != http.StatusOK || strings.TrimSpace(strings.TrimPrefix(attribute(d.all("main")[0].FirstChild.NextSibling.FirstChild, "class"), "mark")) != tt.class {
			t.Errorf("%s: the page is %d, and not marked %q:\n%.400s", tt.name, d.status, tt.class, d.main())
		}
	}
}

// TestRelaysForFew: how the cluster is, is for who may read what the relay tells of itself.
func TestRelaysForFew(t *testing.T) {
	s := newSite(t, roster.Agent{Name: "site-a", Connected: true, Relays: []string{"a", "relay-b"}})
	s.joined(threeMembers(time.Now()))
	s.rights.HidesStatus = true
	if d := s.get("/relays"); d.status != http.StatusForbidden || strings.Contains(d.raw, "9444") {
		t.Errorf("the relays are %d: %s", d.status, d.main())
	}
	for _, path := range []string{"/", "/agents", "/agents/site-a"} {
		s.get(path).wantNoText("decides", "relay-b", "Relays")
	}
}

// TestRelayByItself: a relay without a cluster has nothing of it.
func TestRelayByItself(t *testing.T) {
	s := newSite(t, roster.Agent{Name: "site-a", Connected: true, Relays: []string{"a", "relay-b"}})
	if d := s.get("/relays"); d.status != http.StatusNotFound {
		t.Errorf("it has the page, %d", d.status)
	}
	for _, path := range []string{"/", "/agents", "/agents/site-a"} {
		if d := s.get(path); strings.Contains(d.raw, "Members running") || strings.Contains(d.raw, "Relays") {
			t.Errorf("%s tells of a cluster:\n%s", path, d.raw)
		}
	}
}

// TestManyMembers: the list has pages.
func TestManyMembers(t *testing.T) {
	view := threeMembers(time.Now())
	for i := range 300 {
		view.Members = append(view.Members, web.ClusterMember{Name: fmt.Sprintf("m%03d", i), Role: web.Voter})
	}
	s := newSite(t)
	s.joined(view)
	if d := s.get("/relays?from=200"); len(d.rows()) != 100 || !strings.Contains(d.main(), "201–300 of 303") {
		t.Errorf("%d rows: %.400s", len(d.rows()), d.main())
	}
	s.get("/").wantText("300 members do not run m000 , m001 , m002 , m003 , …")
}

// TestRelaysAreLive: open pages hear when the cluster is not as it was, and of nothing that changes all the time.
func TestRelaysAreLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		views := make(chan *web.ClusterView, 1)
		now := time.Now()
		views <- threeMembers(now)
		s.config = func(cfg *web.Config) {
			cfg.Cluster = func() *web.ClusterView {
				v := <-views
				views <- v
				return v
			}
		}
		s.build()
		ctx, end := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- s.pages.Run(ctx) }()
		l := s.listen()
		time.Sleep(1500 * time.Millisecond)
		l.events()
		for _, tt := range []struct {
			name   string
			change func(*web.ClusterView)
			want   string
		}{
			{"it is behind for another while", func(v *web.ClusterView) {
				v.Lag, v.LastHeard, v.Clock = time.Second, now.Add(time.Second), now.Add(time.Minute)
			}, ""},
			{"another one decides", func(v *web.ClusterView) { v.Leader = "a" }, "relays"},
			{"one is away", func(v *web.ClusterView) { v.Leader, v.Members[1].Running = "a", false }, "relays"},
			{"it is the same", func(v *web.ClusterView) { v.Leader, v.Members[1].Running = "a", false }, ""},
		} {
			next := threeMembers(now)
			tt.change(next)
			<-views
			views <- next
			time.Sleep(time.Second)
			if got := l.events(); got != tt.want {
				t.Errorf("%s: a page hears %q, want %q", tt.name, got, tt.want)
			}
		}
		end()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		l.leave()
		<-l.done
	})
}
