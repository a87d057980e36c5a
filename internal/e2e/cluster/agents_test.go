//go:build linux

package cluster_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/program"
)

// An agent has a session with each relay, and itself for a target.
type agent struct {
	*program.Process

	name, url string
	command   program.Command
}

// startAgent lets an agent in, and waits until it is attached to all.
func (s *site) startAgent(t testing.TB, name string) *agent {
	t.Helper()
	return s.startAgentOf(t, program.RelayAgent(), name)
}

// startAgentOf is startAgent for another program.
func (s *site) startAgentOf(t testing.TB, relayAgent, name string) *agent {
	t.Helper()
	dir, web := t.TempDir(), program.FreeAddress(t)
	token := []string{"agents", "token", name}
	for _, m := range s.members {
		token = append(token, "--relay.address="+m.link)
	}
	text := strings.TrimSpace(s.members[0].run(t, token...))
	program.MustOutput(t, program.Command{Path: relayAgent, Dir: dir, Args: []string{"enroll", "--data.dir=data", text}})
	client.WriteFile(t, dir+"/agent.yml", fmt.Sprintf("scrape_configs:\n  - job_name: self\n    static_configs: [{targets: [%q]}]\n", web))
	a := &agent{name: name, url: "http://" + web, command: program.Command{Path: relayAgent, Dir: dir, Args: []string{
		"--data.dir=data", "--config.file=agent.yml", "--web.listen-address=" + web,
	}}}
	a.Process = program.Start(t, a.command)
	program.WaitReady(t, a.Process, a.url)
	for _, m := range s.members {
		client.WantSeries(t, a.url, fmt.Sprintf(`relay_agent_connected{relay=%q}`, m.link), 1)
	}
	return a
}

// targetPath is where a relay has the agent's target.
func (a *agent) targetPath() string {
	return fmt.Sprintf("/agents/%s/targets/self-%s/metrics", a.name, strings.TrimPrefix(a.url, "http://"))
}

// addOne adds one at an agent. Who asks closes the answer's body.
func (a *agent) addOne(ctx context.Context, by *http.Client) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, a.url+"/metrics/job/added", strings.NewReader("# TYPE added counter\nadded 1\n"))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Push-Operation", "add")
	return by.Do(r)
}

// addedBy is the series of what an agent adds to.
func addedBy(agent string) string {
	return fmt.Sprintf(`added{agent=%q, instance="", job="added"}`, agent)
}

// pushThrough adds one at an agent, again and again. What the agent takes, at once or later, is to be counted once.
func (l *load) pushThrough(ctx context.Context, a *agent) {
	for ctx.Err() == nil {
		resp, err := a.addOne(context.WithoutCancel(ctx), l.client)
		if err != nil {
			l.t.Errorf("a push at %s: %v", a.name, err)
			return
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusAccepted {
			l.t.Errorf("a push at %s: %s", a.name, resp.Status)
			return
		}
		l.mu.Lock()
		l.added[a.name]++
		l.mu.Unlock()
		client.Pause(ctx, 4*l.pause)
	}
}

// scrapeThrough scrapes the agent's target through one relay after the other, and notes for how long none of them answered.
func (l *load) scrapeThrough(ctx context.Context, a *agent) {
	away := time.Time{}
	for turn := 0; ctx.Err() == nil; turn++ {
		m := l.members[turn%len(l.members)]
		r, err := client.Fetch(http.MethodGet, m.url+a.targetPath(), nil)
		switch {
		case err == nil && r.Status == http.StatusOK:
			if !strings.Contains(r.Body, "relay_agent_connected") {
				l.t.Errorf("a scrape of %s through %s is not whole", a.name, m.name)
			}
			away = time.Time{}
			l.tunnelled.Add(1)
		case away.IsZero():
			away = time.Now()
		default:
			l.mu.Lock()
			l.away = max(l.away, time.Since(away))
			l.mu.Unlock()
		}
		client.Pause(ctx, 10*l.pause)
	}
}

// wantAdded waits until each relay has counted what each agent took, once.
func (l *load) wantAdded() {
	l.t.Helper()
	for _, m := range l.members {
		for name, n := range l.added {
			client.WantSeries(l.t, m.url, addedBy(name), float64(n))
		}
	}
}
