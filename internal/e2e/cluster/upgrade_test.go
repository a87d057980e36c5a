//go:build linux && earlier

package cluster_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/program"
)

// TestRollingUpgrade: three relays of an earlier release become those of this one under load, those that follow first and the one that leads last. One agent is of
// that release, one of this. No scrape through a balancer fails, nothing that was acknowledged is lost, and the feature level rises once all understand it, and not before
// (C20, C21). Then one of them goes back: if the level has risen it says what to install, else it works. scripts/earlier.sh builds what it needs.
func TestRollingUpgrade(t *testing.T) {
	t.Parallel()
	relayServer, relayAgent := program.Earlier(t)
	s := &site{}
	for _, name := range []string{"a", "b", "c"} {
		m := newMember(t, name, "", "", timeout)
		m.setProgram(relayServer)
		s.members = append(s.members, m)
	}
	s.begin(t)
	agents := []*agent{s.startAgentOf(t, relayAgent, "site-earlier"), s.startAgent(t, "site-a")}
	balanced := s.startHAProxy(t)
	l := (&load{t: t, members: s.members, agents: agents, pause: heavily, through: &member{name: "balancer", url: "http://" + balanced}}).start(1)
	wantNoneFailed := scrapeOften(t, balanced)

	leader := s.leader(t)
	followers := s.followers(leader)
	for _, m := range followers {
		s.exchange(t, l, m, program.RelayServer())
		s.wantLevel(t, m)
	}
	earlier, latest := s.wantLevel(t, followers[0])
	if earlier < latest {
		s.wantNotRaised(t, leader)
	}
	s.exchange(t, l, leader, program.RelayServer())
	if level, _ := s.wantLevel(t, leader); level != latest {
		t.Errorf("the feature level is %d, and all understand %d", level, latest)
	}
	s.wantLevelOfAll(t, latest)

	m := s.followers(s.leader(t))[0]
	if earlier < latest {
		m.Stop(t)
		m.setProgram(relayServer)
		if r := program.Output(t, m.command); r.Code == 0 || !strings.Contains(r.Stderr, "install the release that the other relays have") {
			t.Errorf("%s starts with a release that does not understand the cluster's level: exit code %d\n%s", m.name, r.Code, r.Stderr)
		}
		m.setProgram(program.RelayServer())
		m.start(t)
		l.wantService()
	} else {
		s.exchange(t, l, m, relayServer)
		s.exchange(t, l, m, program.RelayServer())
	}
	wantNoneFailed()
	if said := l.inDoubt(); len(said) > 0 {
		t.Errorf("pushes are in doubt after a rolling upgrade: %q", said)
	}
	l.end()
}

// setProgram gives a relay that does not run another program.
func (m *member) setProgram(relayServer string) {
	m.relayServer, m.command.Path = relayServer, relayServer
}

// takeWaits returns how long pushes have waited at most, by the names of members, since it was asked last.
func (l *load) takeWaits() map[string]time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	waits := l.waits
	l.waits = map[string]time.Duration{}
	return waits
}

// exchange starts a member with another program, as the page of upgrades says, and tells for how long pushes were away.
func (s *site) exchange(t *testing.T, l *load, m *member, relayServer string) {
	t.Helper()
	l.takeWaits()
	begun := time.Now()
	m.Stop(t)
	m.setProgram(relayServer)
	m.start(t)
	s.wantVoters(t)
	l.wantService()
	took, waits := time.Since(begun), l.takeWaits()
	t.Logf("%s starts with %s in %v; who pushed waited at most %v: %s", m.name, relayServer, took, waits, l.tally())
}

// wantLevel waits until a member says that the feature level is the highest that all members understand. It returns that, and what the member itself understands.
func (s *site) wantLevel(t *testing.T, m *member) (level, own int) {
	t.Helper()
	client.Eventually(t, client.Patience, "the feature level is what all members understand", func() error {
		got, err := m.status(t)
		if err != nil {
			return err
		}
		levels := map[string]int{}
		for _, other := range got.Members {
			levels[other.Name] = other.FeatureLevel
		}
		level, own = got.FeatureLevel, levels[m.name]
		if level == 0 || level != slices.Min(slices.Collect(maps.Values(levels))) {
			return fmt.Errorf("%w: it is %d, and members understand %v", client.ErrStatus, level, levels)
		}
		return nil
	})
	return level, own
}

// wantLevelOfAll waits until all members know of the feature level.
func (s *site) wantLevelOfAll(t *testing.T, level int) {
	t.Helper()
	for _, m := range s.members {
		client.Eventually(t, client.Patience, fmt.Sprintf("%s knows that the feature level is %d", m.name, level), func() error {
			own, err := m.ownSeries()
			if err == nil && own["relay_cluster_feature_level"] != float64(level) {
				err = fmt.Errorf("%w: it is %v", client.ErrStatus, own["relay_cluster_feature_level"])
			}
			return err
		})
	}
}

// wantNotRaised has one that understands a higher feature level lead for a while: it does not raise the level while there is one that does not.
func (s *site) wantNotRaised(t *testing.T, earlier *member) {
	t.Helper()
	s.handOverTo(t, earlier, false)
	time.Sleep(12 * time.Second) // it looks every 10 s, and does not tell
	s.wantLevel(t, s.leader(t))
	if !earlier.Running() {
		t.Errorf("%s has ended: %s", earlier.name, earlier.Cmd.ProcessState)
	}
	s.handOverTo(t, earlier, true)
}
