//go:build linux

package cluster_test

import (
	"math/rand/v2"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"pushrelay/internal/e2e/netns"
)

// A fault is done to one member, or to all, and undone.
type fault struct {
	name string
	do   func(t *testing.T, s *site, m *member)
}

// faults are what happens to members. All but the last can happen to one while the others serve.
var faults = []fault{
	{"kill -9 and back", func(t *testing.T, _ *site, m *member) {
		m.Kill(t)
		time.Sleep(3 * time.Second)
		m.start(t)
	}},
	{"SIGTERM and back", func(t *testing.T, _ *site, m *member) {
		m.Stop(t)
		m.start(t)
	}},
	{"SIGSTOP for 15 s", func(t *testing.T, _ *site, m *member) {
		m.Signal(t, syscall.SIGSTOP)
		time.Sleep(15 * time.Second)
		m.Signal(t, syscall.SIGCONT)
		m.wantReady(t)
	}},
	{"cut both ways", cut(netns.Deafness{In: true, Out: true})},
	{"cut, hears nobody", cut(netns.Deafness{In: true})},
	{"cut, is not heard", cut(netns.Deafness{Out: true})},
	{"kill -9 of all", func(t *testing.T, s *site, _ *member) {
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
	s := newStarSite(t, 3)
	for _, f := range faults {
		for _, whom := range []string{"the leader", "a follower"} {
			if f.name == "kill -9 of all" && whom != "the leader" {
				continue
			}
			t.Run(f.name+" of "+whom, func(t *testing.T) {
				l := startLoad(t, s.members, 1)
				time.Sleep(2 * time.Second)
				m := s.leader(t)
				if whom == "a follower" {
					m = s.followers(m)[0]
				}
				f.do(t, s, m)
				time.Sleep(2 * time.Second)
				l.end()
			})
		}
	}
}

// TestRandomFaults is TestFaults with faults at random, one after the other: $PUSHRELAY_FAULTS_FOR says for how long, and a minute is what everybody waits for.
func TestRandomFaults(t *testing.T) {
	seed, limit := uint64(time.Now().UnixNano()), time.Minute
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
	s := newStarSite(t, 3)
	l := startLoad(t, s.members, seed)
	for end := time.Now().Add(limit); time.Now().Before(end) && !t.Failed(); {
		f, m := faults[u.IntN(len(faults))], s.members[u.IntN(len(s.members))]
		t.Logf("%s: %s", m.name, f.name)
		f.do(t, s, m)
		time.Sleep(time.Duration(u.IntN(2000)) * time.Millisecond)
	}
	l.end()
}
