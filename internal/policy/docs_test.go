package policy_test

import (
	"os"
	"strings"
	"testing"

	"pushrelay/internal/policy"
)

// TestDocumentedExample: what people copy is taken, and refuses in the words that stand beside it.
func TestDocumentedExample(t *testing.T) {
	page, err := os.ReadFile("../../docs/how-to/who-may-do-what.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(page), "```yaml\n")
	example, prose, ended := strings.Cut(rest, "```\n")
	if !found || !ended {
		t.Fatal("there is no example")
	}
	p := parse(t, example)
	if agents, users := p.Rules(); agents != 2 || users != 4 {
		t.Errorf("the example has %d rules for agents and %d for users", agents, users)
	}
	refused := p.User(policy.Identity{User: "ci"}).Push(key(t, "job=x"))
	if refused == nil || !strings.Contains(prose, "`"+refused.Denial()+"`") {
		t.Errorf("the page does not say %v", refused.Denial())
	}
	want(t, "an agent of many", p.Agent("branch-7").Push(key(t, "job=any agent=branch-7")), "")
	want(t, "an administrator", p.User(policy.Identity{Certificate: []string{"spiffe://example.org/ops"}}).Admin("x"), "")
	want(t, "nobody", p.User(policy.Identity{}).Read(key(t, "job=a public=yes")), "")
}
