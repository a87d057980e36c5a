package membership

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"

	storagev1 "pushrelay/internal/gen/storage/v1"

	"pushrelay/internal/monotonic"
)

const (
	// lease is how long a member counts as running that is not heard (C6).
	lease = 15 * time.Second
	// keepAlive is how often it is heard.
	keepAlive = lease / 3
	// goodbye bounds how long a member that ends takes to say so.
	goodbye = 2 * time.Second
)

func isOver(err error) bool { return errors.Is(err, ErrOther) || errors.Is(err, ErrRemoved) }

// bePresent has this member's key in etcd until ctx ends.
func (m *Members) bePresent(ctx context.Context) {
	for ctx.Err() == nil {
		own, err := m.appear(ctx)
		if err != nil {
			if ctx.Err() == nil {
				m.cfg.Logger.Warn("this member cannot say that it runs; trying again", slog.Any("err", err))
			}
			monotonic.Sleep(ctx, again)
			continue
		}
		m.appearAs(own)
		gone := m.stay(ctx, own)
		m.appearAs(nil)
		if gone {
			m.cfg.Logger.Warn("the cluster took this member for dead, for want of an answer in time; it comes back")
		}
	}
}

// appear puts the key.
func (m *Members) appear(ctx context.Context) (*Own, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	granted, err := m.cfg.Client.Grant(ctx, int64(lease/time.Second))
	if err != nil {
		return nil, fmt.Errorf("asking for a lease: %w", err)
	}
	own := &Own{Incarnation: m.cfg.Dir.incarnation, Lease: granted.ID}
	value, err := proto.Marshal(&storagev1.ClusterRunning{Incarnation: own.Incarnation[:], Release: m.cfg.Release, Level: m.cfg.Level})
	if err != nil {
		return nil, err
	}
	// A member that was removed meanwhile leaves nothing behind.
	put, err := m.cfg.Client.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(m.keys.member(m.name)), ">", 0)).
		Then(clientv3.OpPut(m.keys.running(m.name), string(value), clientv3.WithLease(granted.ID))).Commit()
	if err == nil && !put.Succeeded {
		err = ErrRemoved
	}
	if err != nil {
		m.release(granted.ID)
		return nil, fmt.Errorf("putting the key of this member: %w", err)
	}
	return own, nil
}

// stay keeps the lease alive until it is gone, or ctx ends. While others may take this member for dead it has no presence.
func (m *Members) stay(ctx context.Context, own *Own) (gone bool) {
	ticks := time.NewTicker(keepAlive)
	defer ticks.Stop()
	heard := time.Now()
	for {
		select {
		case <-ctx.Done():
			m.release(own.Lease)
			return false
		case <-ticks.C:
		}
		asked := time.Now()
		asking, cancel := context.WithTimeout(ctx, keepAlive)
		_, err := m.cfg.Client.KeepAliveOnce(asking, own.Lease)
		cancel()
		switch {
		case errors.Is(err, rpctypes.ErrLeaseNotFound):
			return true
		case err == nil:
			heard = asked
			m.appearAs(own)
		case time.Since(heard) >= lease-keepAlive:
			m.appearAs(nil)
		}
		if err != nil && ctx.Err() == nil {
			m.cfg.Logger.Warn("the cluster does not hear that this member runs; trying again", slog.Any("err", err))
		}
	}
}

// appearAs changes what this member says of itself.
func (m *Members) appearAs(own *Own) {
	if m.presence.Swap(own) != own {
		m.tell()
	}
}

// release gives a lease back, after the end too: whoever waits for this member need not wait for the lease.
func (m *Members) release(id clientv3.LeaseID) {
	ctx, cancel := context.WithTimeout(context.Background(), goodbye) // the caller's may have ended; this one ends here
	defer cancel()
	m.cfg.Client.Revoke(ctx, id) //nolint:errcheck // It ends by itself.
}
