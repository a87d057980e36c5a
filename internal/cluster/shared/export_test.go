package shared

import (
	"context"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Client is the journal's.
func (j *Journal) Client() *clientv3.Client { return j.cfg.Client }

// Compact writes what is not over anew, as when half of the records are.
func (j *Journal) Compact(ctx context.Context, now time.Time) error { return j.compact(ctx, now) }
