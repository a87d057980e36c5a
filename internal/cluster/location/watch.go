package location

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	clientv3 "go.etcd.io/etcd/client/v3"

	"pushrelay/internal/monotonic"
)

// follow keeps the copy as etcd is until ctx ends, or etcd holds what is not understood.
func (l *Location) follow(ctx context.Context) error {
	for {
		err := l.watch(ctx)
		for ctx.Err() == nil {
			if isForeign(err) {
				return fmt.Errorf("reading the cluster's agents: %w", err)
			}
			l.cfg.Logger.Warn("what the cluster knows of agents is not heard; reading it anew", slog.Any("err", err))
			monotonic.Sleep(ctx, again)
			if err = l.load(ctx); err == nil {
				break
			}
		}
		if ctx.Err() != nil {
			return nil //nolint:nilerr // It was to end.
		}
	}
}

// errEnded means that a watch has ended.
var errEnded = errors.New("the watch has ended")

// watch takes in what changes until the watch ends.
func (l *Location) watch(ctx context.Context) error {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	l.mu.RLock()
	from := l.revision + 1
	l.mu.RUnlock()
	sessions := l.cfg.Client.Watch(ctx, l.keys.sessions(), clientv3.WithPrefix(), clientv3.WithRev(from))
	agents := l.cfg.Client.Watch(ctx, l.keys.agents(), clientv3.WithPrefix(), clientv3.WithRev(from), clientv3.WithFragment())
	for {
		var resp clientv3.WatchResponse
		var ok bool
		take := l.takeSessions
		select {
		case resp, ok = <-sessions:
		case resp, ok = <-agents:
			take = l.takeAgents
		}
		if !ok {
			return errEnded
		}
		if err := resp.Err(); err != nil {
			return err
		}
		if err := take(resp.Events); err != nil {
			return err
		}
	}
}

// arrival is a process that became the newest of an agent. Each is told, also if several came at once: two that take turns are a conflict.
type arrival struct {
	agent   string
	process [16]byte
}

// takeSessions takes in what has changed of sessions.
func (l *Location) takeSessions(events []*clientv3.Event) error {
	if len(events) == 0 {
		return nil
	}
	touched, err := l.takeEvents(events)
	if err != nil {
		return err
	}
	for agent := range touched {
		l.settle(agent)
	}
	return nil
}

// takeEvents returns the agents that the events are about.
func (l *Location) takeEvents(events []*clientv3.Event) (touched map[string]bool, err error) {
	touched = map[string]bool{}
	var came []arrival
	l.telling.Lock() // or another goroutine could tell of a later process first
	defer l.telling.Unlock()
	l.mu.Lock()
	for _, e := range events {
		agent, relay := l.keys.splitSession(string(e.Kv.Key))
		before := l.agents[agent].on(l.cfg.Relay)
		if err := l.keys.takeSession(l.agents, e.Kv, e.Type == clientv3.EventTypeDelete); err != nil {
			l.mu.Unlock()
			return nil, err
		}
		touched[agent] = true
		if relay == "" && e.Type == clientv3.EventTypePut {
			came = append(came, arrival{agent, l.agents[agent].process})
		}
		if relay == l.cfg.Relay {
			l.checkOwn(agent, before, l.agents[agent].on(relay))
		} else if l.local[agent] != nil {
			l.mark(agent) // this relay may be the best way to it now
		}
	}
	l.move(events[len(events)-1].Kv.ModRevision)
	l.mu.Unlock()
	for _, p := range came {
		l.registry.NoteProcess(p.agent, p.process)
	}
	return touched, nil
}

// checkOwn sees to it that exactly those sessions are registered on this relay that there are. The caller holds mu.
func (l *Location) checkOwn(agent string, before, now place) {
	s := l.local[agent]
	switch {
	case s == nil && now.epoch > 0:
		l.orphans[agent] = now.epoch
		wake(l.register)
	case s != nil && now.epoch == 0 && s.epoch == before.epoch:
		s.epoch = 0 // the lease is lost, or somebody has taken the key away
		wake(l.register)
	}
}

// checkAllOwn is checkOwn for all agents, once the copy is as etcd was at a revision. The caller holds mu.
func (l *Location) checkAllOwn(at int64) {
	for name, a := range l.agents {
		if own := a.on(l.cfg.Relay); own.epoch > 0 && l.local[name] == nil {
			l.orphans[name] = own.epoch
		}
	}
	for name, s := range l.local {
		if s.epoch <= at && l.agents[name].on(l.cfg.Relay).epoch != s.epoch {
			s.epoch = 0
		}
	}
	wake(l.register)
}

// takeAgents takes in what has changed of what is known of agents.
func (l *Location) takeAgents(events []*clientv3.Event) error {
	for _, e := range events {
		if e.Type == clientv3.EventTypeDelete {
			l.drop(string(e.Kv.Key[len(l.keys.agents()):]), e.Kv.ModRevision)
			continue
		}
		agent, what, err := l.keys.readAgent(e.Kv)
		if err != nil {
			return err
		}
		if agent.Name != "" {
			l.take(agent, what)
		}
	}
	return nil
}
