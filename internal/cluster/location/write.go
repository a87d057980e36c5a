package location

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	storagev1 "pushrelay/internal/gen/storage/v1"
	"pushrelay/internal/monotonic"
	"pushrelay/internal/roster"
)

const (
	// batchOf and batchBytes bound what is written of agents in one transaction.
	batchOf    = 64
	batchBytes = 1 << 20
	// writePause is how long it takes at least from one transaction to the next.
	writePause = 100 * time.Millisecond
)

// Changed is for [roster.Sharing].
func (l *Location) Changed(agent string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mark(agent)
}

// mark has an agent looked at by keepWritten. The caller holds mu.
func (l *Location) mark(agent string) {
	l.dirty[agent] = true
	wake(l.write)
}

// keepWritten has all relays know what this one knows of its agents, until ctx ends.
func (l *Location) keepWritten(ctx context.Context) {
	look := time.NewTicker(l.cfg.TTL)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
			l.markGone()
		case <-l.write:
		}
		if err := l.writeDirty(ctx); err != nil && ctx.Err() == nil {
			l.metrics.unwritten.Inc()
			l.cfg.Logger.Debug("what is known of agents is not written; trying again", slog.Any("err", err))
			monotonic.Sleep(ctx, again)
			wake(l.write)
		}
		monotonic.Sleep(ctx, writePause)
	}
}

// markGone marks the agents whose relay is gone without a word, if this relay leads: somebody has to say when they were seen last.
func (l *Location) markGone() {
	if !l.cfg.Leads() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for name, what := range l.stored {
		if a := l.agents[name]; what.connected && l.local[name] == nil && (a == nil || len(a.sessions) == 0) {
			l.mark(name)
		}
	}
}

// writeDirty writes, or reads, what was marked. What fails stays marked.
func (l *Location) writeDirty(ctx context.Context) error {
	for {
		names := l.someDirty()
		if len(names) == 0 {
			return nil
		}
		if err := l.writeSome(ctx, names); err != nil {
			l.mu.Lock()
			for _, name := range names {
				l.dirty[name] = true
			}
			l.mu.Unlock()
			return err
		}
	}
}

// someDirty takes some agents off those that are marked.
func (l *Location) someDirty() (names []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for name := range l.dirty {
		if len(names) == batchOf {
			break
		}
		names = append(names, name)
		delete(l.dirty, name)
	}
	return names
}

// what is done about an agent that is marked.
type duty uint8

const (
	leave    duty = iota // another relay says what there is to say
	fetch                // it has gone to another relay, which knows more than this one did while it was here
	announce             // this relay knows best
	part                 // it was here, or nobody knows where; others may have written since
)

// dutyFor returns what is to be done about an agent, and what etcd has of it.
func (l *Location) dutyFor(name string) (duty, stored) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	a, s, what := l.agents[name], l.local[name], l.stored[name]
	switch {
	case s == nil && len(a.elsewhere(l.cfg.Relay)) > 0:
		return fetch, what
	case s == nil:
		return part, what
	case a.hasBetter(s, l.cfg.Relay):
		return leave, what
	default:
		return announce, what
	}
}

// hasBetter says whether another relay has a session of the same process by a later attempt. It says then what is to be known of the agent.
func (a *located) hasBetter(s *local, here string) bool {
	if a == nil || a.process != s.at.Process() {
		return false
	}
	for _, p := range a.sessions {
		later := p.attach > s.at.Attach() || p.attach == s.at.Attach() && s.epoch > 0 && p.epoch > s.epoch
		if p.relay != here && p.process == a.process && later {
			return true
		}
	}
	return false
}

// entry is what is written of one agent.
type entry struct {
	name  string
	value []byte
	what  stored // with the revision that it must have, -1 for any
}

func (l *Location) writeSome(ctx context.Context, names []string) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	var batch []entry
	size := 0
	for _, name := range names {
		duty, what := l.dutyFor(name)
		if duty == fetch {
			if err := l.fetch(ctx, name); err != nil {
				return err
			}
		}
		if duty == leave || duty == fetch {
			continue
		}
		e, needed, err := l.entryFor(name, duty, what)
		if err != nil {
			return err
		}
		if !needed {
			continue
		}
		if len(batch) > 0 && size+len(e.value) > batchBytes {
			if err := l.put(ctx, batch); err != nil {
				return err
			}
			batch, size = nil, 0
		}
		batch, size = append(batch, e), size+len(e.value)
	}
	return l.put(ctx, batch)
}

// entryFor returns what is to be written of an agent, if that is not there already.
func (l *Location) entryFor(name string, duty duty, what stored) (e entry, needed bool, err error) {
	known, found := l.registry.Whole(name)
	if !found {
		return entry{}, false, nil
	}
	if duty == part && what.connected && known.LastSeen.Before(known.SessionStarted.Add(time.Nanosecond)) {
		known.LastSeen = time.Now() // whoever knew better is gone
	}
	e = entry{name: name, what: stored{revision: -1, connected: duty == announce}}
	if duty == part {
		e.what.revision = what.revision
	}
	e.value, err = l.valueOf(&known, duty == announce)
	if err != nil {
		return entry{}, false, err
	}
	e.what.sum = sum(e.value)
	return e, e.what.sum != what.sum, nil
}

