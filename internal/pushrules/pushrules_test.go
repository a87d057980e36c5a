package pushrules_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.yaml.in/yaml/v3"

	"pushrelay/internal/addup"
	"pushrelay/internal/grouping"
	"pushrelay/internal/lifetime"
	"pushrelay/internal/pushrules"
)

// key returns the key of a group with these labels: name=value.
func key(t testing.TB, pairs ...string) grouping.Key {
	t.Helper()
	var labels []grouping.Label
	for _, pair := range pairs {
		name, value, _ := strings.Cut(pair, "=")
		labels = append(labels, grouping.Label{Name: name, Value: value})
	}
	k, err := grouping.New(labels...)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

const file = `
push_rules:
  - match: '{job="backup"}'
    schedule: "TZ=Europe/Berlin 15 3 * * *"
    grace: 1h
    ttl: 3d
  - match: ['{team="web"}', '{job=~"cron-.*"}']
    every: 24h
    while_agent: 1h
  - match: '{agent="site-a"}'
    every: none
    ttl: none
    while_agent: none
  - {match: '{job="x"}', schedule: none}
  - {match: '{job="lambda"}', aggregate: sum, put: true}
  - {match: '{job="y"}', aggregate: none, ttl: 1h}
`

func TestParse(t *testing.T) {
	got, err := pushrules.Parse("relay.yml", []byte(file))
	if err != nil {
		t.Fatal(err)
	}
	const hour = lifetime.Period(time.Hour)
	want := []lifetime.Rule{
		{Declaration: lifetime.Declaration{Schedule: "TZ=Europe/Berlin 15 3 * * *", Grace: hour, TTL: 72 * hour}},
		{Declaration: lifetime.Declaration{Every: 24 * hour}, WhileAgent: hour},
		{Declaration: lifetime.Declaration{Every: lifetime.None, TTL: lifetime.None}, WhileAgent: lifetime.None},
		{Declaration: lifetime.Declaration{Every: lifetime.None}},
		{Adding: &addup.Rule{Gauges: addup.Sum, Put: true}},
		{Adding: &addup.Rule{None: true}, Declaration: lifetime.Declaration{TTL: hour}},
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(lifetime.Rule{}, "Match")); diff != "" {
		t.Errorf("Parse() (-want +got):\n%s", diff)
	}
	for labels, matching := range map[string][]int{
		"job=backup":              {1},
		"job=backup agent=site-a": {1, 3},
		"job=cron-1":              {2},
		"job=a team=web":          {2},
		"job=a":                   nil,
	} {
		var numbers []int
		for i, rule := range got {
			if rule.Match.Matches(key(t, strings.Fields(labels)...)) {
				numbers = append(numbers, i+1)
			}
		}
		if diff := cmp.Diff(matching, numbers); diff != "" {
			t.Errorf("rules that match %s (-want +got):\n%s", labels, diff)
		}
	}
}

// TestRulesKeepTheirNumbers: who set the terms of a group is told by the place in the file.
func TestRulesKeepTheirNumbers(t *testing.T) {
	rules, err := pushrules.Parse("relay.yml", []byte(file))
	if err != nil {
		t.Fatal(err)
	}
	terms := (&lifetime.Regime{Rules: rules}).TermsOf(key(t, "job=cron-1"), lifetime.Declaration{})
	if got := terms.DeclaredBy(); got != "rule 2" {
		t.Errorf("DeclaredBy() = %q, want rule 2", got)
	}
}

func TestFilesWithoutRules(t *testing.T) {
	for _, text := range []string{"", "# nothing\n", "---\n", "{}", "push_rules:\n", "push_rules: []\n"} {
		if rules, err := pushrules.Parse("relay.yml", []byte(text)); len(rules) != 0 || err != nil {
			t.Errorf("Parse(%q) = %v, %v, want nothing", text, rules, err)
		}
	}
}

func TestAliases(t *testing.T) {
	rules, err := pushrules.Parse("relay.yml", []byte("push_rules:\n- &a\n  match: &m ['{job=\"a\"}']\n  ttl: &d 1d\n- match: *m\n  grace: *d\n- *a\n"))
	if err != nil {
		t.Fatal(err)
	}
	day := lifetime.Period(24 * time.Hour)
	if len(rules) != 3 || rules[1].Grace != day || rules[2].TTL != day || !rules[1].Match.Matches(key(t, "job=a")) {
		t.Errorf("Parse() = %+v", rules)
	}
}

func TestRefusedFiles(t *testing.T) {
	rule := func(settings ...string) string {
		return "push_rules:\n  - match: '{job=\"a\"}'\n    " + strings.Join(settings, "\n    ") + "\n"
	}
	for name, tt := range map[string]struct {
		text string
		want []string
	}{
		"no YAML":              {"push_rules: [", []string{"line 1"}},
		"a list":               {"- match: a\n", []string{"line 1", "want a mapping with push_rules"}},
		"unknown section":      {"push_rules: []\nscrape_configs: []\n", []string{"line 2", `unknown key "scrape_configs" in the file`, "want push_rules"}},
		"a password as a key":  {"push_rules: []\npassword:hunter2: x\n", []string{"line 2", `"password…"`}},
		"a key that is a list": {"[a, b]: 1\n", []string{"line 1", "unknown key"}},
		"section twice":        {"push_rules: []\npush_rules: []\n", []string{"line 2", "push_rules comes twice"}},
		"second document":      {"push_rules: []\n---\npush_rules: []\n", []string{"line 2", "second document"}},
		"no list":              {"push_rules: {match: a}\n", []string{"line 1", "push_rules is a list"}},
		"rule that is a text":  {"push_rules:\n  - '{job=\"a\"}'\n", []string{"line 2", "a push rule is a mapping"}},
		"empty rule":           {"push_rules:\n  -\n", []string{"line 2", "a push rule is a mapping"}},
		"part of itself":       {"push_rules: &a\n  - *a\n", []string{"line 2", "a push rule is a mapping"}},
		"merged with itself":   {"&a\n<<: *a\npush_rules: []\n", []string{"line 2", "<< is not read"}},
		"no match":             {"push_rules:\n  - ttl: 1d\n", []string{"line 2", "without match", `match: '{job="backup"}'`}},
		"nothing to match":     {"push_rules:\n  - match:\n    ttl: 1d\n", []string{"line 2", "without match"}},
		"empty match":          {"push_rules:\n  - match: ''\n    ttl: 1d\n", []string{"line 2", "match: ", "cannot be read"}},
		"no selector":          {"push_rules:\n  - ttl: 1d\n    match: []\n", []string{"line 3", "match: there is no selector"}},
		"no matcher":           {"push_rules:\n  - match: '{}'\n    ttl: 1d\n", []string{"line 2", "has no matcher"}},
		"a metric":             {"push_rules:\n  - match: up\n    ttl: 1d\n", []string{"line 2", `"up" names a metric`}},
		"no expression":        {"push_rules:\n  - match: '{job=~\"(\"}'\n    ttl: 1d\n", []string{"line 2", "cannot be read"}},
		"one of two":           {"push_rules:\n  - match: ['{a=\"b\"}', '{a']\n    ttl: 1d\n", []string{"line 2", `"{a"`}},
		"large expression":     {"push_rules:\n  - match: '{a=~\"[ab]{1000}[ab]{1000}[ab]\"}'\n    ttl: 1d\n", []string{"line 2", "too large"}},
		"a list in a list":     {"push_rules:\n  - match:\n    - ['{a=\"b\"}']\n    ttl: 1d\n", []string{"line 3", "an element of match wants just one value"}},
		"a mapping":            {"push_rules:\n  - match: {job: a}\n    ttl: 1d\n", []string{"line 2", "match wants just one value"}},
		"no setting":           {"push_rules:\n  - match: '{job=\"a\"}'\n", []string{"line 2", "says nothing"}},
		"unknown key":          {rule("ttl: 1d", "aggregates: sum"), []string{"line 4", `unknown key "aggregates" in a push rule`, "while_agent"}},
		"no way of adding":     {rule("aggregate: true"), []string{"line 3", `"true" is none of the ways to add up gauges: last, sum, min, max, or none`}},
		"put alone":            {rule("ttl: 1d", "put: true"), []string{"line 4", "put without aggregate"}},
		"put of nothing":       {rule("put: true", "aggregate: none"), []string{"line 3", "put is"}},
		"put perhaps":          {rule("aggregate: sum", "put: perhaps"), []string{"line 4", "put is \"perhaps\""}},
		"setting twice":        {rule("ttl: 1d", "ttl: 2d"), []string{"line 4", "ttl comes twice"}},
		"every and schedule":   {rule("every: 1d", "grace: 1h", "schedule: 1 1 * * *"), []string{"line 5", "every and schedule are both set"}},
		"no duration":          {rule("ttl: soon"), []string{"line 3", `ttl is "soon"`, "such as 30m"}},
		"no unit":              {rule("grace: 5"), []string{"line 3", `grace is "5"`}},
		"negative":             {rule("every: -1h"), []string{"line 3", `every is "-1h"`}},
		"too long":             {rule("ttl: 101y"), []string{"line 3", "at most 100y"}},
		"zero":                 {rule("ttl: 0"), []string{"line 3", "ttl is 0", "none"}},
		"zero seconds":         {rule("while_agent: 0s"), []string{"line 3", "while_agent is 0"}},
		"schedule zero":        {rule("schedule: 0"), []string{"line 3", "schedule is 0"}},
		"nothing behind a key": {rule("ttl:"), []string{"line 3", "ttl wants just one value"}},
		"a list of durations":  {rule("ttl: [1d]"), []string{"line 3", "ttl wants just one value"}},
		"no schedule":          {rule("schedule: daily"), []string{"line 3", "five fields"}},
		"empty schedule":       {rule("schedule: ''"), []string{"line 3", "five fields"}},
		"no such zone":         {rule("schedule: TZ=Nowhere 1 1 * * *"), []string{"line 3", "time zone"}},
		"no such day":          {rule("schedule: 0 0 30 2 *"), []string{"line 3", "never comes"}},
		"too many rules":       {"push_rules:\n" + strings.Repeat("- {match: '{a=\"b\"}', ttl: 1d}\n", pushrules.MaxRules+1), []string{"line 1002", "1001 rules, want at most 1000"}},
		"too large":            {strings.Repeat("#", pushrules.MaxBytes+1), []string{"more than the 1048576 bytes"}},
	} {
		t.Run(name, func(t *testing.T) {
			rules, err := pushrules.Parse("relay.yml", []byte(tt.text))
			if err == nil || rules != nil {
				t.Fatalf("Parse() = %v, %v, want an error", rules, err)
			}
			for _, want := range append(tt.want, "configuration relay.yml: ") {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("Parse() error = %q, want %q in it", err, want)
				}
			}
			if strings.ContainsAny(err.Error(), "\n") || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("Parse() error = %q, want one line without a secret", err)
			}
		})
	}
}

