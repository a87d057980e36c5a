package replicated

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"

	"google.golang.org/protobuf/proto"

	storagev1 "pushrelay/internal/gen/storage/v1"
	"pushrelay/internal/groupstore"
)

// ErrUnfinished is what is said of a store whose last outcome was not written to its end.
var ErrUnfinished = errors.New("the leader was cut off in the midst of what it wrote last: start the member once more, so that it hears the rest")

// Stopped fills a store with what the cluster's etcd held on a member that does not run, or holds at one revision. Read calls each with every key below a
// prefix. After [ErrUnfinished] nothing is in the store.
func Stopped(ctx context.Context, prefix string, read func(ctx context.Context, prefix string, each func(key string, value []byte) error) error, store *groupstore.Store) error {
	keys, pos, records := keys{prefix}, &storagev1.ClusterPosition{}, map[groupstore.RecordID][]byte{}
	err := read(ctx, prefix, func(key string, value []byte) error {
		switch {
		case key == keys.position():
			if err := proto.Unmarshal(value, pos); err != nil {
				return fmt.Errorf("%w: %w", errValue, err)
			}
		case strings.HasPrefix(key, keys.records()):
			id, record, err := keys.read(key, value)
			if err != nil {
				return err
			}
			records[id] = record
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case pos.GetMore():
		return ErrUnfinished
	}
	return store.StartFrom(pos.GetPosition(), maps.All(records))
}
