//go:build unix

package main

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/common/promslog"
	"github.com/prometheus/common/route"

	"pushrelay/internal/agentapi"
	"pushrelay/internal/change"
	"pushrelay/internal/lifetime"
	"pushrelay/internal/push"
)

// fakeAgent keeps what is pushed to it.
type fakeAgent struct{ pushed []*change.Change }

func (a *fakeAgent) Apply(_ context.Context, c *change.Change) change.Outcome {
	kept := *c
	kept.Body = bytes.Clone(c.Body)
	a.pushed = append(a.pushed, &kept)
	return change.Outcome{Kind: change.Applied}
}

// start serves the agent's push routes, and says where.
func (a *fakeAgent) start(t *testing.T) (address string) {
	t.Helper()
	r := route.New()
	push.NewHandler(push.HandlerConfig{Applier: a, Logger: promslog.NewNopLogger()}).Mount(r, func(_ string, h http.HandlerFunc) http.HandlerFunc { return h })
	r.Get("/-/healthy", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set(agentapi.AgentHeader, "1") })
	s := httptest.NewServer(r)
	t.Cleanup(s.Close)
	return s.URL
}

// metricsFile is a file to push.
func metricsFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "m.prom")
	if err := os.WriteFile(path, []byte("m 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestLifeFlags: push and exec declare what their flags say, with every push; exec says that the command failed.
func TestLifeFlags(t *testing.T) {
	flags := []string{"--ttl=72h", "--every=24h", "--grace=30m"}
	want := lifetime.Texts{TTL: "3d", Every: "1d", Grace: "30m"}
	for _, tt := range []struct {
		name   string
		args   []string
		pushes int
		failed string
	}{
		{name: "push", args: append([]string{"push", "--job=j", metricsFile(t)}, flags...), pushes: 1},
		{name: "replace", args: append([]string{"push", "--job=j", "--replace", metricsFile(t)}, flags...), pushes: 1},
		{name: "exec", args: append(append([]string{"exec", "--job=j"}, flags...), "--", "true"), pushes: 1},
		{name: "exec that fails", args: append(append([]string{"exec", "--job=j"}, flags...), "--", "false"), pushes: 1, failed: "exit status 1"},
		{name: "exec with its start", args: append(append([]string{"exec", "--job=j", "--report-start"}, flags...), "--", "false"), pushes: 2, failed: "exit status 1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var agent fakeAgent
			t.Setenv("RELAY_AGENT_ADDRESS", agent.start(t))
			var said bytes.Buffer
			if code := run(tt.args, &said, &said); (code != 0) != (tt.failed != "") || said.Len() > 0 {
				t.Errorf("exit code %d: %s", code, said.String())
			}
			if len(agent.pushed) != tt.pushes {
				t.Fatalf("%d pushes, want %d", len(agent.pushed), tt.pushes)
			}
			for _, c := range agent.pushed {
				if c.Life.Texts() != want {
					t.Errorf("pushed with %+v", c.Life.Texts())
				}
			}
			if last := agent.pushed[tt.pushes-1]; last.Failed != tt.failed || agent.pushed[0] != last && agent.pushed[0].Failed != "" {
				t.Errorf("the last push says %q, want %q", last.Failed, tt.failed)
			}
		})
	}
}

// TestWrongLifeFlags: they are told by their names, before anything is run or pushed.
func TestWrongLifeFlags(t *testing.T) {
	ran := filepath.Join(t.TempDir(), "ran")
	for _, tt := range []struct {
		flags []string
		says  string
	}{
		{[]string{"--ttl=tomorrow"}, `--ttl: ttl is "tomorrow", want a duration such as 30m`},
		{[]string{"--every=1.5h"}, "--every: "},
		{[]string{"--grace=-1h"}, "--grace: "},
		{[]string{"--schedule=daily"}, `--schedule: schedule "daily" has not just five fields`},
		{[]string{"--every=1h", "--schedule=0 0 * * *"}, "every and schedule are both set"},
	} {
		var agent fakeAgent
		t.Setenv("RELAY_AGENT_ADDRESS", agent.start(t))
		for code, args := range map[int][]string{
			exitUsage:     append([]string{"push", "--job=j", metricsFile(t)}, tt.flags...),
			exitExecUsage: append(append([]string{"exec", "--job=j"}, tt.flags...), "--", "touch", ran),
		} {
			var said bytes.Buffer
			if got := run(args, &said, &said); got != code || !strings.Contains(said.String(), tt.says) || strings.Count(said.String(), "\n") != 1 {
				t.Errorf("%q: exit code %d, %q, want %d and %q", args, got, said.String(), code, tt.says)
			}
		}
		if _, err := os.Stat(ran); err == nil || len(agent.pushed) > 0 {
			t.Errorf("%q: it was run or pushed", tt.flags)
		}
	}
}
