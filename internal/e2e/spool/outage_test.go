//go:build linux

package spool_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/house"
	"pushrelay/internal/e2e/program"
	"pushrelay/internal/faultproxy"
)

var (
	outageFor  = flag.Duration("outage.for", 10*time.Second, "how long TestSpoolKills kills agent and relays")
	outageSeed = flag.Uint64("outage.seed", 0, "seed of the tests of outages; 0 takes one from the clock")
)

// An outage is an agent with two relays of one authority, a network to each that the test can break, and jobs that push to
// the agent all the time.
type outage struct {
	random   *rand.Rand
	relays   []*house.Relay
	networks []*faultproxy.Proxy
	agent    *house.Agent
	jobs     []*spoolJob
	asked    *asked             // by all of them, since the last look
	agents   []*program.Process // every life of the agent
	blows    map[string]int
}

const outageJobs = 8

func newOutage(t *testing.T) *outage {
	t.Helper()
	seed := *outageSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("-outage.seed=%d", seed)
	o := &outage{random: rand.New(rand.NewPCG(seed, 0)), asked: &asked{}, blows: map[string]int{}}
	first := house.StartRelay(t)
	o.relays = []*house.Relay{first, house.StartSecondRelay(t, first)}
	for i, r := range o.relays {
		o.networks = append(o.networks, house.NewNetworkTo(t, r.GRPC, fmt.Sprint("outage-", i)))
		client.Push(t, r.URL+"/metrics/job/owner", "# TYPE outage_clash counter\noutage_clash 1\n")
	}
	o.agent = house.NewAgentVia(t, first, o.networks[0].Addr(), "site-a", "scrape_configs: []\n",
		"--relay.address="+o.networks[1].Addr(), "--push.wait=1s", "--data.dir="+filepath.Join(t.TempDir(), "agent"))
	o.startAgent(t)
	for n := range outageJobs {
		o.jobs = append(o.jobs, newSpoolJob(fmt.Sprint("job-", n), o.agent.URL, o.random.Uint64(), o.asked))
	}
	o.settle(t)
	return o
}

// house.StartAgent starts the agent, which need not find a relay.
func (o *outage) startAgent(t *testing.T) {
	t.Helper()
	o.agent.StartAlone(t)
	o.agents = append(o.agents, o.agent.Process)
}

// under runs the jobs while f does something to the programs and the networks.
func (o *outage) under(t *testing.T, f func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	for _, j := range o.jobs {
		running.Go(func() { j.run(ctx) })
	}
	f()
	cancel()
	running.Wait()
	for _, j := range o.jobs {
		if err := errors.Join(j.mistakes...); err != nil {
			t.Fatalf("%s: %v", j.name, err)
		}
	}
}

// settle waits until nothing waits at the agent any more.
func (o *outage) settle(t *testing.T) {
	t.Helper()
	for _, r := range o.relays {
		client.Eventually(t, client.Patience, "agent attached to "+r.GRPC, func() error {
			if !r.Connected(t, "site-a") {
				return house.ErrNotConnected
			}
			return nil
		})
	}
	o.agent.WantDrained(t)
}

// check compares all groups at both relays with the model and with each other.
func (o *outage) check(t *testing.T) {
	t.Helper()
	var pages []map[string]float64
	for _, r := range o.relays {
		page, err := client.SeriesOf(client.MustGet(t, r.URL+"/metrics"))
		if err != nil {
			t.Fatal(err)
		}
		pages = append(pages, page)
	}
	for _, j := range o.jobs {
		first, err := j.check(pages[0])
		second, err2 := j.check(pages[1])
		if err := errors.Join(err, err2); err != nil {
			t.Error(err)
		}
		if !slices.Equal(first, second) {
			t.Errorf("%s: one relay has %+v, the other %+v", j.name, first, second)
		}
		j.settled(first)
	}
	for _, p := range o.agents {
		// The numbers of a spool that was only killed are its own.
		if strings.Contains(p.Log.String(), "journal begins anew") {
			t.Errorf("the agent took its data dir for a copy:\n%s", program.Tail(p.Log.String(), 20))
		}
	}
}

// A tally is what the programs counted of changes.
type tally struct {
	sent, resets                float64 // by the agent
	applied, duplicate, refused float64 // by both relays
}

