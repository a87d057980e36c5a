//go:build linux

package house

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/faultdisk"
	"pushrelay/internal/e2e/program"
)

// StartSpooling starts an agent for the tests of its spool: without targets, its data dir in the test's hands, and, unless a
// test says otherwise, more patient with its relays than a busy machine needs.
func StartSpooling(t testing.TB, r *Relay, flags ...string) (a *Agent, dataDir string) {
	t.Helper()
	dataDir = filepath.Join(t.TempDir(), "agent")
	flags = append([]string{"--data.dir=" + dataDir}, flags...)
	if !slices.ContainsFunc(flags, func(f string) bool { return strings.HasPrefix(f, "--push.wait=") }) {
		flags = append(flags, "--push.wait=30s")
	}
	a = StartAgentVia(t, r, r.GRPC, "site-a", "scrape_configs: []\n", flags...)
	a.Attached(t) // to further relays, too
	return a, dataDir
}

// Attached waits until the agent itself knows of a session with each of its relays: they know it a little earlier.
func (a *Agent) Attached(t testing.TB) {
	t.Helper()
	client.Eventually(t, client.Patience, "the agent is attached", func() error {
		page, err := client.WantOK(a.URL + "/-/ready")
		if err == nil && strings.Contains(page, "not connected since") {
			err = fmt.Errorf("%w: %s", ErrNotConnected, page)
		}
		return err
	})
}

