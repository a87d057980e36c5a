package engine_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"pushrelay/internal/change"
	"pushrelay/internal/cluster/engine"
	"pushrelay/internal/cluster/enginetest"
	"pushrelay/internal/exposition"
	"pushrelay/internal/grouping"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/keep/replicated"
)

// push pushes a value to whichever of the members leads.
func push(t *testing.T, members map[string]*replicated.Keep, value int) change.Kind {
	t.Helper()
	key, err := grouping.New(grouping.Label{Name: "job", Value: "j"})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range members {
		if !m.Leads() {
			continue
		}
		body, err := new(exposition.Parser).ParseText(fmt.Appendf(nil, "m %d\n", value), exposition.Options{})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		o, _ := m.Store().Apply(ctx, &change.Change{Operation: change.Replace, Key: key, At: time.Now()}, groupstore.Content{Body: body})
		return o.Kind
	}
	return change.NotWritable
}

// leadEngine makes a member lead the engine.
func leadEngine(t *testing.T, engines map[string]*engine.Engine, name string) {
	t.Helper()
	own, err := engines[name].Client().Status(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range engines {
		if e.Leads() && e != engines[name] {
			if _, err := e.Client().MoveLeader(t.Context(), own.Header.GetMemberId()); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestLeaderIsKilled: a member dies that leads the relays, and the engine as well. Another one takes pushes before long (C6).
func TestLeaderIsKilled(t *testing.T) {
	c := enginetest.New(t, 3)
	engines := c.Start(t, enginetest.Names(3)...)
	members, stops := map[string]*replicated.Keep{}, map[string]func(){}
	run := func(name string) {
		k := replicated.New(replicated.Config{Client: engines[name].Client(), HasQuorum: engines[name].HasLeader, Name: name, Prefix: "/test/", Logger: slog.New(slog.DiscardHandler)})
		if err := k.Recover(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		var running sync.WaitGroup
		running.Go(func() { k.Run(ctx) })
		members[name], stops[name] = k, func() { cancel(); running.Wait() }
	}
	for name := range engines {
		run(name)
	}
	pushed := 0
	untilTaken := func() {
		for end := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			pushed++
			if push(t, members, pushed) == change.Applied {
				return
			}
			if time.Now().After(end) {
				t.Fatal("no push is taken any more")
			}
		}
	}
	for range 2 {
		untilTaken()
		for name, m := range members {
			if !m.Leads() {
				continue
			}
			// Where it leads the relays it is to lead the engine as well: that is the worst.
			leadEngine(t, engines, name)
			untilTaken()
			killed := time.Now()
			engines[name].Kill()
			delete(members, name)
			untilTaken()
			t.Logf("a push is taken %v after the leader was killed", time.Since(killed))
			stops[name]()
			engines[name].Close()
			engines[name] = c.Start(t, name)[name]
			run(name)
			break
		}
	}
	for _, stop := range stops {
		stop()
	}
}
