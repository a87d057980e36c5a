package replicated

import (
	"context"
	"log/slog"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"

	storagev1 "pushrelay/internal/gen/storage/v1"
	"pushrelay/internal/groupstore"
)

// lead decides until ctx ends, or until another member does. The copy has all that was written before.
func (k *Keep) lead(ctx context.Context) error {
	feed := k.store.FollowOn(k.copy.unfinished())
	defer feed.Close()
	clear(k.copy.pending)
	t := newTerm(k.store.Committed())
	w := writer{keys: k.keys, client: k.cfg.Client, store: k.store, term: t, copy: &k.copy, limits: k.cfg.Limits, sealed: k.cfg.Sealed, metrics: k.metrics}
	k.cfg.Logger.Info("this relay leads the cluster", slog.Int64("term", k.copy.leader.Term), slog.Uint64("position", k.store.Position()))
	k.term.Store(t)
	k.tellChanged()
	defer func() {
		k.term.Store(nil)
		t.end()
		close(t.over)
		k.tellChanged()
	}()
	// What is under way when ctx ends is brought to its end: nobody else could find out what came of it.
	ctx, write, stop := outlive(ctx)
	defer stop()
	beat := time.NewTicker(k.cfg.Silence / 3)
	defer beat.Stop()
	for {
		select {
		case <-k.appended:
		case <-beat.C:
		case <-ctx.Done():
			return k.handOver(write, &w, feed, "")
		case h := <-t.handing:
			err := k.handOver(write, &w, feed, h.to)
			h.done <- err
			return err
		}
		if err := w.write(write, feed.Take()); err != nil {
			k.cfg.Logger.Warn("this relay leads the cluster no longer", slog.Any("err", err))
			return err
		}
	}
}

// handOverGrace bounds how long the last changes may take.
const handOverGrace = 5 * time.Second

// outlive returns a context that lives a little longer than ctx.
func outlive(ctx context.Context) (short, long context.Context, stop func()) {
	long, cancel := context.WithCancel(context.WithoutCancel(ctx))
	timer := time.AfterFunc(1<<62, cancel)
	undo := context.AfterFunc(ctx, func() { timer.Reset(handOverGrace) })
	return ctx, long, func() { undo(); timer.Stop(); cancel() }
}

// handOver commits what was decided, and lets another member lead at once: that of the name, or for an empty one any.
func (k *Keep) handOver(ctx context.Context, w *writer, feed *groupstore.Feed, to string) error {
	w.term.shutDown()
	if err := w.write(ctx, feed.Take()); err != nil {
		return err
	}
	value, err := proto.Marshal(&storagev1.ClusterLeader{Name: to})
	if err != nil {
		return err
	}
	key := k.keys.leader()
	resp, err := k.cfg.Client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", k.copy.leader.Term)).Then(clientv3.OpPut(key, string(value))).Commit()
	if err != nil {
		return err
	}
	k.yielded, k.copy.heard = resp.Header.GetRevision(), time.Now()
	return nil
}

// A handing is that somebody wants this member to lead no longer.
type handing struct {
	to   string
	done chan error // takes what came of it; one slot
}

// HandOver lets another member lead, once all that was decided is committed: that of the name, or for an empty one whichever comes first. It returns when this one
// leads no longer; if it does not lead, that is [ErrNotLeading].
func (k *Keep) HandOver(ctx context.Context, to string) error {
	t := k.term.Load()
	if t == nil {
		return ErrNotLeading
	}
	h := handing{to, make(chan error, 1)}
	select {
	case t.handing <- h:
	case <-t.over:
		return ErrNotLeading
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case err := <-h.done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