// valueOf returns what is written of an agent. Targets that are too many for a value are left out.
func (l *Location) valueOf(known *roster.Agent, connected bool) ([]byte, error) {
	m := agentToProto(known, connected)
	value, err := pack(m)
	if err != nil || len(value) <= l.cfg.MaxValueBytes {
		return value, err
	}
	l.cfg.Logger.Warn("the targets of an agent are too large to be known to all relays: those that it has no session with do not list them",
		slog.String("agent", known.Name), slog.Int("bytes", len(value)), slog.Int("max_bytes", l.cfg.MaxValueBytes))
	m.Targets = nil
	return pack(m)
}

// put writes entries. One that was written by another relay since is left as it is: it comes with the watch.
func (l *Location) put(ctx context.Context, batch []entry) error {
	if len(batch) == 0 {
		return nil
	}
	ops := make([]clientv3.Op, len(batch))
	for i, e := range batch {
		key := l.keys.agent(e.name)
		ops[i] = clientv3.OpPut(key, string(e.value))
		if e.what.revision >= 0 {
			ops[i] = clientv3.OpTxn([]clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(key), "=", e.what.revision)}, []clientv3.Op{ops[i]}, nil)
		}
	}
	resp, err := l.cfg.Client.Txn(ctx).Then(ops...).Commit()
	if err != nil {
		return fmt.Errorf("writing what is known of agents: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, e := range batch {
		if nested := resp.Responses[i].GetResponseTxn(); nested != nil && !nested.GetSucceeded() {
			continue
		}
		e.what.revision = resp.Header.GetRevision()
		if l.stored[e.name].revision < e.what.revision {
			l.stored[e.name] = e.what
		}
	}
	return nil
}

// fetch takes in what etcd has of an agent.
func (l *Location) fetch(ctx context.Context, name string) error {
	resp, err := l.cfg.Client.Get(ctx, l.keys.agent(name))
	if err != nil {
		return fmt.Errorf("reading what is known of agent %q: %w", name, err)
	}
	for _, kv := range resp.Kvs {
		agent, what, err := l.keys.readAgent(kv)
		if err != nil {
			return err
		}
		l.install(agent, what, true)
	}
	return nil
}

// begin has etcd hold the agents that the first member knew before it was one, once.
func (l *Location) begin(ctx context.Context) error {
	mark, err := l.cfg.Client.Get(ctx, l.keys.agents())
	if err != nil {
		return fmt.Errorf("reading the cluster's agents: %w", err)
	}
	if len(mark.Kvs) > 0 {
		return nil
	}
	names := l.registry.Names()
	for len(names) > 0 {
		n := min(len(names), batchOf)
		if err := l.writeNew(ctx, names[:n]); err != nil {
			return err
		}
		names = names[n:]
	}
	value, err := pack(&storagev1.ClusterAgentsBegun{})
	if err != nil {
		return err
	}
	if _, err := l.cfg.Client.Put(ctx, l.keys.agents(), string(value)); err != nil {
		return fmt.Errorf("writing the cluster's agents: %w", err)
	}
	return nil
}

// writeNew writes agents that etcd does not hold.
func (l *Location) writeNew(ctx context.Context, names []string) error {
	var batch []entry
	for _, name := range names {
		e, needed, err := l.entryFor(name, part, stored{})
		if err != nil {
			return err
		}
		if needed {
			batch = append(batch, e)
		}
	}
	return l.put(ctx, batch)
}

// Admit is for [roster.Sharing], as Forget.
func (l *Location) Admit(name, trustDomain string) error {
	ctx, cancel := context.WithTimeout(context.Background(), registerWait) // nobody waits longer
	defer cancel()
	now := time.Now()
	fresh := roster.Agent{Name: name, TrustDomain: trustDomain, SessionStarted: now, LastSeen: now}
	value, err := pack(agentToProto(&fresh, true))
	if err != nil {
		return err
	}
	key := l.keys.agent(name)
	resp, err := l.cfg.Client.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(key), "=", 0)).Then(clientv3.OpPut(key, string(value))).Else(clientv3.OpGet(key)).Commit()
	if err != nil {
		return fmt.Errorf("this relay does not know agent %q, and the cluster, which may, has no majority at the moment: %w", name, err)
	}
	if resp.Succeeded {
		l.take(fresh, stored{resp.Header.GetRevision(), sum(value), true})
		return nil
	}
	for _, kv := range resp.Responses[0].GetResponseRange().GetKvs() {
		known, what, err := l.keys.readAgent(kv)
		if err != nil {
			return err
		}
		l.take(known, what)
	}
	return nil // whether it is of the trust domain is known to the registry now
}

// Forget has all relays forget an agent that has no session.
func (l *Location) Forget(name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout) // nobody waits longer
	defer cancel()
	resp, err := l.cfg.Client.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(l.keys.sessionsOf(name)), "=", 0).WithPrefix()).
		Then(clientv3.OpDelete(l.keys.agent(name)), clientv3.OpDelete(l.keys.process(name))).Commit()
	if err != nil {
		return errors.Join(errNoMajority, err)
	}
	if !resp.Succeeded {
		return roster.ErrConnected
	}
	return nil
}

// errNoMajority is why nothing can be changed that all relays have to know of.
var errNoMajority = errors.New("the relays of the cluster cannot be told: there is no majority of them")
