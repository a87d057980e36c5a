//go:build linux

package e2e_test

import (
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// startSpooling starts an agent for the tests of its spool: without targets, its data dir in the test's hands, and, unless a
// test says otherwise, more patient with its relays than a busy machine needs.
func startSpooling(t testing.TB, r *relay, flags ...string) (a *agent, dataDir string) {
	t.Helper()
	dataDir = filepath.Join(t.TempDir(), "agent")
	flags = append([]string{"--data.dir=" + dataDir}, flags...)
	if !slices.ContainsFunc(flags, func(f string) bool { return strings.HasPrefix(f, "--push.wait=") }) {
		flags = append(flags, "--push.wait=30s")
	}
	a = startAgentVia(t, r, r.grpc, "site-a", "scrape_configs: []\n", flags...)
	a.attached(t) // to further relays, too
	return a, dataDir
}

// attached waits until the agent itself knows of a session with each of its relays: they know it a little earlier.
func (a *agent) attached(t testing.TB) {
	t.Helper()
	eventually(t, patience, "the agent is attached", func() error {
		page, err := wantOK(a.url + "/-/ready")
		if err == nil && strings.Contains(page, "not connected since") {
			err = fmt.Errorf("%w: %s", errNotConnected, page)
		}
		return err
	})
}

// ask pushes one value of a metric that has the job's name, or deletes the job's group.
func (a *agent) ask(t testing.TB, method, job string, value int) response {
	t.Helper()
	body := ""
	if method != http.MethodDelete {
		body = fmt.Sprintf("%s %d\n", job, value)
	}
	got, err := fetch(method, a.url+"/metrics/job/"+job, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// applied pushes one value and wants the answer of a relay that has it.
func (a *agent) applied(t testing.TB, job string, value int) {
	t.Helper()
	if got := a.ask(t, http.MethodPut, job, value); got.status != http.StatusOK || got.body != "" || got.header.Get("X-Relay-Spooled") != "" {
		t.Errorf("PUT %s: %d %s", job, got.status, got.body)
	}
}

// kept pushes one value and wants to be told, in one line, that it waits at the agent, and why.
func (a *agent) kept(t testing.TB, job string, value int, why ...string) {
	t.Helper()
	wantKept(t, a.ask(t, http.MethodPut, job, value), why...)
}

func wantKept(t testing.TB, got response, why ...string) {
	t.Helper()
	if got.status != http.StatusAccepted || got.header.Get("X-Relay-Spooled") != "true" || strings.Count(got.body, "\n") != 1 {
		t.Errorf("a push that has to wait: %d, X-Relay-Spooled %q, %q", got.status, got.header.Get("X-Relay-Spooled"), got.body)
	}
	for _, part := range append(why, "kept at the agent") {
		if !strings.Contains(got.body, part) {
			t.Errorf("the answer does not say %q: %s", part, got.body)
		}
	}
}

// seriesOfJob is the series that [agent.ask] pushes, as a relay shows it.
func seriesOfJob(job string) string {
	return fmt.Sprintf(`%s{agent="site-a", instance="", job=%q}`, job, job)
}

// away waits until the agent knows that there is no session with a relay.
func (a *agent) away(t testing.TB, r *relay) {
	t.Helper()
	eventually(t, 20*time.Second, "the agent misses the relay", func() error {
		page, err := wantOK(a.url + "/-/ready")
		if err == nil && !strings.Contains(page, "relay "+r.grpc+": not connected") {
			err = fmt.Errorf("%w: %s", errStillConnected, page)
		}
		return err
	})
}

// back starts a relay that was killed, and waits until the agent has found all of its relays and nothing waits any more.
func (a *agent) back(t testing.TB, r *relay) {
	t.Helper()
	r.start(t)
	a.attached(t)
	a.wantDrained(t)
}

// startAlone starts the agent without waiting for a relay.
func (a *agent) startAlone(t testing.TB) {
	t.Helper()
	a.process = start(a.owner, a.command)
	waitReady(t, a.process, a.url)
}

// wantDrained waits until every relay has decided all that the agent holds.
func (a *agent) wantDrained(t testing.TB) {
	t.Helper()
	eventually(t, patience, "the spool is drained", func() error {
		entries, there, err := valueOf(a.url, "relay_agent_spool_entries")
		if err == nil && (!there || entries > 0) {
			err = fmt.Errorf("%w: %v changes wait", errModel, entries)
		}
		return err
	})
}

// wantLogged waits until all of this is in the log of the process: what it prints arrives here a little later.
func (p *process) wantLogged(t testing.TB, parts ...string) {
	t.Helper()
	eventually(t, 10*time.Second, "the log tells of it", func() error {
		for _, part := range parts {
			if !strings.Contains(p.log.String(), part) {
				return fmt.Errorf("%w: it does not say %q", errStatus, part)
			}
		}
		return nil
	})
}

// entriesOf returns how many changes wait at the agent.
func entriesOf(t testing.TB, a *agent) float64 {
	t.Helper()
	entries, there, err := valueOf(a.url, "relay_agent_spool_entries")
	if err != nil || !there {
		t.Fatalf("relay_agent_spool_entries: there %v, %v", there, err)
	}
	return entries
}
