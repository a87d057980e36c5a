package web_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/html"

	"pushrelay/internal/change"
	"pushrelay/internal/grouping"
	"pushrelay/internal/lifetime"
	"pushrelay/internal/recent"
	"pushrelay/internal/roster"
	"pushrelay/internal/target"
	"pushrelay/internal/web"
)

// evil is markup, and writes what follows it from right to left.
const evil = `"'><script>alert(1)</script><img src=x onerror=alert(1)>` + "\u2069\u202e"

// evilSite is one in which everything that somebody else can choose is markup.
func evilSite(t testing.TB) *site {
	t.Helper()
	skew, name := time.Second, strings.ReplaceAll(evil, "/", "") // names of agents and targets have no slash
	s := newSite(t, roster.Agent{
		Name: name, Version: evil, RemoteAddress: evil, CertificateSerial: evil, ClockSkew: &skew, SpoolPending: 3, Relays: []string{evil},
		Targets: []roster.Target{{Target: target.Target{Name: name, Job: evil, Instance: "javascript:alert(1)", Address: evil, MetricsPath: "/" + evil, Labels: []target.Label{{Name: "l", Value: evil}}}, LastError: "bad_status: " + evil}},
	}, roster.Agent{
		Name: "javascript:alert(1)", Connected: true, Conflict: true,
		Targets: []roster.Target{{Target: target.Target{Name: "t", Job: "j", Instance: evil, Address: "a"}, LastScrape: time.Now(), LastError: evil + ": " + evil}},
	})
	for _, labels := range [][]string{{"job", evil}, {"job", "javascript:alert(1)", "x", "../../../etc"}, {"job", "a/b", "empty", "", "agent", evil}, {"job", "?&=#%00", "i", ".."}} {
		k := s.push("# HELP m "+strings.ReplaceAll(evil, "\\", "")+"\n# TYPE m gauge\nm{l=\"<b>\"} 1\n", labels...)
		s.recent.Pushed(k, recent.Push{At: time.Now(), Kind: change.Invalid, Detail: evil})
	}
	s.recent.Pushed(key(t, "job", "never"+evil), recent.Push{At: time.Now(), Kind: change.Invalid, Detail: evil})
	s.push("# TYPE m counter\nm 1\n", "job", "z"+evil)
	s.refuse(evil, "job", evil)
	s.pushLiving(time.Hour, evil, lifetime.Texts{Every: "30m"}, "job", "failed"+evil)
	s.health = web.Health{StoreFailure: evil, Losses: []string{evil}}
	s.config = func(cfg *web.Config) {
		cfg.Flags[evil], cfg.Build[evil] = evil, evil
		cfg.AgentTerms = func(string) web.AgentTerms { return web.AgentTerms{Policy: []string{evil}} }
		cfg.Cluster = func() *web.ClusterView {
			return &web.ClusterView{
				Name: evil, Leader: evil, Words: []string{evil}, Settings: []string{evil},
				Members: []web.ClusterMember{{Name: evil, WebAddress: evil, LinkAddress: evil, PeerAddress: evil, Role: web.Role(evil), Release: evil}, {Name: "away" + evil, Role: web.Voter}},
			}
		}
	}
	s.build()
	return s
}

// TestEveryPageIsReached follows every link of every page, in a store where all that others choose is hostile: each leads to a page that is
// there, below the prefix; everything from outside is text; nothing would run, and nothing comes from elsewhere.
func TestEveryPageIsReached(t *testing.T) {
	s := evilSite(t)
	elsewhere := []string{"/scrape", "/api/v1/metrics", "/api/v1/agents", "/sd/targets"} // of other handlers
	seen, todo := map[string]bool{"/": true}, []string{"/"}
	kinds := map[string]int{}
	for len(todo) > 0 {
		path := todo[0]
		todo = todo[1:]
		if len(seen) > 2000 {
			t.Fatal("there is no end to the pages")
		}
		d := s.get(path)
		if d.status != http.StatusOK {
			t.Errorf("GET %s is %d: %s", path, d.status, d.main())
			continue
		}
		if strings.HasPrefix(path, "/assets/") {
			kinds["asset"]++
			continue
		}
		kinds[strings.SplitN(path, "/", 3)[1]]++
		checkPage(t, d)
		for n := range d.root.Descendants() {
			for _, a := range n.Attr {
				if a.Key != "href" && a.Key != "src" && a.Key != "action" && a.Key != "data-events" {
					continue
				}
				to, _, _ := strings.Cut(d.resolve(a.Val), "#")
				if n.Data == "form" && a.Key == "action" || a.Key == "data-events" || slices.Contains(elsewhere, to) || seen[to] {
					continue
				}
				seen[to] = true
				todo = append(todo, to)
			}
		}
	}
	for _, want := range []string{"", "agents", "targets", "groups", "group", "refused", "relays", "start", "asset"} {
		if kinds[want] == 0 {
			t.Errorf("no page of the kind %q was reached: %v", want, kinds)
		}
	}
}

