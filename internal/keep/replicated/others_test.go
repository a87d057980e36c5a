package replicated_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"pushrelay/internal/cluster/enginetest"
	"pushrelay/internal/keep/replicated"
)

// TestOthers: a member that hears no majority shows what it has only if no other one can have gone beyond it, and waits for a leader that will come.
func TestOthers(t *testing.T) {
	client := enginetest.New(t, 1).Start(t, "a")["a"].Client()
	var others atomic.Pointer[replicated.Others]
	var quorum atomic.Bool
	quorum.Store(true)
	cfg := replicated.Config{
		Client: client, HasQuorum: quorum.Load, MaxStaleness: time.Minute,
		Others: func(context.Context) replicated.Others { return *others.Load() },
	}
	m := start(t, "a", cfg)
	leaderOf(t, m)
	if err := m.CatchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	has := m.Status().Position
	for _, tt := range []struct {
		name   string
		others replicated.Others
		comes  bool // a leader of the engine does
		want   bool
	}{
		{name: "nobody else runs", others: replicated.Others{}, want: true},
		{name: "others show as much", others: replicated.Others{Position: has}, want: true},
		{name: "others show more", others: replicated.Others{Position: has + 1000}},
		{name: "others may be a majority", others: replicated.Others{MayDecide: true}},
		{name: "enough answer, and a leader comes", others: replicated.Others{MayElect: true, MayDecide: true}, comes: true, want: true},
		{name: "enough answer, and no leader comes", others: replicated.Others{Position: has, MayElect: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			others.Store(&tt.others)
			quorum.Store(false)
			defer quorum.Store(true)
			if tt.comes {
				time.AfterFunc(50*time.Millisecond, func() { quorum.Store(true) })
			}
			if err := m.CatchUp(t.Context()); (err == nil) != tt.want {
				t.Errorf("CatchUp: %v", err)
			}
		})
	}
	t.Run("just started", func(t *testing.T) {
		others.Store(&replicated.Others{MayDecide: true})
		quorum.Store(false)
		defer quorum.Store(true)
		if err := start(t, "new", cfg).CatchUp(t.Context()); err == nil {
			t.Error("a member that has read its copy a moment ago shows it as one that has heard no majority for long")
		}
	})
	t.Run("for too long", func(t *testing.T) {
		cfg.MaxStaleness = time.Nanosecond
		late := start(t, "late", cfg)
		others.Store(&replicated.Others{MayDecide: true})
		if err := late.CatchUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		quorum.Store(false)
		defer quorum.Store(true)
		if err := late.CatchUp(t.Context()); err != nil {
			t.Errorf("CatchUp: %v", err)
		}
	})
}
