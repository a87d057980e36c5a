package engine

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
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
	file := filepath.Join(dir, "member", "snap", "db")
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
