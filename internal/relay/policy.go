package relay

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"pushrelay/internal/change"
	"pushrelay/internal/control"
	"pushrelay/internal/grouping"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/policy"
	"pushrelay/internal/relayapi"
	"pushrelay/internal/roster"
	"pushrelay/internal/scrape"
	"pushrelay/internal/target"
)

// identityOf says who sent a request.
func (s *Server) identityOf(r *http.Request) policy.Identity {
	peer := s.web.Peer(r)
	return policy.Identity{User: peer.User, Certificate: peer.Certificate}
}

// permitPush asks about a direct push or delete.
func (s *Server) permitPush(r *http.Request, op change.Operation, key grouping.Key) error {
	user := policy.UserOf(r.Context())
	if op == change.Delete {
		return forbidden(user.Delete(key))
	}
	return forbidden(user.Push(key))
}

// permitAgent asks about a push through an agent. It is final: what waits at the agent is not sent again and again until somebody changes a rule.
func (s *Server) permitAgent(agent string, key grouping.Key) error {
	return forbidden(s.guard.Push(agent, key))
}

// seenGroups says which groups who sent a request may read, nil for all.
func seenGroups(r *http.Request) func(grouping.Key) bool { return policy.UserOf(r.Context()).Reading() }

// seenByAgent says of which groups an agent may know, nil for all: of those that it may push to.
func (s *Server) seenByAgent(agent string) func(grouping.Key) bool {
	is := s.guard.Agent(agent)
	if is.IsFree() {
		return nil
	}
	return func(key grouping.Key) bool { return is.Push(key) == nil }
}

func forbidden(refused *policy.Refusal) error {
	if refused == nil {
		return nil
	}
	return &change.Outcome{Kind: change.Forbidden, Detail: refused.Denial()}
}

// permitScrape asks about a scrape of a target, which need not be known.
func (s *Server) permitScrape(r *http.Request, agent, name, asked string) *scrape.Error {
	user := policy.UserOf(r.Context())
	if user == nil {
		return nil
	}
	var known *target.Target
	if t, ok := s.agents.Target(agent, name); ok {
		known = &t
	}
	if refused := user.Scrape(agent, known, asked); refused != nil {
		return &scrape.Error{Reason: scrape.Denied, Message: refused.Error()}
	}
	return nil
}

// admin returns the handler for those who may do what is for administrators.
func admin(what string, h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if policy.Permit(w, policy.UserOf(r.Context()).Admin(what)) {
			h(w, r)
		}
	}
}

// status returns the handler for those who may read what the relay tells of itself.
func status(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if policy.Permit(w, policy.UserOf(r.Context()).Status()) {
			h(w, r)
		}
	}
}

// termsOf returns what an agent may have of the registry.
func (s *Server) termsOf(agent string) roster.Terms {
	is := s.guard.Agent(agent)
	quota := is.Quota()
	var terms roster.Terms
	terms.MaxConcurrentScrapes, _ = quota.ConcurrentScrapes.Or(s.opts.AgentMaxConcurrentScrapes)
	if is.IsFree() {
		return terms
	}
	most, _ := quota.Targets.Or(0)
	terms.Withhold = func(job string, listed int) error {
		if refused := is.Serve(job); refused != nil {
			return refused
		}
		if most > 0 && listed >= most {
			return is.Surplus()
		}
		return nil
	}
	return terms
}

// noteWithheld counts and logs targets that are not listed.
func (s *Server) noteWithheld(_ string, w roster.Withheld) {
	if refused, ok := errors.AsType[*policy.Refusal](w.Why); ok {
		s.guard.NoteTargets(refused, w.Count, w.Names)
	}
}

// limitsOf returns what the groups of an agent may hold, and what says so.
func (s *Server) limitsOf(agent string) groupstore.AccountLimits {
	quota := s.guard.Agent(agent).Quota()
	limits := groupstore.AccountLimits{GroupsBy: groupstore.GroupsFlag, SeriesBy: groupstore.SeriesFlag}
	var rule string
	if limits.Groups, rule = quota.Groups.Or(s.opts.AgentMaxGroups); rule != "" {
		limits.GroupsBy = "max_groups, " + rule
	}
	if limits.Series, rule = quota.Series.Or(s.opts.AgentMaxSeries); rule != "" {
		limits.SeriesBy = "max_series, " + rule
	}
	return limits
}

// explain answers what the policy of the moment allows.
func (s *Server) explain(q relayapi.Explain) (relayapi.Explained, error) {
	return control.Explainer{Policy: s.guard.Policy(), AgentLabel: s.opts.AgentLabel, ThrownOut: s.thrownOut, Target: s.agents.Target}.Explain(q)
}

// Explain says whether somebody may do something: by the policy of the relay that runs on the data dir or, if a file is named, by that one,
// whatever a relay does with it. A target that is named is looked up among those that the relay knows.
func (a Agents) Explain(ctx context.Context, policyFile string, q relayapi.Explain) (relayapi.Explained, error) {
	if policyFile == "" {
		done, _, err := either(a,
			func(c *relayapi.Control) (relayapi.Explained, error) { return c.Explain(ctx, q) },
			func() (relayapi.Explained, error) {
				return relayapi.Explained{}, fmt.Errorf("%w: name a file with --policy.file", ErrNeedsRelay)
			})
		return done, err
	}
	p, err := policy.Load(policyFile)
	if err != nil {
		return relayapi.Explained{}, err
	}
	var known []roster.Agent
	if q.Target != "" {
		if err := a.check(); err != nil {
			return relayapi.Explained{}, err
		}
		if known, err = roster.Read(agentsFile(a.DataDir)); err != nil {
			return relayapi.Explained{}, err
		}
	}
	return control.Explainer{Policy: p, AgentLabel: DefaultOptions().AgentLabel, Target: func(agent, name string) (target.Target, bool) {
		return targetIn(known, agent, name)
	}}.Explain(q)
}

func targetIn(agents []roster.Agent, agent, name string) (target.Target, bool) {
	for _, a := range agents {
		for _, t := range a.Targets {
			if a.Name == agent && t.Name == name {
				return t.Target, true
			}
		}
	}
	return target.Target{}, false
}
