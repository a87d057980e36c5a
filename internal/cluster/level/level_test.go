package level_test

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"pushrelay/internal/cluster/enginetest"
	"pushrelay/internal/cluster/level"
)

// start runs the level of a release that understands so much, on a relay that leads or not.
func start(t *testing.T, client *clientv3.Client, own uint32, leads bool, understood *atomic.Uint32) (l *level.Level, ended chan error) {
	t.Helper()
	l = level.New(level.Config{
		Client: client, Key: "/level", Own: own, Leads: func() bool { return leads }, Understood: understood.Load, Every: 5 * time.Millisecond,
		Logger: slog.New(slog.DiscardHandler),
	})
	ctx, cancel := context.WithCancel(context.Background())
	ended = make(chan error, 1)
	done := make(chan struct{})
	go func() { ended <- l.Run(ctx); close(done) }()
	t.Cleanup(func() { cancel(); <-done })
	return l, ended
}

// TestLevel: it is raised by who leads when all understand it, never lowered, and stops who does not understand it (C20).
func TestLevel(t *testing.T) {
	client := enginetest.New(t, 1).Start(t, "a")["a"].Client()
	var understood atomic.Uint32
	leader, _ := start(t, client, 3, true, &understood)
	follower, _ := start(t, client, 3, false, &understood)
	old, stopped := start(t, client, 2, false, &understood)
	understood.Store(2)
	for _, l := range []*level.Level{leader, follower, old} {
		enginetest.Eventually(t, "all are at level 2", func() bool { return l.Present() == 2 })
	}
	understood.Store(1)
	time.Sleep(50 * time.Millisecond)
	late := level.New(level.Config{Client: client, Key: "/level", Own: 3})
	if err := late.Check(t.Context()); err != nil || leader.Present() != 2 || follower.Present() != 2 || late.Present() != 2 {
		t.Errorf("the level fell to %d, and one that comes late finds %d, %v", leader.Present(), late.Present(), err)
	}
	understood.Store(9) // more than the leader itself
	enginetest.Eventually(t, "the level is 3", func() bool { return follower.Present() == 3 })
	enginetest.Eventually(t, "a relay that does not understand the level stops", func() bool { return len(stopped) > 0 })
	if err := <-stopped; !errors.Is(err, level.ErrLater) || old.Present() != 2 {
		t.Errorf("a relay that does not understand the level goes on: %v, at %d", err, old.Present())
	}
	if err := old.Check(t.Context()); !errors.Is(err, level.ErrLater) {
		t.Errorf("a relay that does not understand the level starts: %v", err)
	}
}
