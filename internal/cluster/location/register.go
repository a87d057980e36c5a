package location

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"

	storagev1 "pushrelay/internal/gen/storage/v1"
	"pushrelay/internal/monotonic"
	"pushrelay/internal/roster"
)

// registeredAtOnce is how many sessions are registered at once when many have to be: after a lease was lost, for instance.
const registeredAtOnce = 32

// Attached is for [roster.Sharing], as all that follows.
func (l *Location) Attached(at *roster.Attachment) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := &local{at: at, busy: true} // Await comes
	if a := l.agents[at.Agent()]; a != nil {
		s.base = a.since
	}
	l.local[at.Agent()] = s
	delete(l.orphans, at.Agent())
	l.mark(at.Agent())
}

// Await registers a session at once, if a majority answers at once.
func (l *Location) Await(at *roster.Attachment) {
	l.mu.RLock()
	s := l.local[at.Agent()]
	l.mu.RUnlock()
	if s == nil || s.at != at {
		return
	}
	// Nobody waits longer, and the session may outlive whoever waits.
	ctx, cancel := context.WithTimeout(context.Background(), registerWait)
	defer cancel()
	err := l.enter(ctx, s, atOnce)
	if err != nil {
		l.metrics.failed.Inc()
		l.cfg.Logger.Debug("a session is not registered yet", slog.String("agent", at.Agent()), slog.Any("err", err))
	}
	l.mu.Lock()
	s.busy = false
	l.mu.Unlock()
	if err != nil {
		wake(l.register)
	}
}

// Detached notes that a session is over.
func (l *Location) Detached(at *roster.Attachment) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.local[at.Agent()]
	if s == nil || s.at != at {
		return
	}
	delete(l.local, at.Agent())
	if s.epoch > 0 {
		l.orphans[at.Agent()] = s.epoch
		wake(l.register)
	}
	l.mark(at.Agent())
}

// timing says whether a session is registered while it begins.
type timing bool

const (
	atOnce timing = true
	late   timing = false
)

// view is what a registration goes by: the process whose sessions are current, and what is registered on this relay.
type view struct {
	newest located
	own    place
}

// errNoLease means that the relay has no lease at the moment.
var errNoLease = errors.New("the relay has no lease in the cluster's etcd")

// enter registers a session, unless it is over. One that is late displaces no other process but the one that it displaced when it began (C12).
func (l *Location) enter(ctx context.Context, s *local, when timing) error {
	v, isThere := l.look(s)
	for isThere {
		if l.isDisplaced(s, v, when) {
			l.displace(s.at, v.newest.by)
			return nil
		}
		done, seen, err := l.transact(ctx, s, v)
		if err != nil || done {
			return err
		}
		v = seen
		isThere = s.at.Current()
	}
	return nil
}

// look returns what the copy has, if a session is still that of its agent.
func (l *Location) look(s *local) (v view, isThere bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	name := s.at.Agent()
	if a := l.agents[name]; a != nil {
		v = view{newest: *a, own: a.on(l.cfg.Relay)}
	}
	return v, l.local[name] == s
}

// isDisplaced says whether a session must not be registered: its process has one here by a later attempt, or it is late and another process came since it began.
func (l *Location) isDisplaced(s *local, v view, when timing) bool {
	if v.own.process == s.at.Process() && s.at.Attach() != 0 && v.own.attach > s.at.Attach() {
		return true
	}
	if v.newest.since == 0 || v.newest.process == s.at.Process() {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if when == atOnce {
		s.base = v.newest.since
	}
	return v.newest.since != s.base
}

// transact registers a session if all is as it was looked at; if not it returns how it is.
func (l *Location) transact(ctx context.Context, s *local, v view) (done bool, seen view, err error) {
	l.mu.RLock()
	held := l.lease
	l.mu.RUnlock()
	if held == nil {
		return false, view{}, errNoLease
	}
	name := s.at.Agent()
	processKey, sessionKey := l.keys.process(name), l.keys.session(name, l.cfg.Relay)
	ops, err := l.registration(s, v, held.id)
	if err != nil {
		return false, view{}, err
	}
	resp, err := l.cfg.Client.Txn(ctx).If(
		clientv3.Compare(clientv3.ModRevision(processKey), "=", v.newest.since),
		clientv3.Compare(clientv3.ModRevision(sessionKey), "=", v.own.epoch),
	).Then(ops...).Else(clientv3.OpGet(processKey), clientv3.OpGet(sessionKey)).Commit()
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		l.lose(held)
	}
	if err != nil {
		return false, view{}, fmt.Errorf("registering a session of agent %q: %w", name, err)
	}
	if resp.Succeeded {
		l.entered(s, resp.Header.GetRevision())
		return true, view{}, nil
	}
	for _, kv := range resp.Responses[0].GetResponseRange().GetKvs() {
		if err := seen.newest.takeProcess(kv); err != nil {
			return false, view{}, err
		}
	}
	for _, kv := range resp.Responses[1].GetResponseRange().GetKvs() {
		if seen.own, err = placeOf(l.cfg.Relay, kv); err != nil {
			return false, view{}, err
		}
	}
	return false, seen, nil
}

