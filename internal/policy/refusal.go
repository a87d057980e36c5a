package policy

import (
	"fmt"

	"pushrelay/internal/exposition"
	"pushrelay/internal/grouping"
)

// An Action is what somebody wants to do: the label of the metric about refusals.
type Action string

// The actions.
const (
	ActionPush   Action = "push"
	ActionDelete Action = "delete"
	ActionRead   Action = "read"
	ActionScrape Action = "scrape"
	ActionServe  Action = "serve"
	ActionAdmin  Action = "admin"
)

var actions = []Action{ActionPush, ActionDelete, ActionRead, ActionScrape, ActionServe, ActionAdmin}

// A Refusal says what the policy does not allow, and which rule it is. It is for who is refused.
type Refusal struct {
	Action Action
	Who    Identity
	// Rule is where the rule stands, "policy.yml:12", or the section if no rule is about who asked.
	Rule string
	// What was asked for, such as: push to group {job="x"}.
	What string

	unnamed bool // no rule is about who asked
}

// Error returns the rule and what it does not allow, in one line.
func (r *Refusal) Error() string {
	if r.unnamed {
		return fmt.Sprintf("%s: it has no rule for %s, who may not %s", r.Rule, r.Who, r.What)
	}
	return fmt.Sprintf("%s: %s may not %s", r.Rule, r.Who, r.What)
}

// Denial returns the refusal as the answer to who is refused.
func (r *Refusal) Denial() string { return "denied by " + r.Error() }

// maxKeyBytes bounds what a refusal tells of a grouping key: it goes into the log.
const maxKeyBytes = 512

func textOf(key grouping.Key) string { return exposition.Clip(key.String(), maxKeyBytes) }
