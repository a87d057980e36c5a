package relaytest_test

import (
	"os"
	"strings"
	"testing"

	"pushrelay/internal/relaytest"
)

// TestPolicyOfReasons: a reason names no group that whoever is told of it may not read, whichever way they are told.
func TestPolicyOfReasons(t *testing.T) {
	for name, unchecked := range map[string]bool{"checked": false, "unchecked": true} {
		t.Run(name, func(t *testing.T) {
			const agents = "agents:\n- {name: site-a, push: '{job=\"x\"}'}\n"
			opts := withPolicy(t, agents)
			withUsers(t, &opts)
			opts.DisableConsistencyCheck = unchecked
			r := relaytest.Start(t, opts)
			site := r.StartAgent(t, "site-a", "")
			users := relaytest.Options(t)
			withUsers(t, &users, "few", "eve")
			text, err := os.ReadFile(*users.Web.WebConfigFile)
			if err != nil {
				t.Fatal(err)
			}
			write(t, *opts.Web.WebConfigFile, string(text))
			rule(t, r, opts, agents+`users:
- {user: few, read: '{job="x"}', push: '{job="x"}', scrape: '{agent="site-a"}'}
- {user: eve, read: '{job=~".+"}', push: '{job=~".+"}', scrape: '{agent="site-a"}', status: true}
`)
			const odd, gauge = "# TYPE odd counter\nodd 1\n", "# TYPE odd gauge\nodd 1\n"
			const where, token = "in a group that is not yours to read", "abc"
			status, body, _ := as(t, "eve", "PUT", r.URL+"/metrics/job/secret/token/"+token, odd)
			wantStatus(t, "the first push", status, body, map[bool]int{false: 200, true: 202}[unchecked])
			refused := map[bool]int{false: 400, true: 202}[unchecked]
			told := func(what string, status int, body string, want int) {
				t.Helper()
				if status != want || strings.Contains(body, token) || !unchecked && !strings.Contains(body, where) {
					t.Errorf("%s is %d: %s", what, status, body)
				}
			}
			status, body, _ = as(t, "few", "PUT", r.URL+"/metrics/job/x", gauge)
			told("a push", status, body, refused)
			status, body = relaytest.Do(t, "PUT", site.URL+"/metrics/job/x", gauge)
			told("a push through an agent", status, body, refused)
			paths := []string{"/groups", "/group/job/x", "/groups?state=rejected", "/api/v1/metrics"}
			if !unchecked {
				paths = append(paths, `/api/v1/groups?match[]={job="x"}`)
			}
			for _, path := range paths {
				for user, want := range map[string]string{"few": where, "eve": token} {
					if strings.HasPrefix(path, "/groups") && unchecked {
						want = "" // the list has no reason of a single family
					}
					status, body, _ := as(t, user, "GET", r.URL+path, "")
					if status != 200 || !strings.Contains(body, want) || user == "few" && strings.Contains(body, token) {
						t.Errorf("GET %s by %s is %d: %s", path, user, status, body)
					}
				}
			}
			for user, want := range map[string]string{"few": `"groups":null,"series":null`, "eve": `"groups":`} {
				if status, body, _ := as(t, user, "GET", r.URL+"/api/v1/agents", ""); status != 200 || !strings.Contains(body, want) || user == "eve" && strings.Contains(body, "null,\"series") {
					t.Errorf("the agents by %s are %d: %s", user, status, body)
				}
			}
		})
	}
}