// checkPage checks what holds of every page.
func checkPage(t *testing.T, d document) {
	t.Helper()
	if d.head.Get("Content-Security-Policy") == "" || !strings.HasPrefix(d.head.Get("Content-Security-Policy"), "default-src 'none'; script-src 'self'; style-src 'self';") {
		t.Errorf("%s: Content-Security-Policy %q", d.url, d.head.Get("Content-Security-Policy"))
	}
	if n := len(d.all("style")) + len(d.all("iframe")); n != 0 || len(d.all("script")) != 2 || len(d.all("img")) != 1 || len(d.all("b")) > 0 && strings.Contains(d.raw, "<b></b>") {
		t.Errorf("%s: elements came from outside:\n%s", d.url, d.raw)
	}
	if len(d.all("h1")) != 1 || len(d.all("main")) != 1 || text(d.all("title")[0]) == "" {
		t.Errorf("%s: there is not one heading and one content", d.url)
	}
	ids := map[string]bool{}
	for n := range d.root.Descendants() {
		if n.Data == "script" && n.FirstChild != nil {
			t.Errorf("%s: a script is in the page", d.url)
		}
		for _, a := range n.Attr {
			if strings.HasPrefix(a.Key, "on") || a.Key == "style" || (a.Key == "href" || a.Key == "src" || a.Key == "action") && strings.HasPrefix(strings.ToLower(strings.TrimSpace(a.Val)), "javascript:") {
				t.Errorf("%s: <%s> has the attribute %s=%q", d.url, n.Data, a.Key, a.Val)
			}
			if a.Key == "id" {
				if ids[a.Val] {
					t.Errorf("%s: id %q comes twice", d.url, a.Val)
				}
				ids[a.Val] = true
			}
		}
		if n.Type == html.TextNode && strings.ContainsAny(n.Data, "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069") {
			t.Errorf("%s: a text may turn round what is beside it: %q", d.url, n.Data)
		}
		if n.Type == html.TextNode && strings.Contains(n.Data, "ZgotmplZ") {
			t.Errorf("%s: something was taken out of the page", d.url)
		}
	}
}

// TestEmpty: a relay that has nothing says what to do next, with its own addresses.
func TestEmpty(t *testing.T) {
	s := newSite(t)
	s.get("/").wantText("Nothing is here yet", "relay-server --data.dir='/var/lib/relay data' agents token site-a", "relay-agent enroll TOKEN", "It dials example.com:9443",
		"curl --data-binary @- http://example.com/pre/fix/metrics/job/backup/instance/db-1",
		"- targets: ['example.com']", "metrics_path: '/pre/fix/scrape'", "url: 'http://example.com/pre/fix/sd/targets'")
	s.get("/agents").wantText("No agent was here yet")
	s.get("/targets").wantText("No agent has announced targets yet")
	s.get("/groups").wantText("Nothing was pushed yet")
	s.get("/groups?q=x").wantText("No group matches.")
	external, err := url.Parse("https://relay.test/x")
	if err != nil {
		t.Fatal(err)
	}
	s.config = func(cfg *web.Config) { cfg.ExternalURL, cfg.AgentsPort, cfg.DataDir = external, "", "" }
	s.build()
	s.get("/start").wantText("Agents cannot dial in", "curl --data-binary @- https://relay.test/x/metrics/job/backup/instance/db-1", "scheme: https", "metrics_path: '/x/scrape'")
}

// TestOverview: the clock stands still, so that spans are what they are.
func TestOverview(t *testing.T) { synctest.Test(t, testOverview) }

