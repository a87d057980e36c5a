package replicated

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// TestLastOneLeft: a member without a majority shows what it has if nobody else can decide, unless somebody may have decided something since it last heard of one (C9).
func TestLastOneLeft(t *testing.T) {
	nobody, majority := &Others{}, &Others{MayDecide: true}
	type phase struct {
		others *Others // nil for that a majority answers
		lasts  time.Duration
	}
	for _, tt := range []struct {
		name   string
		phases []phase
		lacks  bool // the copy has less than a majority has told
		asleep bool // nothing runs here in the last phase but its end
		want   error
	}{
		{name: "the others die", phases: []phase{{nobody, 10 * time.Millisecond}}},
		{name: "the others have been dead for long", phases: []phase{{nobody, 30 * time.Second}}},
		{name: "they answer, and can decide nothing", phases: []phase{{&Others{MayElect: true}, 4 * time.Second}, {nobody, time.Second}}},
		{name: "cut off until they die", phases: []phase{{majority, 8 * time.Second}, {nobody, time.Second}}, want: errWasCutOff},
		{name: "cut off, and back before they die", phases: []phase{{majority, 8 * time.Second}, {nil, time.Second}, {nobody, time.Second}}},
		{name: "they come back without it, and die", phases: []phase{{nobody, 8 * time.Second}, {majority, 8 * time.Second}, {nobody, time.Second}}, want: errWasCutOff},
		{name: "it stands still until they die", phases: []phase{{nobody, 10 * time.Second}}, asleep: true, want: errWasCutOff},
		{name: "its copy lacks what it was told of", phases: []phase{{nobody, time.Second}}, lacks: true, want: errBehind},
		{name: "for too long", phases: []phase{{majority, 8 * time.Second}, {nobody, time.Minute}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				etcd := &slowKV{}
				etcd.revision.Store(7)
				var others atomic.Pointer[Others]
				k := &Keep{cfg: Config{
					Client: &clientv3.Client{KV: etcd}, Silence: silence, MaxStaleness: time.Minute,
					Others: func(context.Context) Others { return *others.Load() },
				}}
				k.reader = newReader(k.cfg.Client, "position")
				if !tt.lacks {
					k.progress.reach(7, 3)
				}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				reading, stop := context.WithCancel(ctx)
				go k.reader.run(reading, silence/3, &k.progress, k.missed)
				time.Sleep(time.Second)
				for _, p := range tt.phases {
					etcd.takes.Store(0)
					if p.others != nil {
						others.Store(p.others)
						etcd.takes.Store(int64(time.Hour))
					}
					if tt.asleep {
						stop()
					}
					time.Sleep(p.lasts)
				}
				stop()
				synctest.Wait()
				go k.reader.run(ctx, time.Hour, &k.progress, k.missed)
				if err := k.CatchUp(ctx); !errors.Is(err, tt.want) {
					t.Errorf("CatchUp: %v, want %v", err, tt.want)
				}
			})
		})
	}
}