// registration returns what registers a session. The key of the process is written only when it is another one than before: its revision is the first epoch of those
// that are current.
func (l *Location) registration(s *local, v view, lease clientv3.LeaseID) (ops []clientv3.Op, err error) {
	name, process := s.at.Agent(), s.at.Process()
	if v.newest.since == 0 || v.newest.process != process {
		value, err := proto.Marshal(&storagev1.ClusterProcess{Process: process[:], Relay: l.cfg.Relay, RemoteAddress: s.at.RemoteAddress()})
		if err != nil {
			return nil, fmt.Errorf("encoding a process: %w", err)
		}
		ops = append(ops, clientv3.OpPut(l.keys.process(name), string(value)))
	}
	value, err := proto.Marshal(&storagev1.ClusterSession{
		Process: process[:], Attach: s.at.Attach(), Incarnation: l.cfg.Incarnation[:], Address: l.cfg.Address,
	})
	if err != nil {
		return nil, fmt.Errorf("encoding a session: %w", err)
	}
	return append(ops, clientv3.OpPut(l.keys.session(name, l.cfg.Relay), string(value), clientv3.WithLease(lease))), nil
}

// entered notes that a session is registered. The copy may know already that it is displaced, or that it is over.
func (l *Location) entered(s *local, epoch int64) {
	l.metrics.registered.Inc()
	name := s.at.Agent()
	l.mu.Lock()
	if l.local[name] != s {
		if l.local[name] == nil {
			l.orphans[name] = epoch
			wake(l.register)
		}
		l.mu.Unlock()
		return
	}
	s.epoch = epoch
	s.at.SetEpoch(epoch)
	l.mark(name) // it may be the best way to the agent now
	displaced, by := l.displaced(name)
	l.mu.Unlock()
	if displaced != nil {
		l.displace(displaced, by)
	}
}

// keepRegistered registers what is not registered, and takes away what is over, until ctx ends.
func (l *Location) keepRegistered(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.register:
		}
		if !l.registerAll(ctx) {
			monotonic.Sleep(ctx, again)
			wake(l.register)
		}
	}
}

// registerAll reports whether all is as it should be.
func (l *Location) registerAll(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	missing, over := l.unsettled()
	var mu sync.Mutex
	good := true
	note := func(err error) {
		if err == nil {
			return
		}
		l.metrics.failed.Inc()
		mu.Lock()
		defer mu.Unlock()
		good = false
	}
	var all sync.WaitGroup
	places := make(chan struct{}, registeredAtOnce)
	for _, s := range missing {
		places <- struct{}{}
		all.Go(func() {
			note(l.enter(ctx, s, late))
			<-places
		})
	}
	for agent, epoch := range over {
		places <- struct{}{}
		all.Go(func() {
			note(l.takeAway(ctx, agent, epoch))
			<-places
		})
	}
	all.Wait()
	return good
}

// unsettled returns the sessions that are to be registered, and the epochs of those that are over.
func (l *Location) unsettled() (missing []*local, over map[string]int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.local {
		if s.epoch == 0 && !s.busy {
			missing = append(missing, s)
		}
	}
	over, l.orphans = l.orphans, map[string]int64{}
	return missing, over
}

// takeAway removes the registration of a session that is over, if no other one has come in its place.
func (l *Location) takeAway(ctx context.Context, agent string, epoch int64) error {
	key := l.keys.session(agent, l.cfg.Relay)
	_, err := l.cfg.Client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", epoch)).Then(clientv3.OpDelete(key)).Commit()
	if err == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, newer := l.orphans[agent]; !newer && l.local[agent] == nil {
		l.orphans[agent] = epoch
	}
	return fmt.Errorf("taking away a session of agent %q: %w", agent, err)
}
