//go:build linux

package e2e_test

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
	"syscall"
	"testing"
	"time"

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
	relays   []*relay
	networks []*faultproxy.Proxy
	agent    *agent
	jobs     []*spoolJob
	agents   []*process // every life of the agent
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
	o := &outage{random: rand.New(rand.NewPCG(seed, 0)), blows: map[string]int{}}
	first := startRelay(t)
	o.relays = []*relay{first, startSecondRelay(t, first)}
	for i, r := range o.relays {
		o.networks = append(o.networks, newNetworkTo(t, r.grpc, fmt.Sprint("outage-", i)))
		push(t, r.url+"/metrics/job/owner", "# TYPE outage_clash counter\noutage_clash 1\n")
	}
	o.agent = newAgentVia(t, first, o.networks[0].Addr(), "site-a", "scrape_configs: []\n",
		"--relay.address="+o.networks[1].Addr(), "--push.wait=1s", "--data.dir="+filepath.Join(t.TempDir(), "agent"))
	o.startAgent(t)
	for n := range outageJobs {
		o.jobs = append(o.jobs, newSpoolJob(fmt.Sprint("job-", n), o.agent.url, o.random.Uint64()))
	}
	o.settle(t)
	return o
}

// startAgent starts the agent, which need not find a relay.
func (o *outage) startAgent(t *testing.T) {
	t.Helper()
	o.agent.startAlone(t)
	o.agents = append(o.agents, o.agent.process)
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
		eventually(t, patience, "agent attached to "+r.grpc, func() error {
			if !r.connected(t, "site-a") {
				return errNotConnected
			}
			return nil
		})
	}
	o.agent.wantDrained(t)
}

