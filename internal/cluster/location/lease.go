package location

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"pushrelay/internal/monotonic"
)

// lease is the one on which all sessions of this relay's process are.
type lease struct {
	id   clientv3.LeaseID
	lost chan struct{} // closed when etcd knows it no more
}

// grant takes a lease, and has all sessions registered on it.
func (l *Location) grant(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	resp, err := l.cfg.Client.Grant(ctx, int64(l.cfg.TTL/time.Second))
	if err != nil {
		return fmt.Errorf("taking a lease in the cluster's etcd: %w", err)
	}
	l.mu.Lock()
	l.lease = &lease{resp.ID, make(chan struct{})}
	for _, s := range l.local {
		s.epoch = 0
	}
	l.mu.Unlock()
	wake(l.register)
	return nil
}

// lose notes that a lease is none any more.
func (l *Location) lose(old *lease) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lease == old {
		close(old.lost)
		l.lease = nil
	}
}

// keepLease keeps the lease, or takes another one when it is lost, until ctx ends.
func (l *Location) keepLease(ctx context.Context) {
	for ctx.Err() == nil {
		l.mu.RLock()
		held := l.lease
		l.mu.RUnlock()
		if held != nil {
			l.keep(ctx, held)
			continue
		}
		if err := l.grant(ctx); err != nil && ctx.Err() == nil {
			l.cfg.Logger.Warn("sessions of agents are not known to the other relays; trying again", slog.Any("err", err))
			monotonic.Sleep(ctx, again)
		}
	}
}

// keep keeps a lease alive until it is lost, or ctx ends.
func (l *Location) keep(ctx context.Context, held *lease) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	alive, err := l.cfg.Client.KeepAlive(ctx, held.id)
	if err != nil {
		l.lose(held)
		return
	}
	for {
		select {
		case _, ok := <-alive:
			if !ok {
				if ctx.Err() == nil {
					l.lose(held)
				}
				return
			}
		case <-held.lost:
			return
		}
	}
}

// revoke gives the lease up, so that the other relays see at once that no agent is here.
func (l *Location) revoke() {
	l.mu.RLock()
	held := l.lease
	l.mu.RUnlock()
	if held == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), registerWait) // Run's has ended
	defer cancel()
	if _, err := l.cfg.Client.Revoke(ctx, held.id); err != nil {
		l.cfg.Logger.Warn("the other relays will see only when the lease ends that no agent is here", slog.Any("err", err))
	}
}
