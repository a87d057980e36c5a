package roster

import (
	"context"
	"strings"
	"time"

	"pushrelay/internal/scrape"
)

// Scrape finds the agent's session and scrapes through it. See [scrape.Scraper].
func (r *Registry) Scrape(ctx context.Context, req *scrape.Request) (*scrape.Response, error) {
	startedAt := time.Now()
	session, done, err := r.begin(req, startedAt)
	if err != nil {
		r.metrics.scraped(0, err)
		return nil, err
	}
	resp, scrapeErr := session.Scrape(ctx, req)
	if scrapeErr != nil {
		named := scrape.AsError(ctx, scrapeErr)
		done(0, 0, named)
		return nil, named
	}
	scrape.Observe(ctx, resp, func(bytes int64, err *scrape.Error) { done(resp.Status, bytes, err) })
	return resp, nil
}

// revokedText says at the end of a sentence that an agent is thrown out; empty if it is not. The caller holds mu.
func (r *Registry) revokedText(agent string) string {
	reason, out := r.cfg.ThrownOut(agent)
	if !out {
		return ""
	}
	return "; it is revoked: " + reason
}

// begin finds the session and takes a place among the agent's scrapes; done gives it back and notes how it ended, with the
// status of the answer or 0, and the bytes of its body. Done is called once.
func (r *Registry) begin(req *scrape.Request, startedAt time.Time) (s Session, done func(status int, bytes int64, err *scrape.Error), err *scrape.Error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.agents[req.Agent]
	if a == nil {
		return nil, nil, scrape.Errorf(scrape.AgentUnknown, "no agent %q is known to this relay", req.Agent)
	}
	t := a.targets[req.Target]
	if t == nil || t.isOver(startedAt) {
		if reason, out := r.cfg.ThrownOut(req.Agent); out { // its targets have left the list
			return nil, nil, scrape.Errorf(scrape.TargetUnknown, "agent %q is revoked: %s", req.Agent, reason)
		}
		return nil, nil, scrape.Errorf(scrape.TargetUnknown, "agent %q has announced no target %q", req.Agent, req.Target)
	}
	if why := a.withheld.why[req.Target]; why != nil {
		return nil, nil, scrape.Errorf(scrape.Denied, "%v", why)
	}
	most := r.cfg.Terms(req.Agent).MaxConcurrentScrapes
	switch {
	case !t.ListedUntil.IsZero():
		err = scrape.Errorf(scrape.TargetGone, "agent %q announces target %q no more; it stays listed until %s", req.Agent, req.Target, t.ListedUntil.UTC().Format(time.RFC3339))
	case r.draining:
		err = scrape.Errorf(scrape.Draining, "this relay is about to stop")
	case a.session == nil && a.Connected:
		err = scrape.Errorf(scrape.AgentOffline, "agent %q is not connected to this relay but to %s, which did not answer", req.Agent, strings.Join(a.elsewhere, ", "))
	case a.session == nil:
		err = scrape.Errorf(scrape.AgentOffline, "agent %q is not connected, last seen %s%s", req.Agent, a.LastSeen.UTC().Format(time.RFC3339), r.revokedText(req.Agent))
	case a.scrapes >= most:
		err = scrape.Errorf(scrape.AgentBusy, "agent %q already has %d scrapes at once", req.Agent, a.scrapes)
	}
	if err != nil {
		r.ended(t, end{agent: req.Agent, at: startedAt, err: err})
		return nil, nil, err
	}
	a.scrapes++
	at := a.current
	at.scrapes++
	return a.session, func(status int, bytes int64, err *scrape.Error) {
		duration := time.Since(startedAt)
		r.metrics.scraped(duration, err)
		r.mu.Lock()
		a.scrapes--
		at.scrapes--
		r.ended(t, end{agent: req.Agent, at: startedAt, took: duration, status: status, bytes: bytes, err: err})
		answered := at.scrapes == 0
		r.mu.Unlock()
		if answered {
			r.endRetired(a, at)
		}
	}, nil
}

// An end is how a scrape ended.
type end struct {
	agent  string
	at     time.Time // when it began
	took   time.Duration
	status int   // that the target answered; 0 if it did not
	bytes  int64 // of the body
	err    *scrape.Error
}

// ended notes how a scrape of a target ended. The caller holds mu.
func (r *Registry) ended(t *Target, e end) {
	fault := ""
	if e.err != nil {
		fault = e.err.Error()
	} else {
		t.LastSuccess = e.at
	}
	if fault != t.LastError || t.LastScrape.IsZero() {
		r.changes.Add(1)
	}
	t.LastScrape, t.LastDuration, t.LastStatus, t.LastError = e.at, e.took, e.status, fault
	r.cfg.Scraped(e.agent, e.bytes, fault)
}
