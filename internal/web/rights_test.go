package web_test

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"pushrelay/internal/change"
	"pushrelay/internal/grouping"
	"pushrelay/internal/recent"
	"pushrelay/internal/roster"
	"pushrelay/internal/target"
	"pushrelay/internal/web"
)

// TestSeenByFew: who may not see something does not, on any page.
func TestSeenByFew(t *testing.T) {
	s := newSite(t, roster.Agent{Name: "mine", Targets: []roster.Target{{Target: target.Target{Name: "t", Job: "mine", Instance: "mine"}}}},
		roster.Agent{Name: "secret", Targets: []roster.Target{{Target: target.Target{Name: "t", Job: "secret", Instance: "secret"}}}})
	s.push("# TYPE odd counter\nodd 1\n", "job", "secret", "token", "abc")
	k := s.push("m 1\n# TYPE odd gauge\nodd 1\n", "job", "mine")
	s.refuse("it is odd"+change.InGroup(key(t, "job", "secret")), "job", "mine")
	s.recent.Pushed(key(t, "job", "secret", "token", "def"), recent.Push{At: time.Now(), Kind: change.Invalid, Detail: "secret"})
	s.recent.Pushed(k, recent.Push{At: time.Now(), Kind: change.Invalid, Detail: "it is odd" + change.InGroup(key(t, "job", "secret"))})
	s.config = func(cfg *web.Config) {
		cfg.AgentTerms = func(string) web.AgentTerms { return web.AgentTerms{MaxGroups: 100, Policy: []string{"secret.yml:3"}} }
		cfg.DataDir = "/var/secret"
	}
	s.build()
	s.rights = all()
	s.rights.SeesTarget = func(agent string, _ *target.Target) bool { return agent == "mine" }
	s.rights.SeesGroup = func(k grouping.Key) bool { return k.Job() == "mine" }
	s.rights.Delete = func(k grouping.Key) error {
		if k.Job() == "mine" {
			return nil
		}
		return errors.New("denied by policy.yml:3")
	}
	s.rights.HidesStatus = true
	for _, path := range []string{"/", "/agents", "/targets", "/groups", "/agents/mine", "/agents/mine/targets/t", "/group/job/mine", "/start", "/refused", "/groups?state=quarantined", "/groups?state=rejected", "/groups/delete?q=%7Bjob%3D~%22.%2B%22%7D"} {
		d := s.get(path)
		if d.status != 200 || strings.Contains(d.raw, "secret") || !strings.Contains(d.raw, "mine") && path != "/" && path != "/start" {
			t.Errorf("GET %s: %d\n%s", path, d.status, d.main())
		}
	}
	s.get("/group/job/mine").wantText("it is odd in a group that is not yours to read", "which it is in a group that is not yours to read")
	s.get("/agents/mine").wantText("those that you may read")
	s.get("/start").wantText("relay-server --data.dir=DIR agents token site-a")
	for _, path := range []string{"/agents/secret", "/agents/secret/targets/t", "/group/job/secret/token/abc"} {
		if d := s.get(path); d.status != 404 {
			t.Errorf("GET %s: %d", path, d.status)
		}
	}
	token, _ := s.get("/groups/delete?q=mine").form()
	for g := range s.store.Snapshot().Groups() {
		if g.Key().Job() == "secret" {
			seen := s.seenOf(g.Key())
			if status, body := s.post("/groups/delete", token, url.Values{"group": {seen}}); status != 403 || !strings.Contains(body, "policy.yml:3") {
				t.Errorf("deleting what one may not: %d %s", status, body)
			}
		}
	}
}

// TestNotForAll: what the relay tells of itself is for those who may read it, and nothing is for who may read nothing.
func TestNotForAll(t *testing.T) {
	s := newSite(t)
	s.push("m 1\n", "job", "j")
	s.rights.HidesStatus = true
	if d := s.get("/status"); d.status != http.StatusForbidden || strings.Contains(d.raw, "web.telemetry-path") {
		t.Errorf("the status is %d: %s", d.status, d.main())
	}
	d := s.get("/")
	d.wantText("Groups 1")
	d.wantNoText("Store", "last hour")
	if strings.Contains(d.raw, "1.2.3") {
		t.Error("the release is told")
	}
	s.rights.SeesGroup = func(grouping.Key) bool { return false }
	s.get("/").wantText("There is nothing that you may read")
	s.get("/groups").wantText("There is no group that you may read")
	s.rights.Nothing = errors.New("denied by policy.yml:7")
	for _, path := range []string{"/", "/agents", "/events", "/groups/delete?q=j", "/start"} {
		if d := s.get(path); d.status != http.StatusForbidden || !strings.Contains(d.raw, "denied by policy.yml:7") {
			t.Errorf("GET %s is %d: %s", path, d.status, d.raw)
		}
	}
}

// seenOf returns a group as a form of somebody who sees all names it.
func (s *site) seenOf(key grouping.Key) string {
	s.Helper()
	rights := s.rights
	defer func() { s.rights = rights }()
	s.rights = all()
	_, fields := s.get("/groups/delete?q=" + url.QueryEscape(key.Job())).form()
	if len(fields["group"]) != 1 {
		s.Fatalf("the form has %d groups", len(fields["group"]))
	}
	return fields.Get("group")
}
