package policy_test

import (
	"regexp"
	"strings"
	"testing"

	"pushrelay/internal/policy"
)

// FuzzParse looks for a text that is taken and does not say what its decisions say: each has a line of the text, a section that is not there
// forbids nothing, and one that is there decides the same each time.
func FuzzParse(f *testing.F) {
	for _, text := range []string{
		file, "", "agents:\n", "users: []\n", "agents: [{name: '*'}]\nusers: [{anonymous: true, admin: 1}]", "users:\n- &a {user: x}\n- *a\n",
		"agents:\n- name: [a, 'b*']\n  push: ['{job=~\"a|b\"}']\n  max_groups: 07\n", "users:\n- certificate: 'a*b*c'\n  scrape: '{agent!=\"x\"}'\n",
	} {
		f.Add(text, "site-a")
	}
	rule := regexp.MustCompile(`^f\.yml:[1-9][0-9]*$`)
	k := key(f, "job=a")
	f.Fuzz(func(t *testing.T, text, name string) {
		p, err := policy.Parse("f.yml", []byte(text))
		if err != nil {
			if p != nil || !strings.HasPrefix(err.Error(), "policy f.yml: ") {
				t.Errorf("Parse() = %v, %v", p, err)
			}
			return
		}
		agents, users := p.Rules()
		if agents < 0 && users < 0 {
			t.Fatalf("%q is taken, and forbids nothing", text)
		}
		if name == "" {
			return
		}
		agent, user := p.Agent(name), p.User(policy.Identity{User: name})
		for is, got := range map[bool]string{agents >= 0: agent.Rule(), users >= 0: user.Rule()} {
			if agents >= 0 == (users >= 0) && rule.MatchString(got) != is {
				t.Errorf("%q: rule %q for %q", text, got, name)
			}
		}
		for range 2 {
			refused := p.Agent(name).Push(k)
			if (refused == nil) != (agent.Push(k) == nil) || agents <= 0 && (refused == nil) != (agents < 0) {
				t.Errorf("%q: %q is refused with %v", text, name, refused)
			}
			if refused != nil && (!rule.MatchString(refused.Rule) || strings.Contains(refused.Error(), "\n")) {
				t.Errorf("%q: refused by %q: %v", text, refused.Rule, refused)
			}
			if seen := p.User(policy.Identity{User: name}).Sees(k); seen != user.Sees(k) || users == 0 && seen {
				t.Errorf("%q: %q sees %v", text, name, seen)
			}
		}
	})
}