// check compares all groups at both relays with the model and with each other.
func (o *outage) check(t *testing.T) {
	t.Helper()
	var pages []map[string]float64
	for _, r := range o.relays {
		page, err := seriesOf(mustGet(t, r.url+"/metrics"))
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
		if strings.Contains(p.log.String(), "journal begins anew") {
			t.Errorf("the agent took its data dir for a copy:\n%s", tail(p.log.String(), 20))
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
		page, err := seriesOf(mustGet(t, url+"/metrics"))
		if err != nil {
			t.Fatal(err)
		}
		return page
	}
	page := read(o.agent.url)
	n := tally{sent: page["relay_agent_changes_sent_total"], resets: page["relay_agent_journal_resets_total"]}
	for _, r := range o.relays {
		page := read(r.url)
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

// totals adds up what came of the requests of all jobs, and forgets it.
func (o *outage) totals() (total spoolJob) {
	for _, j := range o.jobs {
		total.applied += j.applied
		total.spooled += j.spooled
		total.refused += j.refused
		total.inDoubt += j.inDoubt
		total.deletes += j.deletes
		j.applied, j.spooled, j.refused, j.inDoubt, j.deletes = 0, 0, 0, 0, 0
	}
	return total
}

// TestSpoolCounts: changes sent are changes applied plus rejected, exactly, as long as nobody is killed: while all is well,
// when every push is a change at each relay; and while connections break, and one relay or both are away.
func TestSpoolCounts(t *testing.T) {
	t.Parallel()
	o := newOutage(t)
	before := o.tally(t)
	o.under(t, func() { <-time.After(time.Second) })
	o.settle(t)
	o.check(t)
	counted, asked := before.wantBalance(t, o), o.totals()
	t.Logf("calm: %d applied, %d kept, %d refused, %d in doubt; %+v", asked.applied, asked.spooled, asked.refused, asked.inDoubt, counted)
	if asked.applied < 50 || asked.refused == 0 || asked.deletes == 0 {
		t.Error("there was nothing to see")
	}
	// A refusal of one relay withdraws the push, so that the other may not get it.
	if asked.spooled+asked.inDoubt == 0 && counted.applied != float64(2*asked.applied) {
		t.Error("every push that was applied is to be a change at each of two relays")
	}

	for _, j := range o.jobs {
		// One relay's refusal withdraws a push. If the connection to the other breaks before its own verdict has come, nobody
		// asks for that any more: it is counted at the relay alone.
		j.pleasing = true
	}
	before = o.tally(t)
	o.under(t, func() {
		for range 6 {
			o.breakNetwork(t)
		}
	})
	o.settle(t)
	o.check(t)
	counted, asked = before.wantBalance(t, o), o.totals()
	t.Logf("outages: %d applied, %d kept, %d in doubt; %+v", asked.applied, asked.spooled, asked.inDoubt, counted)
	// The agent waits between two attempts, so that hardly a push may have found a relay.
	if counted.applied == 0 || asked.spooled == 0 || asked.deletes == 0 {
		t.Error("there was nothing to see")
	}
}

// breakNetwork breaks one network, or both, for a while.
func (o *outage) breakNetwork(t *testing.T) {
	t.Helper()
	which := o.random.IntN(3)
	for i, network := range o.networks {
		if which != i {
			network.Set(faultproxy.Conditions{Refuse: true})
			network.Cut(faultproxy.Reset)
		}
	}
	pause(t.Context(), o.some(500*time.Millisecond))
	for _, network := range o.networks {
		network.Set(faultproxy.Conditions{})
	}
	pause(t.Context(), o.some(500*time.Millisecond))
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
	var sum spoolJob
	for end := time.Now().Add(*outageFor); time.Now().Before(end) && !t.Failed(); {
		o.under(t, func() {
			for range 5 {
				o.blow(t)
			}
		})
		// An agent that has failed for a while waits up to 15 s before it dials again; a new one does not.
		o.agent.kill(t)
		o.startAgent(t)
		o.settle(t)
		o.check(t)
		asked := o.totals()
		sum.applied, sum.spooled, sum.refused = sum.applied+asked.applied, sum.spooled+asked.spooled, sum.refused+asked.refused
		sum.inDoubt, sum.deletes = sum.inDoubt+asked.inDoubt, sum.deletes+asked.deletes

		before := o.tally(t)
		o.under(t, func() { <-time.After(300 * time.Millisecond) })
		o.settle(t)
		o.check(t)
		before.wantBalance(t, o)
		o.totals()
	}
	t.Logf("%v: %d pushes applied, %d kept, %d refused, %d in doubt; %d deletes", o.blows, sum.applied, sum.spooled, sum.refused, sum.inDoubt, sum.deletes)
	if len(o.blows) < 4 || sum.applied == 0 || sum.spooled == 0 || sum.inDoubt == 0 || sum.deletes == 0 {
		t.Error("there was nothing to see")
	}
}

// blow does one thing that nobody wishes for, and mends it. It begins with those that are rare, so that every run sees them.
func (o *outage) blow(t *testing.T) {
	t.Helper()
	pause(t.Context(), o.some(300*time.Millisecond))
	switch n := o.random.IntN(10); {
	case n < 2 || o.blows["networks"] == 0:
		o.blows["networks"]++
		o.breakNetwork(t)
	case n < 4 || o.blows["silences"] == 0:
		o.blows["silences"]++
		r := o.relays[o.random.IntN(len(o.relays))]
		r.suspend(t)
		pause(t.Context(), o.some(time.Second))
		r.signal(t, syscall.SIGCONT)
	default:
		o.kill(t)
	}
}

// kill kills one, two or all three of the programs, and starts them again in any order.
func (o *outage) kill(t *testing.T) {
	t.Helper()
	victims := o.random.Perm(3)[:1+o.random.IntN(3)]
	for _, n := range victims {
		if n < len(o.relays) {
			o.relays[n].kill(t)
			o.blows["relays"]++
			continue
		}
		o.agent.kill(t)
		o.blows["agents"]++
	}
	o.random.Shuffle(len(victims), func(i, j int) { victims[i], victims[j] = victims[j], victims[i] })
	for _, n := range victims {
		pause(t.Context(), o.some(300*time.Millisecond))
		if n < len(o.relays) {
			o.relays[n].start(t)
			continue
		}
		o.startAgent(t)
	}
}
