package relaytest_test

import (
	"strings"
	"testing"

	"pushrelay/internal/agent"
	"pushrelay/internal/relaytest"
)

// TestMeaningOutlivesRestarts: a path means the same, and what no relay takes is refused, whether a relay was met before the agent's start or since.
func TestMeaningOutlivesRestarts(t *testing.T) {
	opts := relaytest.Options(t)
	opts.EnableUTF8Names = true
	r := relaytest.Start(t, opts)
	a := r.StartAgent(t, "site-1", "")
	address := r.GRPCAddr().String()
	push := func(when, path, body string, want int, says string) {
		t.Helper()
		status, answer := relaytest.Do(t, "PUT", a.URL+"/metrics/job/u"+path, body)
		wantStatus(t, when+", "+path, status, answer, want)
		if !strings.Contains(answer, says) {
			t.Errorf("%s, %s says %q, want %q in it", when, path, answer, says)
		}
	}
	const foreign = "gathered metric family go_goroutines has type COUNTER but should have GAUGE"
	push("attached", "/U__foo_2e_baz/1", "m 1\n", 200, "")
	push("attached", "/foo.bar/1", "m 1\n", 200, "")
	push("attached", "/own/1", "# TYPE go_goroutines counter\ngo_goroutines 1\n", 400, foreign)
	push("attached", "/own/2", "# TYPE pushgateway_http_requests_total gauge\npushgateway_http_requests_total 1\n", 400, "should have COUNTER")

	r.Stop()
	a = a.Restart(t, nil)
	push("away", "/U__foo_2e_baz/1", "m 2\n", 202, "")
	push("away", "/foo.bar/1", "m 2\n", 202, "")
	push("away", "/own/1", "# TYPE go_goroutines counter\ngo_goroutines 1\n", 400, foreign)
	push("away", "/own/2", "# TYPE pushgateway_http_requests_total gauge\npushgateway_http_requests_total 1\n", 400, "should have COUNTER")
	push("away", "/own/3", "# TYPE go_goroutines gauge\ngo_goroutines 1\n", 202, "")

	// One that has no relay to remember guesses nothing. What means the same either way is taken.
	var kept string
	a = a.Restart(t, func(o *agent.Options) { kept, o.DataDir = o.DataDir, "" })
	push("never met", "/U__foo_2e_baz/1", "m 3\n", 503, "no relay was met that could say whether it takes UTF-8 names")
	push("never met", "/foo.bar/1", "m 3\n", 503, "push again once one is attached: relay "+address+" is not attached")
	push("never met", "/U__in_xxx_valid/1", "m 3\n", 202, "")
	push("never met", "/a-b@base64/*", "m 3\n", 400, "improper label name")
	push("never met", "/__a/1", "m 3\n", 400, "__a")
	a = a.Restart(t, func(o *agent.Options) { o.DataDir = kept })

	opts.GRPCListenAddress, opts.Web = address, relaytest.Options(t).Web
	opts.Logger = relaytest.Options(t).Logger
	r = relaytest.Start(t, opts)
	var metrics string
	relaytest.Eventually(t, "what waited is at the relay", func() bool {
		_, metrics = relaytest.Get(t, r.URL+"/api/v1/metrics")
		return strings.Contains(metrics, `"own":"3"`)
	})
	for _, label := range []string{`"foo.baz":"1"`, `"foo.bar":"1"`} {
		if !strings.Contains(metrics, label) {
			t.Errorf("no group has %s: %s", label, metrics)
		}
	}
	if strings.Contains(metrics, "U__") {
		t.Errorf("a name was not decoded: %s", metrics)
	}
}