func (o *outage) tally(t *testing.T) tally {
	t.Helper()
	read := func(url string) map[string]float64 {
		page, err := client.SeriesOf(client.MustGet(t, url+"/metrics"))
		if err != nil {
			t.Fatal(err)
		}
		return page
	}
	page := read(o.agent.URL)
	n := tally{sent: page["relay_agent_changes_sent_total"], resets: page["relay_agent_journal_resets_total"]}
	for _, r := range o.relays {
		page := read(r.URL)
		n.applied += page[`relay_changes_total{result="applied"}`]
		n.duplicate += page[`relay_changes_total{result="duplicate"}`]
		n.refused += page[`relay_changes_total{result="rejected"}`]
	}
	return n
}

// wantBalance checks that every change since was counted once at both ends. No program may have been killed since.
func (n tally) wantBalance(t *testing.T, o *outage) tally {
	t.Helper()
	now := o.tally(t)
	sent, applied, refused := now.sent-n.sent, now.applied-n.applied, now.refused-n.refused
	if sent != applied+refused || now.resets != n.resets {
		t.Errorf("sent %v changes; applied %v and rejected %v; %v journals begun anew", sent, applied, refused, now.resets-n.resets)
	}
	return tally{sent: sent, applied: applied, duplicate: now.duplicate - n.duplicate, refused: refused}
}

// await waits, while the jobs run, until so many requests came to this. What a test wants to see is waited for and not hoped for.
func (o *outage) await(t *testing.T, what string, count *atomic.Int64, atLeast int64) {
	t.Helper()
	client.Eventually(t, client.Patience, fmt.Sprint(atLeast, " requests ", what), func() error {
		if n := count.Load(); n < atLeast {
			return fmt.Errorf("%w: %d", house.ErrModel, n)
		}
		return nil
	})
}

// forget begins to count the requests anew.
func (o *outage) forget() {
	for _, count := range []*atomic.Int64{&o.asked.applied, &o.asked.spooled, &o.asked.refused, &o.asked.inDoubt, &o.asked.deletes} {
		count.Store(0)
	}
}

func (a *asked) String() string {
	return fmt.Sprintf("%d applied, %d kept, %d refused, %d in doubt; %d deletes",
		a.applied.Load(), a.spooled.Load(), a.refused.Load(), a.inDoubt.Load(), a.deletes.Load())
}

// TestSpoolCounts: changes sent are changes applied plus rejected, exactly, as long as nobody is killed: while all is well,
// when every push is a change at each relay; and while connections break, and one relay or both are away.
func TestSpoolCounts(t *testing.T) {
	t.Parallel()
	o := newOutage(t)
	before := o.tally(t)
	o.under(t, func() {
		o.await(t, "are applied", &o.asked.applied, 50)
		o.await(t, "are refused", &o.asked.refused, 1)
		o.await(t, "are deletes", &o.asked.deletes, 1)
	})
	o.settle(t)
	o.check(t)
	counted := before.wantBalance(t, o)
	t.Logf("calm: %v; %+v", o.asked, counted)
	// A refusal of one relay withdraws the push, so that the other may not get it.
	if o.asked.spooled.Load()+o.asked.inDoubt.Load() == 0 && counted.applied != float64(2*o.asked.applied.Load()) {
		t.Error("every push that was applied is to be a change at each of two relays")
	}

	for _, j := range o.jobs {
		// One relay's refusal withdraws a push. If the connection to the other breaks before its own verdict has come, nobody
		// asks for that any more: it is counted at the relay alone.
		j.pleasing = true
	}
	o.forget()
	before = o.tally(t)
	o.under(t, func() {
		o.breakBoth(t)
		for range 6 {
			o.breakNetwork(t)
		}
		o.await(t, "are deletes", &o.asked.deletes, 1)
	})
	o.settle(t)
	o.check(t)
	counted = before.wantBalance(t, o)
	t.Logf("outages: %v; %+v", o.asked, counted)
	if counted.applied == 0 {
		t.Error("nothing of what was kept was applied")
	}
}

// breakNetwork breaks one network, or both, for a while.
func (o *outage) breakNetwork(t *testing.T) {
	t.Helper()
	o.breakAllBut(o.random.IntN(3))
	client.Pause(t.Context(), o.some(500*time.Millisecond))
	o.mend(t)
}

