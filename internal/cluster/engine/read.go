package engine

import (
	"context"
	"fmt"
	"os"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/lease"
	"go.etcd.io/etcd/server/v3/storage/backend"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
	"go.uber.org/zap"
)

const (
	// pageKeys is how many keys are read at a time.
	pageKeys = 256
	// openTimeout bounds the wait for a directory that another process has open.
	openTimeout = 5 * time.Second
)

// Read calls each with every key below a prefix that the directory of a member holds which does not run, in their order: as of the last change that it had
// put to use when it ended. Also a member that was removed has them, whose etcd starts no more.
func Read(ctx context.Context, dir, prefix string, each func(key string, value []byte) error) (err error) {
	file := database(dir)
	if _, err := os.Stat(file); err != nil {
		return fmt.Errorf("reading what etcd holds: %w", err)
	}
	defer func() {
		if p := recover(); p != nil { // which is how etcd says that a file cannot be opened, or is damaged
			err = fmt.Errorf("reading what etcd holds in %s: %v", file, p)
		}
	}()
	files := backend.NewDefaultBackend(zap.NewNop(), file, backend.WithTimeout(openTimeout))
	defer files.Close() //nolint:errcheck // It was only read, as the store.
	store := mvcc.NewStore(zap.NewNop(), files, &lease.FakeLessor{}, mvcc.StoreConfig{})
	defer store.Close() //nolint:errcheck // As files.
	next, end := []byte(prefix), []byte(clientv3.GetPrefixRangeEnd(prefix))
	for {
		page, err := store.Range(ctx, next, end, mvcc.RangeOptions{Limit: pageKeys})
		if err != nil {
			return fmt.Errorf("reading what etcd holds: %w", err)
		}
		for _, kv := range page.KVs {
			if err := each(string(kv.Key), kv.Value); err != nil {
				return err
			}
		}
		if len(page.KVs) < pageKeys {
			return nil
		}
		next = append(page.KVs[len(page.KVs)-1].Key, 0)
	}
}

// ReadRunning calls each with every key below a prefix that an etcd holds which runs, in their order and all as of one revision.
func ReadRunning(ctx context.Context, client *clientv3.Client, prefix string, each func(key string, value []byte) error) error {
	next, end, revision := prefix, clientv3.GetPrefixRangeEnd(prefix), int64(0)
	for {
		page, err := client.Get(ctx, next, clientv3.WithRange(end), clientv3.WithLimit(pageKeys), clientv3.WithRev(revision))
		if err != nil {
			return fmt.Errorf("reading what etcd holds: %w", err)
		}
		revision = page.Header.GetRevision()
		for _, kv := range page.Kvs {
			if err := each(string(kv.Key), kv.Value); err != nil {
				return err
			}
			next = string(kv.Key) + "\x00"
		}
		if !page.More {
			return nil
		}
	}
}
