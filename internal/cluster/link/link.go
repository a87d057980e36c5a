package link

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"
)

// Link is a member's end of the connections between members. It is made by [New].
type Link struct {
	// Server takes the connections of members from the agents' port.
	Server *Server
	// Forwarder takes pushes wherever they may be decided.
	Forwarder *Forwarder
	// Scraper scrapes agents wherever they have a session.
	Scraper *Scraper

	client *client
	states *states
}

// New returns a link. It starts nothing.
func New(cfg Config) *Link {
	m, st, c := newMetrics(cfg.Registerer), newStates(&cfg), newClient(&cfg)
	return &Link{
		Server: newServer(&cfg, st, m), Forwarder: newForwarder(&cfg, c, m), Scraper: &Scraper{cfg: &cfg, client: c, metrics: m},
		client: c, states: st,
	}
}

// States returns how the members are of whom this one heard, and how it is itself.
func (l *Link) States() map[string]State { return l.states.all() }

// Run speaks with the other members until ctx ends. What waits to be decided elsewhere then waits as long as its pusher does.
func (l *Link) Run(ctx context.Context) error {
	var all errgroup.Group
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	exchanges := &exchanges{link: l, states: l.states, client: l.client, asked: map[string]bool{}, answered: map[string]time.Time{}}
	all.Go(func() error {
		defer cancel()
		return l.Server.run(ctx)
	})
	all.Go(func() error {
		exchanges.run(ctx)
		return nil
	})
	all.Go(func() error {
		l.Forwarder.run(ctx)
		return nil
	})
	err := all.Wait()
	l.client.close()
	return err
}
