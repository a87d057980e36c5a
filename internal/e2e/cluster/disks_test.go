//go:build linux

package cluster_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/faultdisk"
)

// stalledFor is how long a disk stalls, and stalledSync how long each sync takes then: a leader is to lose its place for that.
const stalledFor, stalledSync = 9 * time.Second, 5 * time.Second

// TestStalledDisk: for a while each sync of one member takes 5 s, of the leader and of a follower. Nothing that was acknowledged is missing, and all are back.
func TestStalledDisk(t *testing.T) {
	t.Parallel()
	s := &site{}
	syncs := map[*member]*faultdisk.Syncs{}
	for _, name := range []string{"a", "b", "c"} {
		m := newMember(t, name, "", "", timeout)
		syncs[m] = faultdisk.NewSyncs(t, &m.command)
		m.started = func() { syncs[m].Serve(t, m.Process) }
		s.members = append(s.members, m)
	}
	s.begin(t)
	l := startLightLoad(t, s.members, []*agent{s.startAgent(t, "site-a")})
	for _, whom := range []string{"the leader", "a follower"} {
		m := s.leader(t)
		if whom == "a follower" {
			m = s.followers(m)[0]
		}
		syncs[m].Take(stalledSync)
		time.Sleep(stalledFor)
		l.wantServiceOf(s.followers(m))
		syncs[m].Take(0)
		l.wantService()
		m.wantReady(t)
		t.Logf("a stalled disk of %s (%s): %s", whom, m.name, l.tally())
	}
	l.end()
}

// smallDisk has room for the two files that etcd's log sets aside, and little more.
const smallDisk = 180 << 20

// TestFullDisk: the disk of one member is full, when it follows and when it leads. The others go on; it may end, and once there is room it is back with all.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	s := &site{}
	for _, name := range []string{"a", "b", "c"} {
		s.members = append(s.members, newMember(t, name, "", "", timeout))
	}
	m, disk := s.members[2], faultdisk.SmallDisk(t, smallDisk)
	m.setDir(filepath.Join(disk, "c"))
	s.begin(t)
	l := startLightLoad(t, s.members, nil)
	for _, leads := range []bool{false, true} {
		s.handOverTo(t, m, leads)
		ballast := filepath.Join(disk, "ballast")
		faultdisk.Fill(t, ballast)
		pushLarge(t, s.followers(m)[0]) // etcd's file is to grow
		ended := m.Ended(15 * time.Second)
		l.wantServiceOf(s.followers(m))
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
		if ended {
			if log := m.Log.String(); !strings.Contains(log, "no space left on device") {
				t.Errorf("%s has ended on a full disk, and does not say why", m.name)
			}
			m.start(t)
		}
		m.wantReady(t)
		l.wantService()
		t.Logf("a full disk of %s, which led: %t; it ended: %t: %s", m.name, leads, ended, l.tally())
	}
	l.end()
}

// pushLarge pushes some megabytes that no compression makes much smaller, which may be refused.
func pushLarge(t *testing.T, at *member) {
	t.Helper()
	for i := range 40 {
		var body strings.Builder
		for range 10 {
			fmt.Fprintf(&body, "large{l=\"%s\"} 1\n", faultdisk.Noise(15000))
		}
		client.Fetch(http.MethodPut, fmt.Sprintf("%s/metrics/job/large/n/%d", at.url, i), strings.NewReader(body.String()))
	}
}
