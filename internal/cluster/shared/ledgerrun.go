package shared

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"pushrelay/internal/monotonic"
)

// readTimeout is how long all that etcd holds of the ledger may take to be read.
const readTimeout = time.Minute

// Run has the state count what others write, until ctx ends. An error says that etcd holds what is not understood: the relay must not go on (C20).
func (j *Journal) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var compacting sync.WaitGroup
	defer compacting.Wait()
	defer cancel()
	compacting.Go(func() { j.compactWhenDue(ctx) })
	behind := false
	for ctx.Err() == nil {
		err := j.follow(ctx, &behind)
		if errors.Is(err, errMisread) {
			return fmt.Errorf("reading the cluster's ledger: %w", err)
		}
		if !behind && ctx.Err() == nil {
			j.cfg.Logger.Warn("the copy of the cluster's ledger falls behind; trying again", slog.Any("err", err))
		}
		behind = true
		monotonic.Sleep(ctx, again)
	}
	return nil
}

var (
	errEnded   = errors.New("the watch has ended")
	errUnheard = errors.New("no majority of the cluster answers")
)

// follow catches up, and then takes in what the watch tells.
func (j *Journal) follow(ctx context.Context, behind *bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the watch
	reading, read := context.WithTimeout(ctx, readTimeout)
	err := j.catchUp(reading)
	read()
	if err != nil {
		return err
	}
	if *behind {
		j.cfg.Logger.Info("the copy of the cluster's ledger has caught up")
		*behind = false
	}
	told := j.cfg.Client.Watch(clientv3.WithRequireLeader(ctx), j.keys.prefix, clientv3.WithRange(j.keys.parts()), clientv3.WithRev(j.place().revision+1), clientv3.WithFragment())
	for {
		select {
		case <-j.news:
			j.cfg.Revoked()
		case resp, ok := <-told:
			if !ok {
				return errEnded
			}
			if err := resp.Err(); err != nil {
				return err
			}
			if err := j.takeEvents(ctx, resp.Events); err != nil {
				return err
			}
		case <-j.unheard:
			return errUnheard
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// takeEvents takes in what the watch has told. Keys are deleted only when they have no meaning any more.
func (j *Journal) takeEvents(ctx context.Context, events []*clientv3.Event) error {
	for _, e := range events {
		switch {
		case e.Type != clientv3.EventTypePut:
		case string(e.Kv.Key) != j.keys.mark():
			if err := j.take([]*mvccpb.KeyValue{e.Kv}); err != nil {
				return err
			}
		case e.Kv.ModRevision > j.place().mark:
			reading, read := context.WithTimeout(ctx, readTimeout)
			err := j.load(reading)
			read()
			if err != nil {
				return err
			}
		}
	}
	return nil
}
