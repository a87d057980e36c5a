package location

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"hash/fnv"
	"log/slog"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	storagev1 "pushrelay/internal/gen/storage/v1"
	"pushrelay/internal/roster"
)

// pageOf is how many keys are read at once.
const pageOf = 512

// elsewhere returns the relays but one that have a session which is current, the best first. A nil agent has none.
func (a *located) elsewhere(but string) []string {
	if a == nil {
		return nil
	}
	var found []place
	for _, p := range a.sessions {
		if p.relay != but && p.process == a.process {
			found = append(found, p)
		}
	}
	slices.SortFunc(found, func(x, y place) int {
		return cmp.Or(cmp.Compare(y.attach, x.attach), cmp.Compare(y.epoch, x.epoch))
	})
	var relays []string
	for _, p := range found {
		relays = append(relays, p.relay)
	}
	return relays
}

// on returns the session with a relay; the zero place for none.
func (a *located) on(relay string) place {
	if a != nil {
		for _, p := range a.sessions {
			if p.relay == relay {
				return p
			}
		}
	}
	return place{}
}

// set notes the session with a relay, or with epoch 0 that there is none.
func (a *located) set(p place) {
	a.sessions = slices.DeleteFunc(a.sessions, func(old place) bool { return old.relay == p.relay })
	if p.epoch > 0 {
		a.sessions = append(a.sessions, p)
	}
}

// takeProcess notes whose sessions are current.
func (a *located) takeProcess(kv *mvccpb.KeyValue) error {
	m := &storagev1.ClusterProcess{}
	if err := unmarshal(kv.Value, m); err != nil {
		return fmt.Errorf("%q: %w", kv.Key, err)
	}
	copy(a.process[:], m.GetProcess())
	a.since, a.by = kv.ModRevision, m.GetRemoteAddress()+" by relay "+m.GetRelay()
	return nil
}

// placeOf reads a session.
func placeOf(relay string, kv *mvccpb.KeyValue) (place, error) {
	m := &storagev1.ClusterSession{}
	if err := unmarshal(kv.Value, m); err != nil {
		return place{}, fmt.Errorf("%q: %w", kv.Key, err)
	}
	p := place{relay: relay, attach: m.GetAttach(), epoch: kv.ModRevision}
	copy(p.process[:], m.GetProcess())
	return p, nil
}

// takeSession takes one key of the sessions into a copy, or that it is gone.
func (k keys) takeSession(agents map[string]*located, kv *mvccpb.KeyValue, gone bool) error {
	agent, relay := k.splitSession(string(kv.Key))
	a := agents[agent]
	if a == nil {
		if gone {
			return nil
		}
		a = &located{}
		agents[agent] = a
	}
	var err error
	switch {
	case relay == "" && gone:
		a.process, a.since, a.by = [16]byte{}, 0, ""
	case relay == "":
		err = a.takeProcess(kv)
	case gone:
		a.set(place{relay: relay})
	default:
		var p place
		if p, err = placeOf(relay, kv); err == nil {
			a.set(p)
		}
	}
	if a.since == 0 && len(a.sessions) == 0 {
		delete(agents, agent)
	}
	return err
}

// load makes the copy what etcd holds now, and tells the registry.
func (l *Location) load(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	if err := l.begin(ctx); err != nil {
		return err
	}
	now, err := l.cfg.Client.Get(ctx, l.keys.agents())
	if err != nil {
		return fmt.Errorf("reading the cluster's agents: %w", err)
	}
	at := now.Header.GetRevision()
	agents := map[string]*located{}
	err = l.each(ctx, l.keys.sessions(), at, func(kv *mvccpb.KeyValue) error {
		return l.keys.takeSession(agents, kv, false)
	})
	if err != nil {
		return err
	}
	known := map[string]stored{}
	err = l.each(ctx, l.keys.agents(), at, func(kv *mvccpb.KeyValue) error {
		agent, what, err := l.keys.readAgent(kv)
		if err == nil && agent.Name != "" {
			known[agent.Name] = what
			l.registry.Install(agent)
		}
		return err
	})
	if err != nil {
		return err
	}
	l.replace(agents, known, at)
	return nil
}

// replace makes the copy another one, and tells the registry of all agents what is different.
func (l *Location) replace(agents map[string]*located, known map[string]stored, at int64) {
	names := map[string]bool{}
	for _, name := range l.registry.Names() {
		names[name] = true
		if _, there := known[name]; !there {
			l.registry.Drop(name)
		}
	}
	for name := range agents {
		names[name] = true
	}
	l.mu.Lock()
	l.agents, l.stored = agents, known
	l.checkAllOwn(at)
	l.move(at)
	l.mu.Unlock()
	for name := range names {
		l.settle(name)
	}
}

