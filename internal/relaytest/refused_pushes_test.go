package relaytest_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/relaytest"
)

// TestRefusedPushes: whatever a push is refused for, the pages have it with its reason.
func TestRefusedPushes(t *testing.T) {
	opts := relaytest.Options(t)
	opts.PushLimits.MaxBodyBytes = 1000
	r := relaytest.Start(t, opts)
	for path, body := range map[string]string{"job/unread": "no text\n", "job/large": strings.Repeat("m 1\n", 1000), "job/odd/instance": "m 1\n", "job/self": "m 1\nm 1\n"} {
		if status, answer := relaytest.Do(t, "PUT", r.URL+"/metrics/"+path, body); status/100 != 4 {
			t.Errorf("PUT %s is %d %s", path, status, answer)
		}
	}
	_, first := relaytest.Get(t, r.URL+"/")
	if !strings.Contains(first, `href="refused"><b>4</b>`) {
		t.Errorf("the first page is %s", first)
	}
	_, all := relaytest.Get(t, r.URL+"/refused")
	for _, want := range []string{`job=<b>"unread"</b>`, `job=<b>"large"</b>`, `job=<b>"self"</b>`, "larger than 1000 bytes", "odd number of components"} {
		if !strings.Contains(all, want) {
			t.Errorf("%q is not in %s", want, all)
		}
	}
	for _, job := range []string{"unread", "large", "self"} {
		if status, page := relaytest.Get(t, r.URL+"/group/job/"+job); status != 200 || !strings.Contains(page, "refused: ") {
			t.Errorf("the page of the group %s is %d: %s", job, status, page)
		}
	}
}

// TestRefusedPush: what is wrong with a push is said in one line, at the agent's port as at the relay's, and nothing of it
// is kept.
func TestRefusedPush(t *testing.T) {
	r := relaytest.Start(t, relaytest.Options(t))
	a := r.StartAgent(t, "site-a", "")
	client.Push(t, r.URL+"/metrics/job/owner/instance/x", "# TYPE taken counter\ntaken 1\n")
	tests := []struct{ name, path, body, reason string }{
		{"no exposition", "/metrics/job/j", "blablabla", "line 1"},
		{"timestamps", "/metrics/job/j", "m 1 1000\n", "timestamp"},
		{"the same series twice", "/metrics/job/j", "m 1\nm 2\n", "m"},
		{"another type than elsewhere", "/metrics/job/j", "# TYPE taken gauge\ntaken 1\n", "taken"},
		{"an impossible label name", "/metrics/job/j/a-b/c", "m 1\n", "a-b"},
		{"a label without value", "/metrics/job/j/a", "m 1\n", "/a"},
	}
	for _, to := range []struct{ name, url, agentLabel string }{{"relay", r.URL, ""}, {"agent", a.URL, `agent="site-a", `}} {
		for _, tt := range tests {
			t.Run(tt.name+" at the "+to.name, func(t *testing.T) {
				got, err := client.Fetch(http.MethodPut, to.url+tt.path, strings.NewReader(tt.body))
				if err != nil {
					t.Fatal(err)
				}
				if got.Status != http.StatusBadRequest || !strings.Contains(got.Body, tt.reason) {
					t.Errorf("PUT %s: %d %q, want 400 with %q", tt.path, got.Status, got.Body, tt.reason)
				}
				if strings.Count(strings.TrimSpace(got.Body), "\n") > 0 {
					t.Errorf("PUT %s: the reason has more than one line: %q", tt.path, got.Body)
				}
				client.WantNoSeries(t, r.URL, fmt.Sprintf(`m{%sinstance="", job="j"}`, to.agentLabel))
			})
		}
	}
	// The page as a whole survives all of them.
	client.WantSeries(t, r.URL, `taken{instance="x", job="owner"}`, 1)
}