// Ask pushes one value of a metric that has the job's name, or deletes the job's group.
func (a *Agent) Ask(t testing.TB, method, job string, value int) client.Response {
	t.Helper()
	body := ""
	if method != http.MethodDelete {
		body = fmt.Sprintf("%s %d\n", job, value)
	}
	got, err := client.Fetch(method, a.URL+"/metrics/job/"+job, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// Applied pushes one value and wants the answer of a relay that has it.
func (a *Agent) Applied(t testing.TB, job string, value int) {
	t.Helper()
	if got := a.Ask(t, http.MethodPut, job, value); got.Status != http.StatusOK || got.Body != "" || got.Header.Get("X-Relay-Spooled") != "" {
		t.Errorf("PUT %s: %d %s", job, got.Status, got.Body)
	}
}

// Kept pushes one value and wants to be told, in one line, that it waits at the agent, and why.
func (a *Agent) Kept(t testing.TB, job string, value int, why ...string) {
	t.Helper()
	WantKept(t, a.Ask(t, http.MethodPut, job, value), why...)
}

// WantKept wants an answer that tells in one line that a push waits at the agent, and why.
func WantKept(t testing.TB, got client.Response, why ...string) {
	t.Helper()
	if got.Status != http.StatusAccepted || got.Header.Get("X-Relay-Spooled") != "true" || strings.Count(got.Body, "\n") != 1 {
		t.Errorf("a push that has to wait: %d, X-Relay-Spooled %q, %q", got.Status, got.Header.Get("X-Relay-Spooled"), got.Body)
	}
	for _, part := range append(why, "kept at the agent") {
		if !strings.Contains(got.Body, part) {
			t.Errorf("the answer does not say %q: %s", part, got.Body)
		}
	}
}

// SeriesOfJob is the series that [Agent.Ask] pushes, as a relay shows it.
func SeriesOfJob(job string) string {
	return fmt.Sprintf(`%s{agent="site-a", instance="", job=%q}`, job, job)
}

// Away waits until the agent knows that there is no session with a relay.
func (a *Agent) Away(t testing.TB, r *Relay) {
	t.Helper()
	client.Eventually(t, 20*time.Second, "the agent misses the relay", func() error {
		page, err := client.WantOK(a.URL + "/-/ready")
		if err == nil && !strings.Contains(page, "relay "+r.GRPC+": not connected") {
			err = fmt.Errorf("%w: %s", ErrStillConnected, page)
		}
		return err
	})
}

// Back starts a relay that was killed, and waits until the agent has found all of its relays and nothing waits any more.
func (a *Agent) Back(t testing.TB, r *Relay) {
	t.Helper()
	r.Start(t)
	a.Attached(t)
	a.WantDrained(t)
}

// StartAlone starts the agent without waiting for a relay.
func (a *Agent) StartAlone(t testing.TB) {
	t.Helper()
	a.Process = program.Start(a.Owner, a.Command)
	program.WaitReady(t, a.Process, a.URL)
}

// WantDrained waits until every relay has decided all that the agent holds.
func (a *Agent) WantDrained(t testing.TB) {
	t.Helper()
	client.Eventually(t, client.Patience, "the spool is drained", func() error {
		entries, there, err := client.ValueOf(a.URL, "relay_agent_spool_entries")
		if err == nil && (!there || entries > 0) {
			err = fmt.Errorf("%w: %v changes wait", ErrModel, entries)
		}
		return err
	})
}

// EntriesOf returns how many changes wait at the agent.
func EntriesOf(t testing.TB, a *Agent) float64 {
	t.Helper()
	entries, there, err := client.ValueOf(a.URL, "relay_agent_spool_entries")
	if err != nil || !there {
		t.Fatalf("relay_agent_spool_entries: there %v, %v", there, err)
	}
	return entries
}

// Deleted deletes a group and wants the answer of a relay that has done it.
func (a *Agent) Deleted(t testing.TB, job string) {
	t.Helper()
	if got := a.Ask(t, http.MethodDelete, job, 0); got.Status != http.StatusAccepted || got.Header.Get("X-Relay-Spooled") != "" {
		t.Errorf("DELETE %s: %d %s", job, got.Status, got.Body)
	}
}

// On is the agent with another data dir, on another host as it were.
func (a *Agent) On(t testing.TB, dataDir string) *Agent {
	t.Helper()
	web := program.FreeAddress(t)
	b := &Agent{Owner: a.Owner, Name: a.Name, URL: "http://" + web, Relay: a.Relay, Dials: a.Dials, Command: a.Command}
	b.Command.Args = slices.Clone(a.Command.Args)
	for i, arg := range b.Command.Args {
		switch {
		case strings.HasPrefix(arg, "--data.dir="):
			b.Command.Args[i] = "--data.dir=" + dataDir
		case strings.HasPrefix(arg, "--web.listen-address="):
			b.Command.Args[i] = "--web.listen-address=" + web
		}
	}
	return b
}

// TakesOver starts the agent and waits until it has a session of its own, whoever had one before.
func (a *Agent) TakesOver(t testing.TB) {
	t.Helper()
	before := a.Relay.Session(t, a.Name)
	a.StartAlone(t)
	a.Relay.WantBack(t, before)
	a.Attached(t)
}

// PushNoise pushes something that no compression makes small.
func (a *Agent) PushNoise(t testing.TB, job string, letters, value int) client.Response {
	t.Helper()
	got, err := client.Fetch(http.MethodPut, a.URL+"/metrics/job/"+job, strings.NewReader(fmt.Sprintf("# %s\n%s %d\n", faultdisk.Noise(letters), job, value)))
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// ErrModel is that there is something else than what was pushed.
var ErrModel = errors.New("model")

// WantOldest checks how old the agent says that the first push is which waits: what it is, or, if that cannot be known, not less
// than nothing.
func (a *Agent) WantOldest(t testing.TB, pushedAt time.Time, unknown bool) {
	t.Helper()
	age, there, err := client.ValueOf(a.URL, "relay_agent_spool_oldest_seconds")
	least, most := time.Since(pushedAt).Seconds()-2, time.Since(pushedAt).Seconds()
	if unknown {
		least = 0
	}
	if err != nil || !there || age < least || age > most {
		t.Errorf("the oldest push that waits is %v s old (there: %v), %v, want %v to %v", age, there, err, least, most)
	}
	var status struct {
		Data struct {
			Spool struct {
				OldestSeconds float64 `json:"oldest_seconds"`
			}
		}
	}
	if err := json.Unmarshal([]byte(client.MustGet(t, a.URL+"/api/v1/status")), &status); err != nil {
		t.Fatal(err)
	}
	if got := status.Data.Spool.OldestSeconds; got < least || got > most+1 {
		t.Errorf("the status says that it is %v s old, want %v to %v", got, least, most)
	}
}