// move notes how far the copy has sessions. The caller holds mu.
func (l *Location) move(revision int64) {
	l.revision = max(l.revision, revision)
	close(l.moved)
	l.moved = make(chan struct{})
}

// each calls f with each key below a prefix as it was at a revision.
func (l *Location) each(ctx context.Context, prefix string, at int64, f func(kv *mvccpb.KeyValue) error) error {
	from, end := prefix, clientv3.GetPrefixRangeEnd(prefix)
	for {
		resp, err := l.cfg.Client.Get(ctx, from, clientv3.WithRange(end), clientv3.WithRev(at), clientv3.WithLimit(pageOf))
		if err != nil {
			return fmt.Errorf("reading the cluster's agents: %w", err)
		}
		for _, kv := range resp.Kvs {
			if err := f(kv); err != nil {
				return err
			}
		}
		if !resp.More {
			return nil
		}
		from = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
	}
}

// readAgent reads what etcd has of an agent; one without a name is the mark that agents have begun.
func (k keys) readAgent(kv *mvccpb.KeyValue) (agent roster.Agent, what stored, err error) {
	if bytes.Equal(kv.Key, []byte(k.agents())) {
		return roster.Agent{}, stored{}, nil
	}
	m := &storagev1.ClusterAgent{}
	if err := unpack(kv.Value, m); err != nil {
		return roster.Agent{}, stored{}, fmt.Errorf("%q: %w", kv.Key, err)
	}
	return agentFromProto(m), stored{revision: kv.ModRevision, sum: sum(kv.Value), connected: m.GetConnected()}, nil
}

func sum(value []byte) uint64 {
	h := fnv.New64a()
	h.Write(value)
	return h.Sum64()
}

// drop has the registry forget an agent, unless it has come again since the revision.
func (l *Location) drop(name string, revision int64) {
	l.telling.Lock()
	defer l.telling.Unlock()
	l.mu.RLock()
	isLast := l.stored[name].revision < revision
	l.mu.RUnlock()
	if !isLast {
		return
	}
	l.registry.Drop(name) // first, or it could be written again
	l.mu.Lock()
	delete(l.stored, name)
	l.mu.Unlock()
}

// take takes in what etcd has of an agent.
func (l *Location) take(agent roster.Agent, what stored) {
	if l.install(agent, what, false) {
		l.settle(agent.Name)
	}
}

// install tells the registry what etcd has of an agent, unless it is not the last, or the registry has that already. It has not if the agent was here when it came,
// and has gone.
func (l *Location) install(agent roster.Agent, what stored, gone bool) bool {
	l.telling.Lock()
	defer l.telling.Unlock()
	l.mu.Lock()
	old := l.stored[agent.Name]
	isNew := what.revision > old.revision
	if isNew {
		l.stored[agent.Name] = what
	}
	l.mu.Unlock()
	if !isNew && (!gone || what.revision < old.revision) {
		return false
	}
	l.registry.Install(agent)
	return true
}

// settle tells the registry where an agent is, and ends a session here that is displaced.
func (l *Location) settle(name string) {
	if displaced, by := l.tell(name); displaced != nil {
		l.displace(displaced, by)
	}
}

func (l *Location) tell(name string) (displaced *roster.Attachment, by string) {
	l.telling.Lock()
	defer l.telling.Unlock()
	l.mu.RLock()
	a := l.agents[name]
	places := a.elsewhere(l.cfg.Relay)
	isKnown, process := false, [16]byte{}
	if a != nil {
		isKnown, process = a.since > 0, a.process
	}
	displaced, by = l.displaced(name)
	l.mu.RUnlock()
	if isKnown {
		l.registry.NoteProcess(name, process)
	}
	l.registry.SetPlaces(name, places)
	return displaced, by
}

// displaced returns the session of an agent here if another process has a newer one, and where that is. The caller holds mu.
func (l *Location) displaced(name string) (at *roster.Attachment, by string) {
	s, a := l.local[name], l.agents[name]
	if s == nil || a == nil || s.epoch == 0 || a.process == s.at.Process() || a.since <= s.epoch {
		return nil, ""
	}
	return s.at, a.by
}

func (l *Location) displace(at *roster.Attachment, by string) {
	l.metrics.displaced.Inc()
	l.cfg.Logger.Warn("session taken over", slog.String("agent", at.Agent()), slog.String("addr", by), slog.String("previous_addr", at.RemoteAddress()))
	at.Displace(by)
}
