package enginetest

import (
	"context"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// A HeldWatcher tells late what etcd does: nothing is left out.
type HeldWatcher struct {
	clientv3.Watcher
	// Pass returns when the next that was told may be heard; an error ends the watch. It must heed ctx, which is the watch's. Required.
	Pass func(ctx context.Context) error
}

// Watch is for [clientv3.Watcher].
func (w *HeldWatcher) Watch(ctx context.Context, key string, opts ...clientv3.OpOption) clientv3.WatchChan {
	told, passed := w.Watcher.Watch(ctx, key, opts...), make(chan clientv3.WatchResponse)
	go func() { // ends with ctx, or the watch
		defer close(passed)
		for resp := range told {
			if w.Pass(ctx) != nil {
				return
			}
			select {
			case passed <- resp:
			case <-ctx.Done():
				return
			}
		}
	}()
	return passed
}
