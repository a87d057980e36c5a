package web_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pushrelay/internal/roster"
	"pushrelay/internal/target"
)

// TestWhyATargetIsDown: the page of a target says where the way to it ends, in words, and what to try.
func TestWhyATargetIsDown(t *testing.T) {
	synctest.Test(t, testWays)
}

func testWays(t *testing.T) {
	now := time.Now()
	slow := 3 * time.Second
	at := target.Target{Name: "node", Job: "node", Instance: "db-1", Address: "10.0.0.1:9100", Scheme: "http", MetricsPath: "/metrics", Labels: []target.Label{{Name: "env", Value: "prod"}}}
	here := roster.Agent{Name: "site-a", Connected: true, SessionStarted: now.Add(-time.Hour), RemoteAddress: "192.0.2.1:1"}
	with := func(change func(*roster.Agent)) roster.Agent {
		a := here
		change(&a)
		return a
	}
	failed := func(fault string) roster.Target {
		return roster.Target{Target: at, LastScrape: now.Add(-10 * time.Second), LastError: fault, LastSuccess: now.Add(-2 * time.Hour)}
	}
	for _, tt := range []struct {
		name   string
		agent  roster.Agent
		target roster.Target
		marks  string // of Prometheus, relay, agent, connection and target: + well, x not, ? unknown, ! odd
		want   []string
	}{
		{
			"up", here,
			roster.Target{Target: at, LastScrape: now, LastSuccess: now, LastStatus: 200, LastDuration: 2 * time.Millisecond},
			"+++++",
			[]string{"It is up", "Prometheus asked for it 0s ago", "answered 200 OK in 2ms, the last time", "Last success 0s ago", "curl -i http://example.com/pre/fix/agents/site-a/targets/node/metrics", `env= "prod"`},
		},
		{
			"the agent is away", with(func(a *roster.Agent) { a.Connected, a.LastSeen = false, now.Add(-time.Minute) }), failed("agent_offline: it is not connected"), "++x??",
			[]string{"It is down: the agent is not connected", "Agent site-a is not connected. It was heard last 1m ago", "relay-agent status", "Last success 2h ago", "was not reached"},
		},
		{
			"the agent was away", with(func(a *roster.Agent) { a.SessionStarted = now }), failed("agent_offline: it is not connected"), "++++?",
			[]string{"Nobody asks for it", "was not reached, the last time"},
		},
		{
			"it refuses connections", here, failed("target_unreachable: dial tcp 10.0.0.1:9100: connect: connection refused"), "++++x",
			[]string{"It is down: no answer came", "Target 10.0.0.1:9100 gave no whole answer", "connect: connection refused", "curl -i http://10.0.0.1:9100/metrics"},
		},
		{"it wants a password", here, failed("bad_status: the target answered 401 Unauthorized"), "++++x", []string{"another answer than 200 OK", "401 Unauthorized", "401 and 403 want its password"}},
		{"it is slow, and far", with(func(a *roster.Agent) { a.RoundTrip = &slow }), failed("scrape_timeout: the scrape's time was over"), "+++xx", []string{"there and back in 3s", "much of the time", "time curl"}},
		{"it redirects", here, failed("target_redirects: the target answered 302"), "++++x", []string{"a redirect, which is not followed"}},
		{"it says too much", here, failed("body_too_large: more than 256 MiB"), "++++x", []string{"--scrape.max-body-size"}},
		{"too many at once", here, failed("agent_busy: the agent has 32 scrapes"), "+x++?", []string{"--agents.max-concurrent-scrapes"}},
		{"the relay stops", here, failed("draining: this relay is about to stop"), "+x++?", []string{"was about to stop"}},
		{"odd parameters", here, failed("params_unknown: it has no parameter x"), "+x++?", []string{"Take the params out of Prometheus' job"}},
		{"the agent refuses", here, failed("denied: not in proxy_paths"), "++++?", []string{"proxy_paths"}},
		{"a reason of another release", here, failed("brand_new: words"), "++++?", []string{"It is down: brand_new"}},
		{"announced no more", here, roster.Target{Target: at, LastScrape: now, ListedUntil: now.Add(4*time.Minute + time.Second)}, "++x+?", []string{"announces this target no more", "in 4m", "relay-agent status"}},
		{"never asked", here, roster.Target{Target: at}, "!+++?", []string{"Nobody asks for it", "has not asked for it since this relay was started", "was not asked", "/sd/targets", "none since the relay started"}},
		{"asked no more", here, roster.Target{Target: at, LastScrape: now.Add(-time.Hour), LastSuccess: now.Add(-time.Hour)}, "!+++?", []string{"asks for it no more: it did so last 1h ago", "was well when it was asked last"}},
		{"asked seldom", here, func() roster.Target {
			seldom := at
			seldom.ScrapeInterval = time.Hour
			return roster.Target{Target: seldom, LastScrape: now.Add(-2 * time.Hour), LastDuration: 1, LastSuccess: now}
		}(), "+++++", []string{"It is up", "To be asked every 1h0m0s"}},
		{"torn", with(func(a *roster.Agent) { a.Conflict = true }), roster.Target{Target: at, LastScrape: now, LastDuration: 1}, "++x++", []string{"Two processes use its identity"}},
	} {
		tt.agent.Targets = []roster.Target{tt.target}
		d := newSite(t, tt.agent).get("/agents/site-a/targets/node")
		d.wantText(tt.want...)
		marks := ""
		for _, li := range d.all("li") {
			for _, n := range d.all("span") {
				if n.Parent == li {
					class := strings.TrimSpace(strings.TrimPrefix(attribute(n, "class"), "mark"))
					marks += map[string]string{"": "+", "bad": "x", "still": "?", "warn": "!"}[class]
				}
			}
		}
		if marks != tt.marks {
			t.Errorf("%s: the way is %s, want %s:\n%s", tt.name, marks, tt.marks, d.main())
		}
	}
	if d := newSite(t, here).get("/agents/site-a/targets/gone"); d.status != 404 {
		t.Errorf("a target that is not announced has a page: %d", d.status)
	}
}
