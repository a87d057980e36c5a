package shared

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"pushrelay/internal/monotonic"
)

// Recover puts to use what is set. It needs a majority of the cluster's members, and waits for that as long as ctx lives.
func (s *Settings) Recover(ctx context.Context) error {
	for {
		err := s.load(ctx)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil, errors.Is(err, errMisread):
			return fmt.Errorf("reading the cluster's settings: %w", err)
		}
		s.cfg.Logger.Warn("the cluster's settings cannot be read; trying again", slog.Any("err", err))
		monotonic.Sleep(ctx, again)
	}
}

// load puts to use what etcd holds.
func (s *Settings) load(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	resp, err := s.cfg.Client.Get(ctx, s.cfg.Prefix, clientv3.WithPrefix())
	if err != nil {
		return err
	}
	for _, kv := range resp.Kvs {
		if err := s.take(kv); err != nil {
			return err
		}
	}
	s.revision = resp.Header.GetRevision()
	return nil
}

// take puts a setting to use, unless that was done. One of a later release, which has more files, is left alone.
func (s *Settings) take(kv *mvccpb.KeyValue) error {
	k := Kind(strings.TrimPrefix(string(kv.Key), s.cfg.Prefix))
	s.mu.Lock()
	f := s.files[k]
	isNew := f != nil && f.current.Revision < kv.ModRevision
	s.mu.Unlock()
	if !isNew {
		return nil
	}
	next, err := settingOf(kv)
	if err != nil {
		return err
	}
	refused := s.cfg.Apply(k, next)
	if refused != nil {
		s.cfg.Logger.Error("the file of the leader, by which all relays go, cannot be put to use here, and the earlier one stays",
			slog.String("file", string(k)), slog.String("leader", next.By), slog.Any("err", refused))
	}
	s.mu.Lock()
	f.current, f.refused = next, refused
	close(s.changed)
	s.changed = make(chan struct{})
	s.mu.Unlock()
	s.tell(k)
	return nil
}

// Run puts to use what the leader sets, until ctx ends. An error says that etcd holds what is not understood: the relay must not go on (C20).
func (s *Settings) Run(ctx context.Context) error {
	behind := false
	for ctx.Err() == nil {
		err := s.follow(ctx, &behind)
		if errors.Is(err, errMisread) {
			return fmt.Errorf("reading the cluster's settings: %w", err)
		}
		if !behind && ctx.Err() == nil {
			s.cfg.Logger.Warn("the cluster's settings are not heard; trying again", slog.Any("err", err))
		}
		behind = true
		monotonic.Sleep(ctx, again)
	}
	return nil
}

func (s *Settings) follow(ctx context.Context, behind *bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the watch
	if err := s.load(ctx); err != nil {
		return err
	}
	if *behind {
		s.cfg.Logger.Info("the cluster's settings are heard again")
		*behind = false
	}
	for resp := range s.cfg.Client.Watch(clientv3.WithRequireLeader(ctx), s.cfg.Prefix, clientv3.WithPrefix(), clientv3.WithRev(s.revision+1), clientv3.WithFragment()) {
		if err := resp.Err(); err != nil {
			return err
		}
		for _, e := range resp.Events {
			if e.Type != clientv3.EventTypePut {
				continue // nobody takes a setting away
			}
			if err := s.take(e.Kv); err != nil {
				return err
			}
		}
	}
	return errEnded
}

// register registers the metrics.
func (s *Settings) register() {
	for _, k := range Kinds() {
		labels := prometheus.Labels{"file": string(k)}
		promauto.With(s.cfg.Registerer).NewGaugeFunc(prometheus.GaugeOpts{
			Name: "relay_cluster_settings_differ", ConstLabels: labels,
			Help: "Whether the relay's own file says something else than that of the cluster's leader, by which all relays go.",
		}, s.gauge(func() bool { return s.files[k].differs() }))
		promauto.With(s.cfg.Registerer).NewGaugeFunc(prometheus.GaugeOpts{
			Name: "relay_cluster_settings_refused", ConstLabels: labels,
			Help: "Whether the file of the cluster's leader, by which all relays go, cannot be put to use by this relay, which goes by an earlier one.",
		}, s.gauge(func() bool { return s.files[k].refused != nil }))
	}
}

// gauge returns 1 for what is so, asked with mu held.
func (s *Settings) gauge(isSo func() bool) func() float64 {
	return func() float64 {
		s.mu.Lock()
		defer s.mu.Unlock()
		if isSo() {
			return 1
		}
		return 0
	}
}
