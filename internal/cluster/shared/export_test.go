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

// Reread is what a journal does that reads all, with something that happens before it counts what it has read.
func (j *Journal) Reread(ctx context.Context, meanwhile func()) (counted bool, err error) {
	at, records, err := j.readAll(ctx)
	if err != nil {
		return false, err
	}
	meanwhile()
	return j.install(at, records), nil
}
