package replicated

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"

	storagev1 "pushrelay/internal/gen/storage/v1"

	"pushrelay/internal/monotonic"
)

// again is how long it takes until something is tried again that failed.
const again = 100 * time.Millisecond

// askedAgain is how long etcd may take for a request until it is asked for it again, and each time twice as long, up to longestAsk. A majority that is there takes much
// less. What was on its way to a leader of etcd that has died is lost without a word; and a disk that is slow is not to be given much more to do.
const (
	askedAgain = 400 * time.Millisecond
	longestAsk = 5 * time.Second
)

// readTimeout is how long all that etcd holds may take to be read.
const readTimeout = 5 * time.Minute

// Run follows the leader, or leads, until ctx ends. Then it hands over, once all is committed that was decided.
func (k *Keep) Run(ctx context.Context) error {
	reading, stop := context.WithCancel(ctx)
	var reads sync.WaitGroup
	defer reads.Wait()
	defer stop()
	reads.Go(func() { k.reader.run(reading, k.cfg.Silence/3, &k.progress, k.missed) })
	for ctx.Err() == nil {
		leads, err := k.follow(ctx)
		if leads {
			err = k.lead(ctx)
		}
		if ctx.Err() != nil {
			return nil
		}
		if isFinal(err) {
			return fmt.Errorf("following the cluster's store: %w", err)
		}
		if err != nil {
			k.cfg.Logger.Warn("the copy of the cluster's store falls behind; trying again", slog.Any("err", err))
		}
		if err := k.restart(ctx, err); err != nil {
			return fmt.Errorf("reading the cluster's store: %w", err)
		}
	}
	return nil
}

// restart makes the copy what etcd holds again, if it cannot go on from where it is.
func (k *Keep) restart(ctx context.Context, err error) error {
	for ctx.Err() == nil && k.mustLoad(err) {
		k.metrics.rebuilds.Inc()
		if err = k.copy.load(ctx); err == nil {
			k.tellLeader()
			return nil
		}
		if isFinal(err) {
			return err
		}
		k.cfg.Logger.Warn("the cluster's store cannot be read; trying again", slog.Any("err", err))
		monotonic.Sleep(ctx, again)
	}
	monotonic.Sleep(ctx, again)
	return nil
}

// isFinal says whether what etcd holds is not understood here, or not what was written. That will not be otherwise the next time, and who does not understand
// everything must neither show nor decide anything (C20).
func isFinal(err error) bool {
	return errors.Is(err, errValue) || errors.Is(err, errKey) || errors.Is(err, errSeal)
}

// mustLoad says whether the copy is not what etcd had at its revision, or that is gone.
func (k *Keep) mustLoad(err error) bool {
	return errors.Is(err, errDeposed) || err != nil && !errors.Is(err, errEnded)
}

// follow installs what the leader writes until ctx ends, or until this member leads and has all that was written before.
func (k *Keep) follow(ctx context.Context) (leads bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the watch
	told := k.copy.watch(ctx)
	impatience := time.NewTimer(k.patience())
	defer impatience.Stop()
	claimed := int64(0)
	for {
		select {
		case resp, ok := <-told:
			if !ok {
				return false, errEnded
			}
			if err := resp.Err(); err != nil {
				return false, watchError(err)
			}
			before := k.copy.leader.Term
			if err := k.copy.take(resp.Events); err != nil {
				return false, err
			}
			k.tellLeader()
			if now := k.copy.leader; now.Term != before && now.Name == k.cfg.Name {
				claimed = now.Term // also if the answer to a claim was lost, and if another member has handed over to this one
			}
			if claimed != 0 && k.copy.revision >= claimed {
				if k.copy.leader.Term == claimed {
					return true, nil
				}
				claimed = 0
			}
			if k.isVacant() {
				impatience.Reset(0)
			}
		case <-impatience.C:
			if claimed == 0 && k.isSilent() {
				claimed = k.claim(ctx)
			}
			impatience.Reset(k.patience())
		case <-ctx.Done():
			return false, nil
		}
	}
}

// watchError tells a watch that can be begun again from one whose revisions are gone.
func watchError(err error) error {
	if errors.Is(err, rpctypes.ErrCompacted) {
		return err
	}
	return errors.Join(errEnded, err)
}

// patience is how long the leader may be silent, and a little more, so that not all claim its place at once.
func (k *Keep) patience() time.Duration {
	left := k.cfg.Silence - time.Since(k.copy.heard)
	return max(left, 0) + time.Duration(rand.Int64N(int64(k.cfg.Silence)/8+1))
}

// isVacant says whether a leader has handed over to whoever comes first. One that did it itself lets others come first.
func (k *Keep) isVacant() bool {
	return k.copy.leader.Name == "" && k.copy.leader.Term != k.yielded
}

// linkCounts is how many times longer the leader may be silent in etcd while it is heard over the link. It may not be for ever: one that is cut off from
// etcd alone decides nothing.
const linkCounts = 4

// isSilent says whether the leader is heard neither in etcd nor over the link (C6).
func (k *Keep) isSilent() bool {
	quiet := time.Since(k.copy.heard)
	switch {
	case k.isVacant():
		return true
	case quiet < k.cfg.Silence:
		return false
	case k.cfg.Heard == nil || quiet >= linkCounts*k.cfg.Silence:
		return true
	default:
		return time.Since(k.cfg.Heard()) >= k.cfg.Silence
	}
}

// claim takes the place of the leader that the copy knows of, if it is still that one, and has written nothing that the copy does not have: one that is slow
// to hear does not replace one that is not silent. It returns the revision at which that happened, 0 if it did not.
func (k *Keep) claim(ctx context.Context) int64 {
	ctx, cancel := context.WithTimeout(ctx, askedAgain)
	defer cancel()
	value, err := proto.Marshal(&storagev1.ClusterLeader{Name: k.cfg.Name})
	if err != nil {
		return 0
	}
	key := k.keys.leader()
	resp, err := k.cfg.Client.Txn(ctx).If(
		clientv3.Compare(clientv3.ModRevision(key), "=", k.copy.leader.Term),
		clientv3.Compare(clientv3.ModRevision(k.keys.position()), "=", k.copy.position),
	).Then(clientv3.OpPut(key, string(value))).Commit()
	if err != nil || !resp.Succeeded {
		return 0 // what came of it the watch will tell
	}
	return resp.Header.GetRevision()
}
