package relayapi

import (
	"context"
	"net/http"
)

// ControlExplain is the route at the control socket that says what the policy allows.
const ControlExplain = "/explain"

// What can be asked about.
const (
	ExplainPush   = "push"   // Agent, or a user; Labels are those of the group
	ExplainDelete = "delete" // as push
	ExplainRead   = "read"   // a user; Labels are those of the group
	ExplainScrape = "scrape" // a user; Target of Of, or Labels of one of its targets
	ExplainServe  = "serve"  // Agent; Labels has the job
	ExplainStatus = "status" // a user
	ExplainAdmin  = "admin"  // a user
)

// Explain is a question to the policy: whether somebody may do something. Nothing of it is done.
type Explain struct {
	Action string `json:"action"`
	// Agent, or User and Certificate, are who would do it; nobody is anonymous.
	Agent       string   `json:"agent,omitempty"`
	User        string   `json:"user,omitempty"`
	Certificate []string `json:"certificate,omitempty"`
	// Of and Target are an agent and the name of its target.
	Of     string            `json:"of,omitempty"`
	Target string            `json:"target,omitempty"`
	Labels map[string]string `json:"labels,omitempty"`
}

// Explained is the answer.
type Explained struct {
	Allowed bool `json:"allowed"`
	// Rule is the rule that decides, as FILE:LINE; the section if none is about who asks; empty if nothing forbids it.
	Rule string `json:"rule"`
	// Reason says it in one line.
	Reason string `json:"reason"`
}

// Explain asks the policy of the relay.
func (c *Control) Explain(ctx context.Context, q Explain) (Explained, error) {
	return tell[Explained](ctx, c, http.MethodPost, ControlExplain, q)
}
