//go:build linux

package cluster_test

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/program"
)

// TestDamagedDataDirs: what a stopped member kept is wiped, put back from before, or damaged. It refuses to start, and says what to do, or is back whole;
// the others go on meanwhile, and it joins again as a new member.
func TestDamagedDataDirs(t *testing.T) {
	t.Parallel()
	s := newSite(t, 3, timeout)
	l := startLightLoad(t, s.members, nil)
	m, first := s.members[2], s.members[0]
	m.Stop(t)
	before := filepath.Join(t.TempDir(), "before")
	copyTo(t, m.dir, before)
	m.start(t)
	for _, damage := range []struct {
		name   string
		do     func(t *testing.T)
		refuse bool // it must
	}{
		{"etcd wiped", func(t *testing.T) { removeAll(t, filepath.Join(m.dir, "cluster", "etcd")) }, true},
		{"put back", func(t *testing.T) {
			// As a snapshot of the disk does: the files are the same ones, with what they held before.
			removeAll(t, filepath.Join(m.dir, "cluster", "etcd"))
			copyTo(t, filepath.Join(before, "cluster", "etcd"), filepath.Join(m.dir, "cluster", "etcd"))
			mark := filepath.Join("cluster", "mark.json")
			writeInPlace(t, filepath.Join(m.dir, mark), client.ReadFile(t, filepath.Join(before, mark)))
		}, true},
		{"bits of etcd's log", func(t *testing.T) { flip(t, m.dir, ".wal", 20) }, false},
		{"bits of etcd's database", func(t *testing.T) { flip(t, m.dir, "db", 20) }, false},
	} {
		t.Run(damage.name, func(t *testing.T) {
			m.Stop(t)
			damage.do(t)
			code, said := startDamaged(t, m)
			l.wantServiceOf(s.members[:2])
			if code == 0 {
				t.Logf("it is back")
				if damage.refuse {
					t.Fatal("it does not refuse to start")
				}
				l.wantService()
				return
			}
			lines := strings.Split(strings.TrimSpace(said), "\n")
			t.Logf("exit code %d: %s", code, lines[len(lines)-1])
			if !strings.Contains(said, "cluster remove") || !strings.Contains(said, "cluster join") {
				t.Errorf("what it says does not say what to do:\n%s", program.Tail(said, 20))
			}
			first.run(t, "cluster", "remove", m.name)
			removeAll(t, m.dir)
			m.join(t, first)
			s.wantVoters(t)
			l.wantService()
		})
	}
	l.end()
}

// startDamaged starts a member and returns 0 once it is ready, or how it ended, and what it said.
func startDamaged(t *testing.T, m *member) (code int, said string) {
	t.Helper()
	m.restart(t)
	client.Eventually(t, client.Patience, m.name+" is ready, or ends", func() error {
		if !m.Running() {
			return nil
		}
		_, err := client.WantOK(m.url + "/-/ready")
		return err
	})
	if m.Running() {
		return 0, ""
	}
	return m.Cmd.ProcessState.ExitCode(), m.Log.String()
}

// flip turns bits of the files of etcd that end so.
func flip(t *testing.T, dir, suffix string, bits int) {
	t.Helper()
	u, found := rand.New(rand.NewPCG(7, uint64(bits))), false
	err := filepath.WalkDir(filepath.Join(dir, "cluster", "etcd"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, suffix) {
			return err
		}
		found = true
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		// What is in use lies at the beginning; the rest was set aside.
		used := len(strings.TrimRight(string(content), "\x00"))
		for range bits {
			content[u.IntN(used)] ^= 1 << u.IntN(8)
		}
		return os.WriteFile(path, content, 0o600)
	})
	if err != nil || !found {
		t.Fatalf("no file of %s ends in %s: %v", dir, suffix, err)
	}
}

func copyTo(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

func removeAll(t *testing.T, dir string) {
	t.Helper()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
}

// writeInPlace gives a file another content, and leaves it the file that it is.
func writeInPlace(t *testing.T, file, content string) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(content); err != nil {
		t.Fatal(err)
	}
}

// TestLastOneGoesOn: two of three are lost for good. What the last one holds is a cluster of its own by force-new, to which others join.
func TestLastOneGoesOn(t *testing.T) {
	t.Parallel()
	s := newSite(t, 3, timeout)
	a := s.startAgent(t, "site-a")
	l := startLightLoad(t, s.members, []*agent{a})
	l.wantService()
	backup := filepath.Join(t.TempDir(), "relay.backup")
	leader := s.leader(t)
	l.end()
	followers := s.followers(leader)
	t.Run("backup", func(t *testing.T) {
		followers[0].run(t, "backup", "--to="+backup)
		want, err := client.ScrapeSeries(leader.url)
		if err != nil {
			t.Fatal(err)
		}
		restored := newMember(t, "restored", "", "")
		restored.run(t, "restore", "--from="+backup)
		restored.start(t)
		restored.begin(t)
		client.WantAllSeries(t, restored.url, want)
		if code, answer := restored.push(http.MethodPut, "/job/after", 1); code != http.StatusOK {
			t.Errorf("a push at a cluster that was restored: %d %s", code, answer)
		}
	})
	t.Run("force-new", func(t *testing.T) {
		last := followers[1]
		want, err := client.ScrapeSeries(last.url)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range s.members {
			if m != last {
				m.Kill(t)
			}
		}
		last.run(t, "backup", "--to="+backup) // it may be the last chance
		last.WantSaid(t, "the ledger in a backup may lack what other relays have revoked last")
		if r := program.Output(t, last.asked("cluster", "force-new", "--yes")); r.Code == 0 || !strings.Contains(r.Stderr, "stop it first") {
			t.Errorf("force-new of a member that runs: exit code %d\n%s", r.Code, r.Stderr)
		}
		last.Kill(t)
		last.run(t, "cluster", "force-new", "--yes")
		last.start(t)
		client.WantAllSeries(t, last.url, want)
		if code, answer := last.push(http.MethodPut, "/job/after", 1); code != http.StatusOK {
			t.Errorf("a push after force-new: %d %s", code, answer)
		}
		client.Push(t, a.url+"/metrics/job/through", "through 1\n")
		client.WantSeries(t, last.url, `through{agent="site-a", instance="", job="through"}`, 1)
		next := newMember(t, "next", "", "", timeout)
		next.join(t, last)
		client.WantAllSeries(t, next.url, map[string]float64{fmt.Sprintf(`done{instance="", job=%q}`, "after"): 1})
	})
}