func testOverview(t *testing.T) {
	t.Helper()
	now := time.Now()
	up := roster.Target{Target: target.Target{Name: "up", Job: "node", Instance: "a:1"}, LastScrape: now, LastStatus: 200, LastSuccess: now}
	s := newSite(t, roster.Agent{Name: "site-a", Connected: true, Targets: []roster.Target{up}})
	s.push("m 1\n", "job", "j")
	s.get("/").wantText("All is well", "Agents connected 1 of 1", "Targets up 1 of 1", "Groups 1 1 series", "Store writable")
	s.agents.all = append(s.agents.all,
		roster.Agent{Name: "site-b", Targets: []roster.Target{{Target: target.Target{Name: "far", Job: "far", Instance: "i"}}}},
		roster.Agent{
			Name: "site-c", Connected: true, Conflict: true, CertificateNotAfter: now.Add(48 * time.Hour),
			Targets: []roster.Target{{Target: target.Target{Name: "shut", Job: "node", Instance: "shut"}, LastScrape: now, LastError: "target_unreachable: connection refused"}, {Target: target.Target{Name: "new"}}},
		})
	s.pushLiving(time.Hour, "", lifetime.Texts{Every: "30m"}, "job", "backup")
	s.pushLiving(0, "exit status 3", lifetime.Texts{}, "job", "migrate")
	s.pushLiving(2*time.Hour, "", lifetime.Texts{Every: "3h", TTL: "1h"}, "job", "gone")
	s.push("# TYPE m counter\nm 1\n", "job", "other")
	s.recent.Pushed(grouping.Key{}, recent.Push{At: now, Kind: change.Invalid})
	s.health = web.Health{StoreFailure: "the disk is full", CertificateNotAfter: now.Add(time.Hour)}
	d := s.get("/")
	d.wantText("12 things need attention", "The store cannot be changed: pushes are refused the disk is full", "1 agent is offline site-b", "1 agent has a double",
		"1 target is down: the agent is not connected far i", "1 target is down: no answer came node shut", "1 job is late backup", "1 job is failing migrate",
		"1 job has expired gone", "1 group is in quarantine other", "1 push was refused in the last hour", "1 certificate of an agent ends within a week site-c", "1 certificate of the relay ends",
		"Targets up 1 of 4 1 not asked", "Groups 5")
	if strings.Index(d.main(), "group is in quarantine") < strings.Index(d.main(), "job has expired") {
		t.Errorf("a warning stands before a fault: %s", d.main())
	}
	// Each leads to what it counts.
	for label, want := range map[string]string{
		"agent is offline": "site-b", "agent has a double": "site-c", "no answer came": "shut", "job is late": "backup", "job is failing": "migrate", "job has expired": "gone", "in quarantine": "other",
		"ends within a week": "site-c", "not asked": "site-c",
	} {
		to := s.get(d.link(label))
		if rows := to.rows(); len(rows) != 1 || !strings.Contains(to.raw, want) {
			t.Errorf("%q leads to %s with %q, want %q alone", label, to.url, rows, want)
		}
	}
}

// TestHead: a check costs no page, and says whether what has a page of its own is there.
func TestHead(t *testing.T) {
	s := newSite(t, roster.Agent{Name: "a"})
	for path, want := range map[string]int{"/": 200, "/status": 200, "/agents": 200, "/agents/a": 200, "/agents/b": 404, "/group/job/x": 404} {
		w := httptest.NewRecorder()
		s.handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodHead, prefix+path, nil))
		if w.Code != want || w.Body.Len() > 0 || w.Header().Get("Content-Type") != "text/html; charset=utf-8" {
			t.Errorf("HEAD %s = %d %v with %d bytes, want %d and nothing", path, w.Code, w.Header(), w.Body.Len(), want)
		}
	}
	for range 20 { // whoever closed the sending half still reads
		w := httptest.NewRecorder()
		if s.handler.ServeHTTP(w, httptest.NewRequestWithContext(ended(t), http.MethodGet, prefix+"/groups", nil)); w.Code != 200 || w.Body.Len() == 0 {
			t.Fatalf("a page whose context has ended is %d with %d bytes", w.Code, w.Body.Len())
		}
	}
}

// TestAgents: the clock stands still, so that spans are what they are.
func TestAgents(t *testing.T) { synctest.Test(t, testAgents) }

