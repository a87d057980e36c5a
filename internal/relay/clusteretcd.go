package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"go.uber.org/zap"

	"pushrelay/internal/cluster/engine"
	"pushrelay/internal/cluster/upkeep"
	"pushrelay/internal/monotonic"
)

// etcdPrefix is what keys begin with in an etcd that runs by itself; empty for that within the relay.
func (o *Options) etcdPrefix() string {
	if len(o.ClusterEtcd.Endpoints) == 0 {
		return ""
	}
	return o.ClusterEtcd.Prefix
}

// dialAgain is after how long an etcd is asked again that does not answer.
const dialAgain = 2 * time.Second

// dial connects to an etcd that runs by itself, and waits for it as long as ctx lives.
func (c *clustered) dial(ctx context.Context, logger *zap.Logger) error {
	cfg := c.server.opts.ClusterEtcd
	cfg.Logger = logger
	for {
		var err error
		if c.client, c.limits, err = engine.Dial(ctx, cfg); err == nil && c.server.opts.ClusterEtcdDedicated {
			c.quota, err = engine.Quota(ctx, c.client, cfg.Endpoints)
		}
		if err == nil {
			return nil
		}
		err = errors.Join(err, c.disconnect())
		if ctx.Err() != nil || !engine.IsAway(err) {
			return fmt.Errorf("--cluster.etcd-endpoints: %w", err)
		}
		c.logger.Warn("the cluster's etcd does not answer; trying again", slog.Any("err", err))
		if !monotonic.Sleep(ctx, dialAgain) {
			return context.Cause(ctx)
		}
	}
}

// disconnect ends the member's etcd, or the connection to one that runs by itself.
func (c *clustered) disconnect() error {
	if c.engine != nil {
		return c.engine.Close()
	}
	if c.client == nil {
		return nil
	}
	client := c.client
	c.client = nil
	if err := client.Close(); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("ending the connection to etcd: %w", err)
	}
	return nil
}

// newUpkeep returns what looks after etcd; nil for one that others look after.
func (c *clustered) newUpkeep() *upkeep.Upkeep {
	cfg := upkeep.Config{
		Client: c.client, Name: c.dir.Member().Name, Quota: c.quota, Turn: c.dir.Prefix() + turnKey, Leads: c.leads, Revisions: c.revisions, HandOver: c.handOver,
		Registerer: c.server.telemetry, Logger: c.logger,
	}
	switch {
	case c.engine != nil:
		cfg.Defragment = c.engine.Defragment
	case c.server.opts.ClusterEtcdDedicated:
		cfg.Endpoints = c.server.opts.ClusterEtcd.Endpoints
	default:
		return nil
	}
	return upkeep.New(cfg)
}

// full returns why etcd can keep nothing more; nil if nobody here knows.
func (c *clustered) full() func() string {
	if c.upkeep == nil {
		return nil
	}
	return c.upkeep.Full
}

// hasQuorum says at once whether there is a majority; nil if only reading tells.
func (c *clustered) hasQuorum() func() bool {
	if c.engine == nil {
		return nil
	}
	return c.engine.HasLeader
}

// besideValue is what there is room for in a request beside a value.
const besideValue = 64 << 10

// maxValueBytes bounds one value, by what etcd takes; 0 for what is usual.
func (c *clustered) maxValueBytes() int {
	if c.limits.RequestBytes == 0 {
		return 0
	}
	return min(c.limits.RequestBytes-besideValue, usualValue)
}

// usualValue is the bound where etcd takes more.
const usualValue = 8 << 20