// TestAtAgent: the rules of an agent say what is added up; what only a relay does is refused with where it belongs.
func TestAtAgent(t *testing.T) {
	read := func(text string) ([]lifetime.Rule, error) {
		var section yaml.Node
		if err := yaml.Unmarshal([]byte(text), &section); err != nil {
			t.Fatal(err)
		}
		return pushrules.AtAgent(7, section.Content[0])
	}
	got, err := read("- {match: '{job=\"lambda\"}', aggregate: sum, put: true}\n- match: ['{job=~\"worker-.*\"}', '{team=\"x\"}']\n  aggregate: none\n")
	want := []lifetime.Rule{{Adding: &addup.Rule{Gauges: addup.Sum, Put: true}}, {Adding: &addup.Rule{None: true}}}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(lifetime.Rule{}, "Match")); diff != "" || err != nil {
		t.Errorf("AtAgent() = %v (-want +got):\n%s", err, diff)
	}
	if rule := lifetime.AddingOf(got, key(t, "job=lambda")); rule == nil || rule.Gauges != addup.Sum {
		t.Errorf("job=lambda is added up by %+v", rule)
	}
	if rules, err := read("[]"); rules == nil || len(rules) != 0 || err != nil {
		t.Errorf("an empty list = %v, %v", rules, err)
	}
	if rules, err := read("~"); rules != nil || err != nil {
		t.Errorf("nothing = %v, %v", rules, err)
	}
	for text, want := range map[string]string{
		"{match: a}":                               "line 7: push_rules is a list",
		"- aggregate: sum":                         "line 1: a push rule without match",
		"- match: '{a=\"b\"}'\n  ttl: 1d":          "line 2: ttl belongs into the push rules of the relay's --config.file",
		"- match: '{a=\"b\"}'\n  while_agent: 1d":  "line 2: while_agent belongs into",
		"- match: '{a=\"b\"}'\n  every: soon":      "line 2: every belongs into",
		"- match: '{a=\"b\"}'\n  aggregates: sum":  "line 2: unknown key \"aggregates\"",
		"- match: '{a=\"b\"}'\n  aggregate: perh.": "line 2: aggregate: ",
		"- match: '{a=\"b\"}'":                     "line 1: a push rule that says nothing",
		"- x":                                      "line 1: a push rule is a mapping",
	} {
		if rules, err := read(text); err == nil || !strings.HasPrefix(err.Error(), want) || rules != nil {
			t.Errorf("%q: %v, %v, want %q", text, rules, err, want)
		}
	}
}

