// Package level keeps the feature level of relays that are one service: what all of them understand may be written (C20).
//
// It promises that the level never falls, and that a relay which does not understand it stops. Start reading at [Level.Run].
package level

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"

	storagev1 "pushrelay/internal/gen/storage/v1"
)

// Config says where the level is, and who raises it.
type Config struct {
	// Client is of the cluster's etcd. Required.
	Client *clientv3.Client
	// Key is where the level is. Required.
	Key string
	// Own is the highest level that this release understands.
	Own uint32
	// Leads says whether this relay leads, and must not block. Required.
	Leads func() bool
	// Understood returns the highest level that all members understand, also those that do not run; 0 if that is not known. Required.
	Understood func() uint32
	// Every is how often it is looked whether the level can be raised; 0 means 10 s.
	Every time.Duration
	// Logger is required.
	Logger *slog.Logger
}

// ErrLater means that what the cluster holds is for a later release.
var ErrLater = errors.New("the cluster is used by a later release")

// Level is the feature level as one relay knows it. It is made by [New].
type Level struct {
	cfg     Config        // static
	present atomic.Uint32 // only rises
}

const (
	every          = 10 * time.Second
	requestTimeout = 5 * time.Second
)

// New returns a level that is not known yet: 0.
func New(cfg Config) *Level {
	if cfg.Every == 0 {
		cfg.Every = every
	}
	return &Level{cfg: cfg}
}

// Present returns the level. What it allows may be written.
func (l *Level) Present() uint32 { return l.present.Load() }

// Check reads the level. An error is final if it says what release is needed; it is to be asked before anything else that etcd holds is read.
func (l *Level) Check(ctx context.Context) error {
	_, err := l.read(ctx)
	return err
}

// read returns the revision of the key as well; 0 for none.
func (l *Level) read(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	resp, err := l.cfg.Client.Get(ctx, l.cfg.Key)
	if err != nil {
		return 0, fmt.Errorf("reading the cluster's feature level: %w", err)
	}
	if len(resp.Kvs) == 0 {
		return 0, nil
	}
	m := &storagev1.ClusterLevel{}
	if err := proto.Unmarshal(resp.Kvs[0].Value, m); err != nil {
		return 0, fmt.Errorf("reading the cluster's feature level: %w", err)
	}
	if m.GetLevel() > l.cfg.Own {
		return 0, fmt.Errorf("%w: it is at level %d, and this release understands %d: install the release that the other relays have", ErrLater, m.GetLevel(), l.cfg.Own)
	}
	l.raise(m.GetLevel())
	return resp.Kvs[0].ModRevision, nil
}

// raise takes note of a level, which may be an older one by now.
func (l *Level) raise(to uint32) {
	for {
		present := l.present.Load()
		if present >= to || l.present.CompareAndSwap(present, to) {
			return
		}
	}
}

// Run reads the level now and then, and raises it if this relay leads and all members understand more. It returns when ctx ends, or with [ErrLater].
func (l *Level) Run(ctx context.Context) error {
	tick := time.NewTicker(l.cfg.Every)
	defer tick.Stop()
	for {
		if err := l.look(ctx); err != nil && ctx.Err() == nil {
			if errors.Is(err, ErrLater) {
				return err
			}
			l.cfg.Logger.Warn("the cluster's feature level is not known; trying again", slog.Any("err", err))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (l *Level) look(ctx context.Context) error {
	revision, err := l.read(ctx)
	if err != nil || !l.cfg.Leads() {
		return err
	}
	next := min(l.cfg.Understood(), l.cfg.Own)
	if next <= l.Present() {
		return nil
	}
	value, err := proto.Marshal(&storagev1.ClusterLevel{Level: next})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	resp, err := l.cfg.Client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(l.cfg.Key), "=", revision)).Then(clientv3.OpPut(l.cfg.Key, string(value))).Commit()
	if err != nil {
		return fmt.Errorf("raising the cluster's feature level: %w", err)
	}
	if resp.Succeeded {
		l.raise(next)
		l.cfg.Logger.Info("the cluster's feature level is raised: all members understand it", slog.Uint64("level", uint64(next)))
	}
	return nil
}
