//go:build linux

package cluster_test

import (
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"pushrelay/internal/e2e/netns"
)

// A fault is done to one member, or to all, and undone.
type fault struct {
	name  string
	do    func(t *testing.T, s *site, m *member)
	ofAll bool // it happens to all members
}

// faults are what happens to members.
var faults = []fault{
	{name: "kill -9 and back", do: func(t *testing.T, _ *site, m *member) {
		m.Kill(t)
		time.Sleep(3 * time.Second)
		m.start(t)
	}},
	{name: "SIGTERM and back", do: func(t *testing.T, _ *site, m *member) {
		m.Stop(t)
		m.start(t)
	}},
	{name: "SIGSTOP for 15 s", do: func(t *testing.T, _ *site, m *member) {
		m.Signal(t, syscall.SIGSTOP)
		time.Sleep(15 * time.Second)
		m.Signal(t, syscall.SIGCONT)
		m.wantReady(t)
	}},
	{name: "cut both ways", do: cut(netns.Deafness{In: true, Out: true})},
	{name: "cut, hears nobody", do: cut(netns.Deafness{In: true})},
	{name: "cut, is not heard", do: cut(netns.Deafness{Out: true})},
	{name: "kill -9 of all", ofAll: true, do: func(t *testing.T, s *site, _ *member) {
		for _, m := range s.members {
			m.Kill(t)
		}
		for _, m := range s.members {
			m.restart(t)
		}
		for _, m := range s.members {
			m.wantReady(t)
		}
	}},
}

func cut(how netns.Deafness) func(t *testing.T, s *site, m *member) {
	return func(t *testing.T, s *site, m *member) {
		for i, other := range s.members {
			if other == m {
				s.star.Cut(t, i, how)
				time.Sleep(8 * time.Second)
				s.star.Cut(t, i, netns.Deafness{})
			}
		}
		m.wantReady(t)
	}
}

// TestFaults: under pushes at all relays and scrapes through a balancer each fault happens to the one that leads and to one that does not. Nothing that was
// acknowledged is missing on any relay, nothing is there twice, and nothing that was ever shown vanishes.
func TestFaults(t *testing.T) {
	t.Parallel()
	s := newStarSite(t, 3, timeout)
	l := startLoad(t, s.members, []*agent{s.startAgent(t, "site-a"), s.startAgent(t, "site-b")}, 1)
	for _, f := range faults {
		if only := os.Getenv("PUSHRELAY_FAULTS_ONLY"); !strings.Contains(f.name, only) {
			continue
		}
		for _, whom := range []string{"the leader", "a follower"} {
			m := s.leader(t)
			if whom == "a follower" {
				if f.ofAll {
					continue
				}
				m = s.followers(m)[0]
			}
			began := time.Now()
			f.do(t, s, m)
			l.wantService()
			t.Logf("%s of %s (%s), %.1f s: %s", f.name, whom, m.name, time.Since(began).Seconds(), l.tally())
			if t.Failed() {
				return
			}
		}
	}
	l.end()
}

// timeout is a short time for pushes, so that it is soon known what is in doubt.
const timeout = "--push.timeout=3s"

// TestRandomFaults is TestFaults with faults at random, one after the other: $PUSHRELAY_FAULTS_FOR says for how long, and two minutes are what everybody waits for.
func TestRandomFaults(t *testing.T) {
	t.Parallel()
	seed, limit := uint64(time.Now().UnixNano()), 2*time.Minute
	if text := os.Getenv("PUSHRELAY_FAULTS_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	if text := os.Getenv("PUSHRELAY_FAULTS_FOR"); text != "" {
		var err error
		if limit, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("PUSHRELAY_FAULTS_SEED=%d", seed)
	u := rand.New(rand.NewPCG(seed, 24))
	s := newStarSite(t, 3, timeout)
	l := startLoad(t, s.members, []*agent{s.startAgent(t, "site-a")}, seed)
	for end := time.Now().Add(limit); time.Now().Before(end) && !t.Failed(); {
		f, m := faults[u.IntN(len(faults))], s.members[u.IntN(len(s.members))]
		t.Logf("%s: %s", m.name, f.name)
		f.do(t, s, m)
		time.Sleep(time.Duration(u.IntN(2000)) * time.Millisecond)
	}
	l.end()
}