// breakBoth breaks both networks until a push had to be kept.
func (o *outage) breakBoth(t *testing.T) {
	t.Helper()
	kept := o.asked.spooled.Load()
	o.breakAllBut(len(o.networks))
	o.await(t, "are kept", &o.asked.spooled, kept+1)
	o.mend(t)
}

func (o *outage) breakAllBut(which int) {
	for i, network := range o.networks {
		if which != i {
			network.Set(faultproxy.Conditions{Refuse: true})
			network.Cut(faultproxy.Reset)
		}
	}
}

func (o *outage) mend(t *testing.T) {
	t.Helper()
	for _, network := range o.networks {
		network.Set(faultproxy.Conditions{})
	}
	client.Pause(t.Context(), o.some(500*time.Millisecond))
}

// some is a random time up to a limit.
func (o *outage) some(limit time.Duration) time.Duration {
	return time.Duration(o.random.Int64N(int64(limit)))
}

// TestSpoolKills kills agent and relays at random under jobs that push, starts them in any order, and breaks and stops what is
// between: at the end both relays have the newest accepted state of every group, and nothing that was deleted.
//
// Counters do not outlive a process, so that over a kill there is no sum to draw; it is drawn again over a calm time at the
// end of each round, with what the kills left behind.
func TestSpoolKills(t *testing.T) {
	t.Parallel()
	o := newOutage(t)
	for end, round := time.Now().Add(*outageFor), 0; round == 0 || time.Now().Before(end) && !t.Failed(); round++ {
		o.under(t, func() {
			if round == 0 {
				o.eachBlow(t)
				return
			}
			for range 5 {
				o.blow(t)
			}
		})
		// An agent that has failed for a while waits up to 15 s before it dials again; a new one does not.
		o.agent.Kill(t)
		o.startAgent(t)
		o.settle(t)
		o.check(t)

		before := o.tally(t)
		o.under(t, func() { <-time.After(300 * time.Millisecond) })
		o.settle(t)
		o.check(t)
		before.wantBalance(t, o)
	}
	t.Logf("%v: %v", o.blows, o.asked)
}

// eachBlow does each of them once, so that every run sees them all and what comes of them.
func (o *outage) eachBlow(t *testing.T) {
	t.Helper()
	o.await(t, "are applied", &o.asked.applied, 1)
	o.await(t, "are deletes", &o.asked.deletes, 1)
	o.breakBoth(t)
	o.silence(t, o.relays[0])
	o.kill(t, 0)
	o.kill(t, 1)
	// Every job waits for an agent that stands still, and then never gets an answer.
	o.agent.Suspend(t)
	o.await(t, "wait", &o.asked.waiting, outageJobs)
	o.kill(t, len(o.relays))
	o.await(t, "are in doubt", &o.asked.inDoubt, 1)
	o.kill(t, 0, 1, len(o.relays))
}

// blow does one thing that nobody wishes for, and mends it.
func (o *outage) blow(t *testing.T) {
	t.Helper()
	client.Pause(t.Context(), o.some(300*time.Millisecond))
	switch n := o.random.IntN(10); {
	case n < 2:
		o.blows["networks"]++
		o.breakNetwork(t)
	case n < 4:
		o.silence(t, o.relays[o.random.IntN(len(o.relays))])
	default:
		o.kill(t, o.random.Perm(3)[:1+o.random.IntN(3)]...)
	}
}

// silence lets a relay stand still for a while.
func (o *outage) silence(t *testing.T, r *house.Relay) {
	t.Helper()
	o.blows["silences"]++
	r.Suspend(t)
	client.Pause(t.Context(), o.some(time.Second))
	r.Signal(t, syscall.SIGCONT)
}

// kill kills some of the programs, the relays by their number and the agent after them, and starts them again in any order.
func (o *outage) kill(t *testing.T, victims ...int) {
	t.Helper()
	for _, n := range victims {
		if n < len(o.relays) {
			o.relays[n].Kill(t)
			o.blows["relays"]++
			continue
		}
		o.agent.Kill(t)
		o.blows["agents"]++
	}
	o.random.Shuffle(len(victims), func(i, j int) { victims[i], victims[j] = victims[j], victims[i] })
	for _, n := range victims {
		client.Pause(t.Context(), o.some(300*time.Millisecond))
		if n < len(o.relays) {
			o.relays[n].Start(t)
			continue
		}
		o.startAgent(t)
	}
}
