package agents

import (
	"context"
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
		done(named)
		return nil, named
	}
	scrape.Observe(ctx, resp, done)
	return resp, nil
}

// begin finds the session and takes a place among the agent's scrapes; done gives it back and notes how it ended. Done is
// called once.
func (r *Registry) begin(req *scrape.Request, startedAt time.Time) (s Session, done func(*scrape.Error), err *scrape.Error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.agents[req.Agent]
	if a == nil {
		return nil, nil, scrape.Errorf(scrape.AgentUnknown, "no agent %q is known to this relay", req.Agent)
	}
	t := a.targets[req.Target]
	if t == nil {
		return nil, nil, scrape.Errorf(scrape.TargetUnknown, "agent %q has announced no target %q", req.Agent, req.Target)
	}
	switch {
	case r.draining:
		err = scrape.Errorf(scrape.Draining, "this relay is about to stop")
	case a.session == nil:
		err = scrape.Errorf(scrape.AgentOffline, "agent %q is not connected, last seen %s", req.Agent, a.LastSeen.UTC().Format(time.RFC3339))
	case a.scrapes >= r.cfg.MaxConcurrentScrapes:
		err = scrape.Errorf(scrape.AgentBusy, "agent %q already has %d scrapes at once", req.Agent, a.scrapes)
	}
	if err != nil {
		t.LastScrape, t.LastDuration, t.LastError = startedAt, 0, err.Error()
		return nil, nil, err
	}
	a.scrapes++
	return a.session, func(err *scrape.Error) {
		duration := time.Since(startedAt)
		r.metrics.scraped(duration, err)
		r.mu.Lock()
		defer r.mu.Unlock()
		a.scrapes--
		t.LastScrape, t.LastDuration, t.LastError = startedAt, duration, ""
		if err != nil {
			t.LastError = err.Error()
		}
	}, nil
}
