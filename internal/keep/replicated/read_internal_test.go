package replicated

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// A slowKV takes a while for a read, and answers what was true when it began.
type slowKV struct {
	clientv3.KV
	takes, revision, reads atomic.Int64
}

func (s *slowKV) Get(ctx context.Context, _ string, _ ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	s.reads.Add(1)
	revision := s.revision.Load()
	select {
	case <-time.After(time.Duration(s.takes.Load())):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return &clientv3.GetResponse{Header: &etcdserverpb.ResponseHeader{}, Kvs: []*mvccpb.KeyValue{{ModRevision: revision}}}, nil
}

// TestReadsAreShared: all who ask while a read is under way share the next one, and none is answered by one that began before it asked (C9).
func TestReadsAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		etcd := &slowKV{}
		etcd.takes.Store(int64(10 * time.Millisecond))
		etcd.revision.Store(1)
		r := newReader(&clientv3.Client{KV: etcd}, "position")
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go r.run(ctx, time.Hour, &progress{}, func(context.Context) {})
		got := make(chan int64, 100)
		ask := func(n int) {
			for range n {
				go func() {
					revision, err := r.read(ctx)
					if err != nil {
						t.Error(err)
					}
					got <- revision
				}()
			}
			synctest.Wait()
		}
		want := func(n int, revision int64) {
			for range n {
				if r := <-got; r != revision {
					t.Errorf("answered %d, want %d", r, revision)
				}
			}
		}
		ask(1)
		etcd.revision.Store(2) // committed while the first read is under way
		ask(20)
		want(1, 1)
		want(20, 2)
		if n := etcd.reads.Load(); n != 2 {
			t.Errorf("%d reads, want 2", n)
		}
	})
}

// TestMajorityIsHeard: it is known without anybody who asks, and a read that is not answered is an error in time.
func TestMajorityIsHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		etcd := &slowKV{}
		r := newReader(&clientv3.Client{KV: etcd}, "position")
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go r.run(ctx, time.Second, &progress{}, func(context.Context) {})
		time.Sleep(10*time.Second + time.Millisecond)
		synctest.Wait()
		if since := time.Since(*r.heard.Load()); since > time.Second {
			t.Errorf("heard %v ago", since)
		}
		etcd.takes.Store(int64(time.Hour))
		time.Sleep(10 * time.Second)
		if since := time.Since(*r.heard.Load()); since < 9*time.Second {
			t.Errorf("heard %v ago, and nothing was answered for 10s", since)
		}
		asked := time.Now()
		if _, err := r.read(ctx); err == nil || time.Since(asked) > 2*catchUpWithin {
			t.Errorf("a read that is not answered: %v after %v", err, time.Since(asked))
		}
	})
}
