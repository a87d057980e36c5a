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
	"pushrelay/internal/e2e/program"
)

// newWitness returns a witness that does not run and is no member yet.
func newWitness(t testing.TB, name string, flags ...string) *member {
	t.Helper()
	m := newMember(t, name, "", "")
	m.command = m.asked(append([]string{"witness"}, flags...)...)
	return m
}

// joinAsWitness makes the witness a member of the cluster that another one is of.
func (m *member) joinAsWitness(t testing.TB, of *member) {
	t.Helper()
	token := strings.TrimSpace(of.run(t, "cluster", "token", "--witness", m.name))
	m.run(t, "cluster", "join", "--witness", token, "--peer-address="+m.peer, "--link-address="+m.link, "--web-address="+m.web)
}

// newWitnessedSite starts two relays and a witness.
func newWitnessedSite(t testing.TB) (s *site, witness *member) {
	t.Helper()
	s = newSite(t, 2, timeout)
	witness = newWitness(t, "w")
	witness.joinAsWitness(t, s.members[0])
	witness.restart(t)
	s.members = append(s.members, witness)
	s.wantVoters(t)
	return s, witness
}

// TestWitness: with a witness one of two relays may die; without it as well the other one shows what it has, and takes nothing (C18).
func TestWitness(t *testing.T) {
	t.Parallel()
	s, witness := newWitnessedSite(t)
	relays := s.members[:2]
	want := map[string]float64{}
	push := func(m *member, value int) {
		t.Helper()
		m.pushUntil(t, 30*time.Second, "/job/at-"+m.name, value, http.StatusOK)
		want[fmt.Sprintf(`done{instance="", job="at-%s"}`, m.name)] = float64(value)
	}
	for _, m := range relays {
		push(m, 1)
	}
	leader := (&site{members: relays}).leader(t)
	if st, err := witness.status(t); err != nil || len(st.Members) != 3 {
		t.Errorf("the witness' status: %+v, %v", st, err)
	} else {
		for _, m := range st.Members {
			if m.Leader != (m.Name == leader.name) {
				t.Errorf("for the witness %s leads: %v, and %s does", m.Name, m.Leader, leader.name)
			}
		}
	}

	leader.Kill(t)
	left := (&site{members: relays}).followers(leader)[0]
	push(left, 2)
	client.WantAllSeries(t, left.url, want)

	witness.Kill(t)
	left.pushUntil(t, 30*time.Second, "/job/lost", 3, http.StatusServiceUnavailable)
	client.WantAllSeries(t, left.url, want)

	witness.restart(t)
	push(left, 4)
	leader.start(t)
	push(leader, 4)
	for _, m := range relays {
		client.Eventually(t, 30*time.Second, "what is pushed at "+m.name, func() error { return wantAll(m, want) })
	}
	witness.Stop(t)
	push(left, 5)
}

// wantAll returns an error unless a member shows all these series.
func wantAll(m *member, want map[string]float64) error {
	page, err := client.WantOK(m.url + "/metrics")
	if err != nil {
		return err
	}
	has, err := client.SeriesOf(page)
	if err != nil {
		return err
	}
	for series, value := range want {
		if has[series] != value {
			return fmt.Errorf("%w: %s is %g, want %g", client.ErrStatus, series, has[series], value)
		}
	}
	return nil
}

// TestWitnessCommands: each kind of data dir is started by its own command; a witness tells what it is, keeps no key of an authority, and leaves.
func TestWitnessCommands(t *testing.T) {
	t.Parallel()
	s, witness := newWitnessedSite(t)
	for _, key := range []string{"cluster/peer-ca.key", "authority/ca.key"} {
		if _, err := os.Stat(filepath.Join(witness.dir, key)); err == nil {
			t.Errorf("a witness has %s", key)
		}
	}
	refused := func(m *member, want string, args ...string) {
		t.Helper()
		if r := program.Output(t, m.asked(args...)); r.Code == 0 || !strings.Contains(r.Stderr, want) {
			t.Errorf("%v on %s: exit code %d, want %q\n%s", args, m.name, r.Code, want, r.Stderr)
		}
	}
	free := []string{"--web.listen-address=127.0.0.1:0", "--grpc.listen-address=127.0.0.1:0"}
	refused(witness, "relay-server witness", free...)
	refused(s.members[0], "without the command witness", "witness")
	refused(witness, "a witness makes no tokens", "cluster", "token", "x")
	refused(witness, "ask a relay", "agents", "list")

	witness.Stop(t)
	database := filepath.Join(witness.dir, "cluster", "etcd", "member", "snap", "db")
	whole := client.ReadFile(t, database)
	flip(t, witness.dir, "db", 100)
	refused(witness, "cluster join --witness", "witness")
	writeInPlace(t, database, whole)
	witness.restart(t)
	client.Eventually(t, client.Patience, "the witness has heard the others", func() error {
		r := program.Output(t, witness.asked("cluster", "status"))
		if r.Code != 0 {
			return fmt.Errorf("%w: %s", client.ErrStatus, r.Stderr)
		}
		return nil
	})

	witness.run(t, "cluster", "leave")
	if !witness.Ended(program.StopTimeout) {
		t.Fatal("a witness that has left runs on")
	}
	refused(witness, "of no witness", "witness")
	client.Eventually(t, 30*time.Second, "two members", func() error {
		if st, err := s.members[0].status(t); err != nil || len(st.Members) != 2 {
			return fmt.Errorf("%w: %+v, %w", client.ErrStatus, st, err)
		}
		return nil
	})
}
