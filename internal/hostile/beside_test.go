//go:build linux

package hostile_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// bounds are what an attack may cost.
type bounds struct {
	// memory is how much the resident memory may grow, and logged the log, in bytes.
	memory, logged int64
	// slower is how many times as long an honest one may wait as at another relay at the same time, in the middle. What is below never is
	// not too long.
	slower float64
	never  time.Duration
}

// usual bounds most attacks. Who has to wait for the attack to end waits for 5 s; on a loaded machine handshakes alone are half a second.
var usual = bounds{memory: 96 << 20, logged: 64 << 10, slower: 12, never: 2 * time.Second}

const (
	goroutinesLeft  = 40 // that an attack may leave behind for a while
	descriptorsLeft = 20
	probes          = 12
)

// honest are an agent and a client that push, and a scraper.
type honest struct {
	r        *relay
	agent    *agent
	sequence uint64
}

func (r *relay) honest() *honest {
	a := r.issue("honest").attached()
	go a.serve(nil)
	return &honest{r: r, agent: a}
}

// waits are how long each of the honest waited, probe after probe.
type waits map[string][]time.Duration

// probe lets each of the honest do its work once.
func (h *honest) probe(t *testing.T, w waits) {
	t.Helper()
	measure := func(who string, f func() string) {
		begun := time.Now()
		if fault := f(); fault != "" {
			t.Errorf("the honest %s: %s", who, fault)
		}
		w[who] = append(w[who], time.Since(begun))
	}
	measure("agent", func() string {
		h.sequence++
		body := fmt.Sprintf("honest_agent %d\n", h.sequence)
		v, err := h.agent.push(change(h.sequence, body), body)
		if err != nil || v.GetApplied() == nil {
			return fmt.Sprint(v, err)
		}
		return ""
	})
	measure("client", func() string {
		return h.r.want(t.Context(), http.MethodPut, "/metrics/job/honest", "honest_client 1\n")
	})
	measure("scraper", func() string { return h.r.want(t.Context(), http.MethodGet, "/metrics", "") })
}

// middle returns the wait in the middle of all.
func (w waits) middle(who string) time.Duration {
	slices.Sort(w[who])
	return w[who][len(w[who])/2]
}

// compare lets the honest of both relays do their work in turn, so that whatever else the machine does meets both.
func compare(t *testing.T, one, other *honest) (ofOne, ofOther waits) {
	t.Helper()
	ofOne, ofOther = waits{}, waits{}
	for range probes {
		one.probe(t, ofOne)
		other.probe(t, ofOther)
		<-time.After(20 * time.Millisecond)
	}
	return ofOne, ofOther
}

// want makes a request that must succeed, and returns what is wrong.
func (r *relay) want(ctx context.Context, method, path, body string) string {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if status, text := r.do(ctx, method, path, body); status != http.StatusOK {
		return fmt.Sprintf("%s %s is answered %d: %.200s", method, path, status, text)
	}
	return ""
}

// beside attacks while the honest go on, and checks what that costs. The attack goes on until its context ends, or returns before.
func (r *relay) beside(b bounds, attack func(ctx context.Context)) {
	t := r.t
	t.Helper()
	h, elsewhere := r.honest(), startRelay(t).honest()
	compare(t, h, elsewhere) // the first ones pay for connections
	before := r.vitals()
	var most atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { attack(ctx) })
	var watching sync.WaitGroup
	watched := make(chan struct{})
	watching.Go(func() {
		for {
			most.Store(max(most.Load(), r.memory()))
			select {
			case <-watched:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
	<-time.After(300 * time.Millisecond)
	during, without := compare(t, h, elsewhere)
	cancel()
	running.Wait()
	close(watched)
	watching.Wait()

	for who := range during {
		wait, usually := during.middle(who), without.middle(who)
		if limit := max(b.never, time.Duration(b.slower*float64(usually))); wait > limit {
			t.Errorf("the honest %s waits %v beside the attack, and %v at another relay", who, wait, usually)
		}
		t.Logf("the honest %s waits %v, and %v at another relay", who, wait, usually)
	}
	if grown := most.Load() - before.memory; grown > b.memory {
		t.Errorf("the memory grew by %d MiB", grown>>20)
	}
	var after vitals
	for deadline := time.Now().Add(patience); ; {
		after = r.vitals()
		left := after.goroutines > before.goroutines+goroutinesLeft || after.descriptors > before.descriptors+descriptorsLeft
		if !left {
			break
		}
		if time.Now().After(deadline) {
			t.Errorf("%d goroutines and %d descriptors are left, of %d and %d before", after.goroutines, after.descriptors, before.goroutines, before.descriptors)
			break
		}
		<-time.After(50 * time.Millisecond)
	}
	if grown := after.logged - before.logged; grown > b.logged {
		t.Errorf("the log grew by %d bytes:\n%s", grown, tail(r.logged()))
	}
	t.Logf("memory +%d MiB at most, log +%d bytes", (most.Load()-before.memory)>>20, after.logged-before.logged)
}

// several runs f so many times at once, again and again until ctx ends, and waits.
func several(ctx context.Context, n int, f func(ctx context.Context, i int)) {
	var running sync.WaitGroup
	for i := range n {
		running.Go(func() {
			for ctx.Err() == nil {
				f(ctx, i)
			}
		})
	}
	running.Wait()
}
