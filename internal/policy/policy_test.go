package policy_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pushrelay/internal/grouping"
	"pushrelay/internal/policy"
	"pushrelay/internal/target"
)

// key returns the key of a group with these labels: name=value.
func key(t testing.TB, pairs string) grouping.Key {
	t.Helper()
	var labels []grouping.Label
	for pair := range strings.FieldsSeq(pairs) {
		name, value, _ := strings.Cut(pair, "=")
		labels = append(labels, grouping.Label{Name: name, Value: value})
	}
	k, err := grouping.New(labels...)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func parse(t testing.TB, text string) *policy.Policy {
	t.Helper()
	p, err := policy.Parse("dir/policy.yml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

const file = `agents:
  - name: site-a
    push: '{job=~"backup|report"}'
    serve: [node, app-*]
    max_groups: 10
    max_series: 0
    max_targets: 2
    max_concurrent_scrapes: 4
  - name: [site-*, "*.example.org"]
    push: ['{job="backup"}', '{team="web"}']
users:
  - user: prometheus
    read: '{job=~".+"}'
    scrape: '{agent=~"site-.*",job="node"}'
    status: true
  - user: [ci, ci-*]
    push: '{job="x"}'
    delete: '{job="x",instance="old"}'
  - certificate: spiffe://example.org/ops
    admin: true
    read: []
  - anonymous: true
    read: '{public="yes"}'
`

// want compares a refusal with the words that it ends with; an empty text wants none.
func want(t *testing.T, what string, got *policy.Refusal, words string) {
	t.Helper()
	switch {
	case got == nil && words == "":
	case got == nil:
		t.Errorf("%s is allowed, want %q", what, words)
	case got.Denial() != words:
		t.Errorf("%s: %q, want %q", what, got.Denial(), words)
	}
}

func TestAgents(t *testing.T) {
	p := parse(t, file)
	for _, tt := range []struct{ agent, group, push, job, serve string }{
		{"site-a", "job=report agent=site-a", "", "node", ""},
		{"site-a", "job=other", `denied by policy.yml:2: agent "site-a" may not push to group {job="other"} or delete it`, "app-", ""},
		{"site-a", "job=backup", "", "apps", `denied by policy.yml:2: agent "site-a" may not serve targets of job "apps"`},
		{"site-b", "job=backup", "", "node", `denied by policy.yml:9: agent "site-b" may not serve targets of job "node"`},
		{"site-b", "job=report team=web", "", "", `denied by policy.yml:9: agent "site-b" may not serve targets of job ""`},
		{"x.example.org", "job=backup", "", "a", `denied by policy.yml:9: agent "x.example.org" may not serve targets of job "a"`},
		{"other", "job=backup", `denied by policy.yml:1: it has no rule for agent "other", who may not push to group {job="backup"} or delete it`, "node", `denied by policy.yml:1: it has no rule for agent "other", who may not serve targets of job "node"`},
	} {
		want(t, tt.agent+" pushes "+tt.group, p.Agent(tt.agent).Push(key(t, tt.group)), tt.push)
		want(t, tt.agent+" serves "+tt.job, p.Agent(tt.agent).Serve(tt.job), tt.serve)
	}
	q := p.Agent("site-a").Quota()
	for _, tt := range []struct {
		name  string
		limit policy.Limit
		want  int
		rule  string
	}{
		{"groups", q.Groups, 10, "policy.yml:2"},
		{"series", q.Series, 0, "policy.yml:2"},
		{"targets", q.Targets, 2, "policy.yml:2"},
		{"scrapes", q.ConcurrentScrapes, 4, "policy.yml:2"},
		{"groups of one without", p.Agent("site-b").Quota().Groups, 99, ""},
		{"groups of one without a rule", p.Agent("other").Quota().Groups, 99, ""},
	} {
		if n, rule := tt.limit.Or(99); n != tt.want || rule != tt.rule {
			t.Errorf("%s: %d by %q, want %d by %q", tt.name, n, rule, tt.want, tt.rule)
		}
	}
	want(t, "one target more", p.Agent("site-a").Surplus(), `denied by policy.yml:2: agent "site-a" may not serve more than 2 targets (max_targets)`)
}

func TestUsers(t *testing.T) {
	p := parse(t, file)
	prometheus, ci, ops, nobody := policy.Identity{User: "prometheus"}, policy.Identity{User: "ci-7"}, policy.Identity{Certificate: []string{"a", "spiffe://example.org/ops"}}, policy.Identity{}
	both := policy.Identity{User: "prometheus", Certificate: ops.Certificate}
	stranger := policy.Identity{User: "spiffe://example.org/ops"} // a user is no certificate
	node := &target.Target{Name: "node-1", Job: "node", Instance: "h:1", Labels: []target.Label{{Name: "agent", Value: "forged"}, {Name: "job", Value: "forged"}}}
	app := &target.Target{Name: "app-1", Job: "app"}
	for _, tt := range []struct {
		what string
		got  *policy.Refusal
		want string
	}{
		{"a scraper reads", p.User(prometheus).Read(key(t, "job=a")), ""},
		{"a scraper pushes", p.User(prometheus).Push(key(t, "job=x")), `denied by policy.yml:12: user "prometheus" may not push to group {job="x"}`},
		{"a scraper scrapes", p.User(prometheus).Scrape("site-a", node, "x"), ""},
		{"a scraper scrapes another agent", p.User(prometheus).Scrape("other", node, `target "node-1"`), `denied by policy.yml:12: user "prometheus" may not scrape target "node-1", if there is one`},
		{"a scraper scrapes another job", p.User(prometheus).Scrape("site-a", app, "y"), `denied by policy.yml:12: user "prometheus" may not scrape y, if there is one`},
		{"a scraper scrapes what is not known", p.User(prometheus).Scrape("site-a", nil, "y"), `denied by policy.yml:12: user "prometheus" may not scrape y, if there is one`},
		{"a scraper reads the status", p.User(prometheus).Status(), ""},
		{"a scraper administers", p.User(prometheus).Admin("wipe the store"), `denied by policy.yml:12: user "prometheus" may not wipe the store`},
		{"a pusher pushes", p.User(ci).Push(key(t, "job=x instance=1")), ""},
		{"a pusher deletes", p.User(ci).Delete(key(t, "job=x instance=1")), `denied by policy.yml:16: user "ci-7" may not delete group {job="x",instance="1"}`},
		{"a pusher deletes what is old", p.User(ci).Delete(key(t, "job=x instance=old")), ""},
		{"a pusher deletes something", p.User(ci).DeleteSome(), ""},
		{"a pusher reads what it pushed", p.User(ci).Read(key(t, "job=x")), `denied by policy.yml:16: user "ci-7" may not read group {job="x"}`},
		{"a pusher reads something", p.User(ci).ReadSome(), `denied by policy.yml:16: user "ci-7" may not read any group`},
		{"a pusher reads metrics", p.User(ci).Metrics(), `denied by policy.yml:16: user "ci-7" may not read metrics`},
		{"a pusher reads anything", p.User(ci).Anything(), `denied by policy.yml:16: user "ci-7" may not read anything`},
		{"an administrator", p.User(ops).Admin("x"), ""},
		{"an administrator reads", p.User(ops).ReadSome(), `denied by policy.yml:19: certificate "a" may not read any group`},
		{"an administrator deletes", p.User(ops).DeleteSome(), `denied by policy.yml:19: certificate "a" may not delete any group`},
		{"the first rule counts", p.User(both).Admin("x"), `denied by policy.yml:12: user "prometheus" may not x`},
		{"a user with the name of a certificate", p.User(stranger).Admin("x"), `denied by policy.yml:11: it has no rule for user "spiffe://example.org/ops", who may not x`},
		{"nobody reads", p.User(nobody).Read(key(t, "job=a public=yes")), ""},
		{"nobody reads more", p.User(nobody).Read(key(t, "job=a")), `denied by policy.yml:22: anonymous may not read group {job="a"}`},
		{"nobody scrapes", p.User(nobody).ScrapeSome(), `denied by policy.yml:22: anonymous may not scrape any target`},
	} {
		want(t, tt.what, tt.got, tt.want)
	}
	if u := p.User(prometheus); u.SeesTarget("site-a", nil) || !u.SeesTarget("site-a", node) || !u.Sees(key(t, "job=a")) || u.MayDelete(key(t, "job=a")) {
		t.Error("what a scraper sees is not what it may read")
	}
}

// TestSections: one that is there allows nothing that it does not name, and one that is not there forbids nothing.
func TestSections(t *testing.T) {
	var none *policy.Policy
	agentsOnly, usersOnly := parse(t, "agents:\n"), parse(t, "users: []\n")
	k := key(t, "job=a")
	for what, tt := range map[string]struct {
		p             *policy.Policy
		agents, users string
	}{
		"no file":        {none, "", ""},
		"empty agents":   {agentsOnly, `denied by policy.yml:1: it has no rule for agent "a", who may not push to group {job="a"} or delete it`, ""},
		"no user at all": {usersOnly, "", `denied by policy.yml:1: it has no rule for anonymous, who may not push to group {job="a"}`},
	} {
		want(t, what, tt.p.Agent("a").Push(k), tt.agents)
		want(t, what, tt.p.User(policy.Identity{}).Push(k), tt.users)
		u := tt.p.User(policy.Identity{})
		if tt.users == "" && (u.Read(k) != nil || u.Delete(k) != nil || u.Scrape("a", nil, "x") != nil || u.Status() != nil || u.Admin("x") != nil || u.Anything() != nil || u.Rule() != "") {
			t.Errorf("%s: a user is refused something", what)
		}
		if tt.agents == "" && (tt.p.Agent("a").Serve("j") != nil || tt.p.Agent("a").Rule() != "") {
			t.Errorf("%s: an agent is refused something", what)
		}
	}
	if agents, users := agentsOnly.Rules(); agents != 0 || users != -1 {
		t.Errorf("Rules() = %d, %d", agents, users)
	}
}

func TestPatterns(t *testing.T) {
	for pattern, names := range map[string]map[string]bool{
		"a":         {"a": true, "": false, "aa": false, "A": false},
		"*":         {"a": true, "": true, "a*": true},
		"site-*":    {"site-": true, "site-a": true, "xsite-a": false, "site": false},
		"*.b":       {"a.b": true, ".b": true, "aXb": false, "a.b.c": false, "a.b.b": true},
		"a*b*c":     {"abc": true, "aXbXc": true, "acb": false, "ab": false, "abbc": true, "abcbc": true},
		"a*a":       {"a": false, "aa": true, "aba": true},
		"a.c":       {"abc": false, "a.c": true},
		"[ab]?":     {"a1": false, "[ab]?": true},
		"**":        {"x": true},
		"a*bc*bc":   {"abc": false, "abcbc": true, "a-bc-bc": true},
		"x*":        {"x\ny": true},
		"spiffe:*/": {"spiffe://a/b/": true},
	} {
		p := parse(t, fmt.Sprintf("agents:\n- name: '%s'\n  serve: '*'\n", pattern))
		for name, matches := range names {
			if name == "" {
				continue
			}
			if got := p.Agent(name).Serve("x") == nil; got != matches {
				t.Errorf("%q means %q: %v, want %v", pattern, name, got, matches)
			}
		}
	}
}

func TestRefusedFiles(t *testing.T) {
	many := func(section string, n int) string {
		text := section + ":\n"
		for i := range n {
			text += fmt.Sprintf("- {name: n%d}\n", i)
		}
		return text
	}
	for name, tt := range map[string]struct {
		text string
		want []string
	}{
		"nothing":                  {"", []string{"there is nothing in it", "want agents, users or both"}},
		"comments":                 {"# agents:\n", []string{"there is nothing in it"}},
		"an empty mapping":         {"{}\n", []string{"there is nothing in it"}},
		"no YAML":                  {"agents: [", []string{"line 1"}},
		"a list":                   {"- name: a\n", []string{"line 1", "want a mapping with agents, users"}},
		"another section":          {"agents: []\nuser: []\n", []string{"line 2", `unknown key "user" in the file, want agents, users`}},
		"second document":          {"agents: []\n---\nusers: []\n", []string{"line 2", "second document"}},
		"no list":                  {"agents: {name: a}\n", []string{"line 1", "agents is a list"}},
		"a text":                   {"users:\n- ci\n", []string{"line 2", "a rule for users is a mapping"}},
		"agents without a name":    {"agents:\n- push: '{job=\"a\"}'\n", []string{"line 2", "without name", "site-*"}},
		"no names":                 {"agents:\n- name: []\n", []string{"line 2", "without name"}},
		"an empty name":            {"agents:\n- name: ''\n", []string{"line 2", "an empty name is nobody's"}},
		"stars":                    {"agents:\n- name: '*a*a*a*a*a*a*a*a*'\n", []string{"line 2", "more than 8 stars"}},
		"a long name":              {"agents:\n- name: '" + strings.Repeat("x", 2000) + "'\n", []string{"line 2", "2000 bytes"}},
		"users without a name":     {"users:\n- read: '{job=\"a\"}'\n", []string{"line 2", "by user, certificate or anonymous"}},
		"nobody at all":            {"users:\n- anonymous: false\n", []string{"line 2", "by user, certificate or anonymous"}},
		"an unknown key":           {"users:\n- user: a\n  reed: '{job=\"a\"}'\n", []string{"line 3", `unknown key "reed" in a rule for users`}},
		"a key of another section": {"users:\n- user: a\n  serve: a\n", []string{"line 3", `unknown key "serve"`}},
		"a wrong selector":         {"users:\n- user: a\n  read: job\n", []string{"line 3", "read: ", `"job" names a metric`}},
		"an empty selector":        {"users:\n- user: a\n  read:\n", []string{"line 3", "read wants just one value"}},
		"no flag":                  {"users:\n- user: a\n  admin: '{job=\"a\"}'\n", []string{"line 3", "want true or false"}},
		"no number":                {"agents:\n- name: a\n  max_groups: lots\n", []string{"line 3", `max_groups is "lots"`, "0 for no limit"}},
		"less than nothing":        {"agents:\n- name: a\n  max_targets: -1\n", []string{"line 3", "max_targets is \"-1\""}},
		"no scrapes":               {"agents:\n- name: a\n  max_concurrent_scrapes: 0\n", []string{"line 3", "want a number from 1 on"}},
		"a name twice":             {"agents:\n- name: a\n- name: [b, a]\n", []string{"line 3", `what holds of "a" says the rule in line 2 already`}},
		"a name that is covered":   {"agents:\n- name: site-*\n- name: site-a\n", []string{"line 3", `what holds of "site-a" says the rule in line 2 already`, "put this one before it"}},
		"a pattern that is":        {"users:\n- user: '*'\n- certificate: a\n- user: x*y\n", []string{"line 4", `"x*y"`, "line 2"}},
		"anonymous twice":          {"users:\n- anonymous: true\n- {user: a, anonymous: true}\n", []string{"line 3", "line 2"}},
		"many rules":               {many("agents", policy.MaxRules+1), []string{"5001 rules", "want at most 5000"}},
		"a large file":             {"#" + strings.Repeat("x", policy.MaxBytes), []string{"more than the 1048576 bytes"}},
		"merged":                   {"users:\n- &a {user: a}\n- <<: *a\n", []string{"line 3", "<< is not read"}},
		"part of itself":           {"users: &a\n- *a\n", []string{"line 2", "a rule for users is a mapping"}},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := policy.Parse("dir/policy.yml", []byte(tt.text))
			if err == nil || p != nil {
				t.Fatalf("Parse() = %v, %v, want an error", p, err)
			}
			for _, part := range append(tt.want, "policy dir/policy.yml: ") {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("error %q lacks %q", err, part)
				}
			}
		})
	}
}

