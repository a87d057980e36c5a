package control

import (
	"cmp"
	"errors"
	"fmt"

	"pushrelay/internal/grouping"
	"pushrelay/internal/mtls"
	"pushrelay/internal/policy"
	"pushrelay/internal/relayapi"
	"pushrelay/internal/target"
)

// Explainer answers what a policy allows, without doing any of it.
type Explainer struct {
	// Policy is asked; nil forbids nothing.
	Policy *policy.Policy
	// AgentLabel is the grouping label of agents' groups; empty for none.
	AgentLabel string
	// ThrownOut reports whether an agent is thrown out, and why. Nil for a policy that is asked about without a relay.
	ThrownOut func(agent string) (reason string, out bool)
	// Target returns a target that an agent has announced.
	Target func(agent, name string) (t target.Target, known bool)
}

// Explain answers a question.
func (e Explainer) Explain(q relayapi.Explain) (relayapi.Explained, error) {
	rule, refused, err := e.decide(q)
	revoked := e.revoked(cmp.Or(q.Agent, q.Of))
	switch {
	case revoked != "" && (err == nil || q.Target != ""): // the targets of one that is revoked have left the list
		return relayapi.Explained{Reason: revoked}, nil
	case err != nil:
		return relayapi.Explained{}, &requestError{fmt.Errorf("explaining: %w", err)}
	case refused != nil:
		return relayapi.Explained{Rule: refused.Rule, Reason: refused.Denial()}, nil
	case rule != "":
		return relayapi.Explained{Allowed: true, Rule: rule, Reason: "allowed by " + rule}, nil
	case e.Policy == nil:
		return relayapi.Explained{Allowed: true, Reason: "allowed: there is no policy file"}, nil
	default:
		return relayapi.Explained{Allowed: true, Reason: "allowed: the policy file has no section about who asks"}, nil
	}
}

// revoked says that an agent is thrown out, whatever the policy says; empty if it is not.
func (e Explainer) revoked(agent string) string {
	if e.ThrownOut == nil || agent == "" {
		return ""
	}
	reason, out := e.ThrownOut(agent)
	if !out {
		return ""
	}
	return fmt.Sprintf("denied: agent %q is revoked, whatever the policy says: %s", agent, reason)
}

func (e Explainer) decide(q relayapi.Explain) (rule string, refused *policy.Refusal, err error) {
	if q.Agent != "" {
		return e.ofAgent(q)
	}
	user := e.Policy.User(policy.Identity{User: q.User, Certificate: q.Certificate})
	switch q.Action {
	case relayapi.ExplainPush, relayapi.ExplainDelete, relayapi.ExplainRead:
		var key grouping.Key
		if key, err = keyOf(q.Labels); err != nil {
			return "", nil, err
		}
		refused = map[string]func(grouping.Key) *policy.Refusal{
			relayapi.ExplainPush: user.Push, relayapi.ExplainDelete: user.Delete, relayapi.ExplainRead: user.Read,
		}[q.Action](key)
	case relayapi.ExplainScrape:
		refused, err = e.scrape(user, q)
	case relayapi.ExplainStatus:
		refused = user.Status()
	case relayapi.ExplainAdmin:
		refused = user.Admin("do what is for administrators")
	default:
		err = fmt.Errorf("%q is nothing that a user does", q.Action)
	}
	return user.Rule(), refused, err
}

func (e Explainer) ofAgent(q relayapi.Explain) (rule string, refused *policy.Refusal, err error) {
	if err := mtls.CheckAgentName(q.Agent); err != nil {
		return "", nil, err
	}
	agent := e.Policy.Agent(q.Agent)
	switch q.Action {
	case relayapi.ExplainPush, relayapi.ExplainDelete:
		if _, has := q.Labels[e.AgentLabel]; has {
			return "", nil, fmt.Errorf("the relay adds the label %s, and no push through an agent may have it", e.AgentLabel)
		}
		key, err := keyOf(q.Labels)
		if err != nil {
			return "", nil, err
		}
		if e.AgentLabel != "" {
			key = key.With(e.AgentLabel, q.Agent)
		}
		return agent.Rule(), agent.Push(key), nil
	case relayapi.ExplainServe:
		job := q.Labels["job"]
		if job == "" {
			return "", nil, errors.New("there is no job")
		}
		return agent.Rule(), agent.Serve(job), nil
	default:
		return "", nil, fmt.Errorf("%q is nothing that an agent does", q.Action)
	}
}

// scrape asks about the user, and then whether the agent may serve the target.
func (e Explainer) scrape(user *policy.User, q relayapi.Explain) (*policy.Refusal, error) {
	if err := mtls.CheckAgentName(q.Of); err != nil {
		return nil, err
	}
	t, asked := labelled(q.Labels), fmt.Sprintf("such a target of agent %q", q.Of)
	if q.Target != "" {
		var known bool
		if t, known = e.Target(q.Of, q.Target); !known {
			return nil, fmt.Errorf("agent %q has announced no target %q here: give labels such as job=node instead", q.Of, q.Target)
		}
		asked = fmt.Sprintf("target %q of agent %q", q.Target, q.Of)
	}
	return cmp.Or(user.Scrape(q.Of, &t, asked), e.Policy.Agent(q.Of).Serve(t.Job)), nil
}

// labelled returns a target with these labels.
func labelled(labels map[string]string) target.Target {
	t := target.Target{Job: labels["job"], Instance: labels["instance"]}
	for name, value := range labels {
		t.Labels = append(t.Labels, target.Label{Name: name, Value: value})
	}
	return t
}

func keyOf(labels map[string]string) (grouping.Key, error) {
	list := make([]grouping.Label, 0, len(labels))
	for name, value := range labels {
		list = append(list, grouping.Label{Name: name, Value: value})
	}
	return grouping.New(list...)
}