func testAgents(t *testing.T) {
	t.Helper()
	roundTrip, skew := 12*time.Millisecond, -2*time.Second
	now := time.Now()
	s := newSite(t,
		roster.Agent{
			Name: "site-a", Connected: true, Conflict: true, SessionStarted: now.Add(-time.Hour), LastSeen: now, Version: "9.9", RemoteAddress: "192.0.2.7:4711", Sessions: 3, CertificateSerial: "0a:0b",
			CertificateNotAfter: now.Add(72*time.Hour + time.Minute), RoundTrip: &roundTrip, ClockSkew: &skew, SpoolPending: 3, Relays: []string{evil},
			Targets: []roster.Target{
				{Target: target.Target{Name: "node-1", Job: "node", Instance: "web-1", Address: "10.0.0.1:9100"}, LastScrape: now, LastDuration: 3 * time.Millisecond},
				{Target: target.Target{Name: "node-2", Job: "node", Instance: "web-2", Address: "10.0.0.2:9100"}, LastScrape: now, LastError: "target_unreachable: connection refused"},
			},
		},
		roster.Agent{Name: "site-b", LastSeen: now.Add(-26 * time.Hour)},
	)
	s.push("m 1\nm2 2\n", "job", "j", "agent", "site-a")
	for range 5 {
		s.recent.Scraped("site-a", 1000, "")
	}
	s.get("/agents").wantText("2 agents", "site-a connected two processes 2 1", "site-b offline 0 0 1d 2h ago")
	s.get("/agents?state=offline&q=site").wantText("1 agent of 2", "site-b")
	if rows := s.get("/agents?sort=-seen").rows(); len(rows) != 2 || !strings.HasPrefix(rows[0], "site-b") {
		t.Errorf("sorted by when they were heard last: %q", rows)
	}
	d := s.get("/agents/site-a")
	d.wantText("Two processes use this identity", "Sessions since the relay started 3", "Dials from 192.0.2.7:4711", "Version 9.9", "Round trip 12ms", "Its clock is 2s behind",
		"Pushes waiting in its spool 3", "Certificate ends in 3d", "0a:0b", "Groups, of 100 that it may have", "Scrapes in the last hour 5", "Bytes scraped in the last hour 4.9 KiB", "1 target is down",
		"node web-2 down 10.0.0.2:9100 0s ago connection refused")
	d.wantNoText("Forget")
	if s.get("/agents/nobody").status != http.StatusNotFound {
		t.Error("an agent that nobody knows has a page")
	}
}

// TestForgetting: who may can forget an agent that is gone, from a page of the relay.
func TestForgetting(t *testing.T) {
	s := newSite(t, roster.Agent{Name: "site-a", Connected: true}, roster.Agent{Name: "site b"}, roster.Agent{Name: "site-c"})
	d := s.get("/agents/site%20b")
	token, _ := d.form()
	if d.wantText("Forget site b"); token == "" {
		t.Fatal("there is no form")
	}
	var action string
	for _, f := range d.all("form") {
		action = d.resolve(attribute(f, "action"))
	}
	for _, tt := range []struct {
		path, token string
		headers     []string
		status      int
		body        string
	}{
		{action, "", nil, 403, "load the page again"},
		{action, token, []string{"Sec-Fetch-Site", "cross-site"}, 403, "load the page again"},
		{"/agents/site-a/forget", token, nil, 409, "connected"},
		{"/agents/nobody/forget", token, nil, 404, "not known"},
		{action, token, []string{"Sec-Fetch-Site", "same-origin"}, 200, `"agent forgotten":1`},
	} {
		if status, body := s.post(tt.path, tt.token, nil, tt.headers...); status != tt.status || !strings.Contains(body, tt.body) {
			t.Errorf("POST %s with %v: %d %s, want %d %q", tt.path, tt.headers, status, body, tt.status, tt.body)
		}
	}
	s.rights.Who = "somebody else"
	if status, body := s.post("/agents/site-c/forget", token, nil); status != 403 || !strings.Contains(body, "load the page again") {
		t.Errorf("with the token of another user: %d %s", status, body)
	}
	s.rights = web.Rights{Refusal: "Ask Ada."}
	if status, body := s.post("/agents/site-c/forget", token, nil); status != 403 || !strings.Contains(body, "Ask Ada.") {
		t.Errorf("without the right: %d %s", status, body)
	}
	if len(s.agents.all) != 2 {
		t.Errorf("%d agents are known, want 2", len(s.agents.all))
	}
}

// TestManyAgents: lists have pages, and together all of it.
func TestManyAgents(t *testing.T) {
	s := newSite(t)
	for i := range 250 {
		a := roster.Agent{Name: fmt.Sprintf("site-%03d", i), Connected: i%2 == 0}
		for j := range 10 {
			a.Targets = append(a.Targets, roster.Target{Target: target.Target{Name: fmt.Sprint("t", j), Job: "node", Instance: fmt.Sprintf("%03d-%d", i, j)}})
		}
		s.agents.all = append(s.agents.all, a)
	}
	for path, want := range map[string]int{"/agents?q=site&state=connected": 125, "/targets?job=node&reason=agent_offline": 1250, "/targets?agent=site-001": 10} {
		seen := map[string]bool{}
		for pages := 0; path != "" && pages < 30; pages++ {
			d := s.get(path)
			for _, row := range d.rows() {
				seen[row] = true
			}
			path = d.link("next")
		}
		if len(seen) != want {
			t.Errorf("%d rows on all pages, want %d", len(seen), want)
		}
	}
	s.get("/agents?from=9999").wantText("201–250 of 250")
	if s.agents.all[0].Targets = slices.Repeat(s.agents.all[0].Targets, 100); true {
		s.get("/agents/site-000").wantText("800 more targets")
	}
}