// TestOrder: a rule for one before that for all is no mistake.
func TestOrder(t *testing.T) {
	p := parse(t, "agents:\n- {name: [site-a, site-b], serve: a}\n- {name: 'site-*', serve: b}\n- {name: '*', serve: c}\n")
	for agent, job := range map[string]string{"site-b": "a", "site-c": "b", "x": "c"} {
		for _, other := range []string{"a", "b", "c"} {
			if got := p.Agent(agent).Serve(other) == nil; got != (other == job) {
				t.Errorf("%s serves %s: %v", agent, other, got)
			}
		}
	}
}

func TestLoad(t *testing.T) {
	if p, err := policy.Load(""); p != nil || err != nil {
		t.Errorf("Load of no file = %v, %v", p, err)
	}
	dir := t.TempDir()
	if _, err := policy.Load(filepath.Join(dir, "none.yml")); err == nil || !strings.Contains(err.Error(), "none.yml") {
		t.Errorf("Load of a file that is not there: %v", err)
	}
	good := filepath.Join(dir, "p.yml")
	if err := os.WriteFile(good, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := policy.Load(good)
	if err != nil || p.Agent("site-a").Rule() != "p.yml:2" {
		t.Errorf("Load() = %v, %v", p, err)
	}
}

// TestManyNames: names are decided the same however many others there were meanwhile.
func TestManyNames(t *testing.T) {
	p := parse(t, "agents:\n- {name: '*7', serve: a}\n- {name: '*', serve: b}\n")
	wrong := map[int]bool{}
	for round := range 2 {
		for i := range 70_000 {
			a := p.Agent(fmt.Sprint(i))
			if seven := i%10 == 7; (a.Serve("a") == nil) != seven || (a.Serve("b") == nil) == seven {
				wrong[round*100_000+i] = true
			}
		}
	}
	if len(wrong) > 0 {
		t.Errorf("%d are decided wrongly, such as %v", len(wrong), slices.Sorted(maps.Keys(wrong))[:1])
	}
}