func load(file string) ([]lifetime.Rule, error) {
	text, err := pushrules.Read(file)
	if err != nil {
		return nil, err
	}
	return pushrules.Parse(file, text)
}

func TestRead(t *testing.T) {
	if rules, err := load(""); rules != nil || err != nil {
		t.Errorf("Read of no file = %v, %v", rules, err)
	}
	name := filepath.Join(t.TempDir(), "relay.yml")
	if _, err := load(name); err == nil || !strings.Contains(err.Error(), name) {
		t.Errorf("Read of a file that is not there: error = %v", err)
	}
	full := "push_rules:\n" + strings.Repeat("- {match: '{a=\"b\"}', ttl: 1d}\n", pushrules.MaxRules)
	full += strings.Repeat("#", pushrules.MaxBytes-len(full))
	if err := os.WriteFile(name, []byte(full), 0o600); err != nil {
		t.Fatal(err)
	}
	if rules, err := load(name); len(rules) != pushrules.MaxRules || err != nil {
		t.Errorf("Read of a file as large as may be = %d rules, %v", len(rules), err)
	}
	if err := os.WriteFile(name, []byte(full+"#"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := load(name); err == nil || !strings.Contains(err.Error(), name) {
		t.Errorf("Read of a larger file: error = %v", err)
	}
}

// FuzzParse looks for a file that is taken and of which a part is not read, or whose rules mean nothing.
func FuzzParse(f *testing.F) {
	for _, text := range []string{
		"", file, "push_rules: []\n---\n", "push_rules: &a\n- *a\n", "push_rules:\n- &a {match: x, <<: *a}\n", "push_rules: [{match: [a, {}], ttl: 0}]\n",
		"push_rules: [{match: '{a=\"b\"}', ttl: 1d, grace: none, every: 1y2w3d4h5m6s7ms, while_agent: 1ms}]", "? !!binary aGk=\n: 1\n",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		rules, err := pushrules.Parse("relay.yml", []byte(text))
		if err != nil {
			if rules != nil || !strings.HasPrefix(err.Error(), "configuration relay.yml: ") {
				t.Errorf("%q: %v beside %v", text, rules, err)
			}
			return
		}
		if len(rules) > pushrules.MaxRules {
			t.Errorf("%q has %d rules", text, len(rules))
		}
		for _, r := range rules {
			if again, err := lifetime.Parse(r.Texts()); again != r.Declaration || err != nil {
				t.Errorf("%q: %+v is read again as %+v, %v", text, r.Declaration, again, err)
			}
			if r.IsZero() && r.WhileAgent == lifetime.Unsaid && r.Adding == nil || r.WhileAgent == lifetime.ByRule {
				t.Errorf("%q: a rule sets %+v, %d", text, r.Declaration, r.WhileAgent)
			}
			r.Match.Matches(grouping.Key{}) // has a selector
		}
		if len(rules) > 0 && !strings.HasPrefix(text, "\xfe\xff") && !strings.HasPrefix(text, "\xff\xfe") {
			if _, err := pushrules.Parse("relay.yml", []byte(text+"\n---\npush_rules: []\n")); err == nil {
				t.Errorf("%q with a second document is taken", text)
			}
		}
	})
}

func ExampleParse() {
	rules, err := pushrules.Parse("relay.yml", []byte("push_rules:\n- match: '{job=\"backup\"}'\n  every: 1d\n  grase: 1h\n"))
	fmt.Println(len(rules), err)
	// Output:
	// 0 configuration relay.yml: line 4: unknown key "grase" in a push rule, want match, every, schedule, grace, ttl, while_agent, aggregate, put
}
