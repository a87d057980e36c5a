//go:build linux

package cluster_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/program"
)

// TestOneBecomesThreeAndOneAgain: a relay with a history becomes the first of three while it is pushed to and scraped: no scrape fails. Two of them leave, and
// then the last one, with all that was pushed.
func TestOneBecomesThreeAndOneAgain(t *testing.T) {
	t.Parallel()
	s := &site{}
	for _, name := range []string{"a", "b", "c"} {
		s.members = append(s.members, newMember(t, name, "", "", timeout))
	}
	first := s.members[0]
	first.start(t)
	l := startLoad(t, s.members[:1], nil, 1)
	first.begin(t)
	l.wantService()
	for _, m := range s.members[1:] {
		m.join(t, first)
	}
	s.wantVoters(t)
	l.wantService()
	if n := l.scrapesFailed.Load(); n > 0 {
		t.Errorf("%d scrapes failed while one relay became three, the last one %s", n, l.whyUnanswered())
	}
	l.stop()
	l.members = s.members
	l.wantAgreement()
	series := "rising{instance=\"\", job=\"rising-a-0\"}"
	want, found, err := client.ValueOf(first.url, series)
	if err != nil || !found {
		t.Fatal(series, err)
	}
	for _, m := range s.members[1:] {
		m.run(t, "cluster", "leave")
		client.WantSeries(t, first.url, series, want)
	}
	first.run(t, "cluster", "leave")
	first.wantReady(t)
	client.WantSeries(t, first.url, series, want)
	if r := program.Output(t, first.asked("cluster", "status")); r.Code == 0 {
		t.Errorf("a relay that has left says of its cluster:\n%s", r.Stdout)
	}
	first.Stop(t)
	first.start(t)
	client.WantSeries(t, first.url, series, want)
}

// TestDataDirsOfMembers: a data dir that was a member's does not start as a relay alone, and neither does one that was put back; each says what to do.
func TestDataDirsOfMembers(t *testing.T) {
	t.Parallel()
	s := newSite(t, 3)
	m := s.members[2]
	m.Stop(t)
	copied := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(copied, os.DirFS(m.dir)); err != nil {
		t.Fatal(err)
	}
	m.start(t)
	t.Run("copied", func(t *testing.T) {
		c := m.command
		c.Args = append([]string{"--data.dir=" + copied, "--web.listen-address=" + program.FreeAddress(t), "--grpc.listen-address=" + program.FreeAddress(t)}, "--log.level=warn")
		if r := program.Output(t, c); r.Code == 0 || !strings.Contains(r.Stderr, "cluster") {
			t.Errorf("a copied data dir: exit code %d\n%s", r.Code, r.Stderr)
		}
	})
	t.Run("removed", func(t *testing.T) {
		s.members[0].run(t, "cluster", "remove", m.name)
		if !m.Ended(program.StopTimeout) {
			t.Fatal("a removed member runs on")
		}
		if r := program.Output(t, m.command); r.Code == 0 || !strings.Contains(r.Stderr, "removed") {
			t.Errorf("a removed member starts: exit code %d\n%s", r.Code, r.Stderr)
		}
	})
	t.Run("joined again", func(t *testing.T) {
		if err := os.RemoveAll(m.dir); err != nil {
			t.Fatal(err)
		}
		m.join(t, s.members[0])
		s.wantVoters(t)
	})
}
