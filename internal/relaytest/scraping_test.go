package relaytest_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/exporter"
	"pushrelay/internal/relaytest"
)

// configured writes the configuration file of an agent.
func configured(t *testing.T, text string) (file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "agent.yml")
	write(t, file, text)
	return file
}

// TestScrapeParameters: the parameters of a tunnelled job are those of the target, or they are refused.
func TestScrapeParameters(t *testing.T) {
	target := &exporter.Rows{}
	address := exporter.Serve(t, target)
	r := relaytest.Start(t, relaytest.Options(t))
	r.StartAgent(t, "site-a", configured(t, fmt.Sprintf(
		"scrape_configs:\n  - {job_name: metrics, params: {format: [prometheus], both: [a, b]}, static_configs: [{targets: [%q]}]}\n", address)))
	base := r.URL + "/agents/site-a/targets/metrics-" + address + "/metrics"
	for query, refused := range map[string]string{
		"": "", "?": "", "?format=prometheus": "", "?both=b": "", "?both=a&both=b&format=prometheus": "",
		"?format=json": `"format"`, "?module=x&target=y": `"module", "target"`, "?_agent=site-a": `"_agent"`,
	} {
		target.Last()
		got, err := client.Scrape(base + query)
		seen := target.Last()
		if refused != "" {
			client.WantReason(t, got, err, http.StatusBadRequest, "params_unknown")
			if !strings.Contains(got.Body, refused) || seen != nil {
				t.Errorf("%s: %q, want %s named; the target saw %v", query, got.Body, refused, seen)
			}
			continue
		}
		if err != nil || got.Status != http.StatusOK || seen == nil || seen.URL.RawQuery != "both=a&both=b&format=prometheus" {
			t.Errorf("%s: %d %s, %v; the target saw %v", query, got.Status, client.Clip(got.Body), err, seen)
		}
	}
}

// TestContestedTargets: what several agents announce is scraped through the one that is asked for, and through the one that
// had it first if nobody is, also after a restart of the relay (T26).
func TestContestedTargets(t *testing.T) {
	own, others := &exporter.Rows{}, &exporter.Rows{}
	address := exporter.Serve(t, own)
	squatting := fmt.Sprintf("scrape_configs: [{job_name: j, static_configs: [{targets: [%q], labels: {instance: %q}}]}]", exporter.Serve(t, others), address)
	opts := relaytest.Options(t)
	r := relaytest.Start(t, opts)
	first := r.StartAgent(t, "site-a", configured(t, fmt.Sprintf("scrape_configs: [{job_name: metrics, static_configs: [{targets: [%q]}]}]", address)))
	var second *relaytest.Agent
	url := "http://" + address + "/metrics"
	for _, tt := range []struct {
		name, url, query string
		by               *exporter.Rows // nil for none
		status           int
		reason           string
	}{
		{name: "one agent", url: url + "?a=b", query: "a=b", by: own, status: 200},
		{name: "another agent", url: url + "?_agent=site-b", status: 404, reason: "target_unknown"},
		{name: "two agents", url: url, by: own, status: 200}, // site-b has come
		{name: "first of two", url: url + "?_agent=site-a", by: own, status: 200},
		{name: "second of two", url: url + "?a=b&_agent=site-b&c=%2F", query: "a=b&c=%2F", by: others, status: 200},
		{name: "none of two", url: url + "?_agent=site-c", status: 404, reason: "target_unknown"},
		{name: "the first is away", url: url, status: 503, reason: "agent_offline"},
		{name: "relay restarted", url: url, status: 503, reason: "agent_offline"},
		{name: "second of two, then", url: url + "?_agent=site-b", by: others, status: 200},
	} {
		switch tt.name {
		case "two agents":
			second = r.StartAgent(t, "site-b", configured(t, squatting))
			client.WantSeries(t, r.URL, "relay_targets_contested_total", 1)
		case "the first is away":
			first.Stop()
			client.WantSeries(t, r.URL, `relay_agent_up{agent="site-a"}`, 0)
		case "relay restarted":
			r.Stop()
			r = relaytest.Start(t, restarted(t, opts, r.GRPCAddr().String()))
			r.WaitFor(t, second, "site-b")
		}
		t.Run(tt.name, func(t *testing.T) {
			own.Last()
			others.Last()
			got, err := client.ScrapeRequest{URL: tt.url, Proxy: r.URL}.Do()
			seen := own.Last()
			if byOthers := others.Last(); tt.by == others {
				seen = byOthers
			} else if byOthers != nil {
				t.Errorf("the other target was asked for %s", byOthers.URL)
			}
			if tt.reason != "" {
				client.WantReason(t, got, err, tt.status, tt.reason)
				if seen != nil {
					t.Errorf("the target was asked for %s", seen.URL)
				}
				return
			}
			if err != nil || got.Status != tt.status || got.Body != exporter.RowsBody {
				t.Fatalf("scrape = %d %s, %v", got.Status, client.Clip(got.Body), err)
			}
			if seen.URL.RawQuery != tt.query {
				t.Errorf("the target saw the query %q, want %q", seen.URL.RawQuery, tt.query)
			}
		})
	}
	// The host is listed once, whoever announces it.
	if got, err := client.Fetch(http.MethodGet, r.URL+"/clients", nil); err != nil || got.Body != fmt.Sprintf("[{\"targets\":[%q],\"labels\":{}}]\n", "127.0.0.1") {
		t.Errorf("/clients = %q, %v", got.Body, err)
	}
}

// TestClients: as at a PushProx, of whose rows these are 26 to 29, the list has everybody who is attached, for as long as they are, scraped or not,
// and nobody gets into it without a certificate.
func TestClients(t *testing.T) {
	r := relaytest.Start(t, relaytest.Options(t))
	r.StartAgent(t, "site-a", configured(t, `scrape_configs: [{job_name: metrics, static_configs: [{targets: ["127.0.0.1:1"]}]}]`))
	// 29: there is no /poll to register at.
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		if got, err := client.Fetch(method, r.URL+"/poll", nil); err != nil || got.Status != 404 && got.Status != 405 {
			t.Errorf("%s /poll: %d, %v, want 404 or 405", method, got.Status, err)
		}
	}
	got, err := client.Fetch(http.MethodGet, r.URL+"/clients", nil)
	if err != nil || got.Status != http.StatusOK || got.Header.Get("Content-Type") != "application/json" {
		t.Fatalf("/clients: %d %v, %v", got.Status, got.Header, err)
	}
	type group struct {
		Targets []string
		Labels  map[string]string
	}
	var clients []group
	if err := json.Unmarshal([]byte(got.Body), &clients); err != nil {
		t.Fatal(err)
	}
	// 27: nobody has scraped yet. 28: so there is nothing that a scrape would have to bring back.
	if diff := cmp.Diff([]group{{Targets: []string{"127.0.0.1"}, Labels: map[string]string{}}}, clients); diff != "" {
		t.Errorf("/clients (-want +got):\n%s", diff)
	}
}
