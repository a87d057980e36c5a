package replicated_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pushrelay/internal/change"
	"pushrelay/internal/cluster/enginetest"
	"pushrelay/internal/keep/replicated"
)

// TestHandOver: a leader that hands over leads no longer and does not come back by itself, a named one follows it, and no push is in doubt.
func TestHandOver(t *testing.T) {
	engines := enginetest.New(t, 1).Start(t, "a")
	byName := map[string]*member{}
	var members []*member
	for _, name := range enginetest.Names(3) {
		m := start(t, name, replicated.Config{Client: engines["a"].Client()})
		members, byName[name] = append(members, m), m
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var running sync.WaitGroup
	var applied atomic.Int64
	for i := range 4 {
		running.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				for _, m := range members {
					switch o := push(t.Context(), t, m, fmt.Sprint("j", i), n); {
					case o.Kind == change.Applied:
						applied.Add(1)
					case o.Kind != change.NotWritable || o.Decided.Position != 0:
						t.Errorf("a push is answered %v", o)
					}
				}
			}
		})
	}
	for _, to := range []string{"", "a", "", "c", "b"} {
		leader := leaderOf(t, members...)
		if to == leader.name {
			to = ""
		}
		if err := leader.HandOver(t.Context(), to); err != nil {
			t.Fatal(err)
		}
		if leader.Leads() {
			t.Error("a member leads that has handed over")
		}
		began := time.Now()
		next := leaderOf(t, members...)
		t.Logf("%s leads %v after %s has handed over to %q", next.name, time.Since(began), leader.name, to)
		if to != "" && next.name != to {
			t.Errorf("%s leads, and %s was to", next.name, to)
		}
		for _, m := range members {
			if m == next {
				continue
			}
			if err := m.HandOver(t.Context(), ""); !errors.Is(err, replicated.ErrNotLeading) {
				t.Errorf("%s, which does not lead, hands over: %v", m.name, err)
			}
		}
	}
	cancel()
	running.Wait()
	wantEqual(t, members...)
	if applied.Load() < 100 {
		t.Errorf("%d pushes are too few to show anything", applied.Load())
	}
}

// TestHandOverWaits: who has handed over does not take the place again before the others had time to.
func TestHandOverWaits(t *testing.T) {
	engines := enginetest.New(t, 1).Start(t, "a")
	var members []*member
	ways := map[string]*enginetest.FaultyKV{}
	for _, name := range enginetest.Names(2) {
		client, way := enginetest.OverFaulty(engines["a"])
		ways[name] = way
		members = append(members, start(t, name, replicated.Config{Client: client, Silence: 3 * time.Second}))
	}
	first := leaderOf(t, members...)
	for _, m := range members {
		if m != first {
			resume := ways[m.name].Cut()
			time.AfterFunc(500*time.Millisecond, resume)
		}
	}
	if err := first.HandOver(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	if next := leaderOf(t, members...); next == first {
		t.Error("the one leads again that has handed over")
	}
}

// TestHeardOverTheLink: a leader that is not heard in etcd keeps its place for a while if it is heard over the link, and not for ever (C6).
func TestHeardOverTheLink(t *testing.T) {
	const silence = 300 * time.Millisecond
	engines := enginetest.New(t, 1).Start(t, "a")
	var members []*member
	ways := map[string]*enginetest.FaultyKV{}
	for _, name := range enginetest.Names(2) {
		client, way := enginetest.OverFaulty(engines["a"])
		ways[name] = way
		members = append(members, start(t, name, replicated.Config{Client: client, Silence: silence, Heard: time.Now}))
	}
	first := leaderOf(t, members...)
	other := members[0]
	if other == first {
		other = members[1]
	}
	cut := time.Now()
	resume := ways[first.name].Cut()
	defer resume()
	enginetest.Eventually(t, "the other one leads", other.Leads)
	if after := time.Since(cut); after < 2*silence {
		t.Errorf("a leader that is heard over the link is replaced after %v", after)
	}
}
