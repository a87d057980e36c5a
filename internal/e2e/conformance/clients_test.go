//go:build linux

package conformance_test

import (
	"fmt"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	clientpush "github.com/prometheus/client_golang/prometheus/push"
	"github.com/prometheus/common/expfmt"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/house"
	"pushrelay/internal/e2e/program"
)

// A destination is where people push to: the relay itself, or the agent beside them.
type destination struct {
	name string
	url  string
	// agentLabel is what the relay adds to the labels, as it is written first among them.
	agentLabel string
}

// destinations starts a relay with one agent. The series of both end up on the relay's page.
func destinations(t *testing.T) (relayURL string, all []destination) {
	t.Helper()
	relay := house.StartRelay(t)
	agent := house.StartAgent(t, relay, "site-a", "scrape_configs: []\n")
	return relay.URL, []destination{
		{"relay", relay.URL, ""},
		{"agent", agent.URL, `agent="site-a", `},
	}
}

// A library pushes one gauge in the ways that every client library offers: replacing the group, adding to it, deleting it. It has some way to
// set headers, by which mortal replaces the group and says that it expires after an hour, and count adds a counter to that of the group.
type library struct {
	push   func(t *testing.T, url, job, metric string, value float64)
	add    func(t *testing.T, url, job, metric string, value float64)
	mortal func(t *testing.T, url, job, metric string, value float64)
	count  func(t *testing.T, url, job, metric string, value float64)
	delete func(t *testing.T, url, job string)
}

// testLibrary takes one group through its life and looks at the relay's page after each step.
func testLibrary(t *testing.T, relayURL string, to destination, job string, lib library) {
	t.Helper()
	series := func(metric string) string {
		return fmt.Sprintf(`%s{%sinstance="i 1/2", job=%q}`, metric, to.agentLabel, job)
	}
	lib.push(t, to.url, job, "first", 1)
	client.WantSeries(t, relayURL, series("first"), 1)

	lib.add(t, to.url, job, "second", 2.5)
	client.WantSeries(t, relayURL, series("second"), 2.5)
	client.WantSeries(t, relayURL, series("first"), 1)

	lib.mortal(t, to.url, job, "mortal", 4)
	client.WantSeries(t, relayURL, series("mortal"), 4)
	wantHourToLive(t, relayURL, series)

	for sum := range 3 {
		lib.count(t, to.url, job, "counted_total", 2)
		client.WantSeries(t, relayURL, series("counted_total"), 2*float64(sum+1))
	}
	client.WantSeries(t, relayURL, series("mortal"), 4)

	lib.push(t, to.url, job, "third", 3)
	client.WantSeries(t, relayURL, series("third"), 3)
	client.WantNoSeries(t, relayURL, series("first"))
	client.WantNoSeries(t, relayURL, series("second"))

	lib.delete(t, to.url, job)
	client.WantNoSeries(t, relayURL, series("third"))
	client.WantNoSeries(t, relayURL, series("push_time_seconds"))
}

// wantHourToLive checks that the group whose series have those names expires an hour after its last push.
func wantHourToLive(t testing.TB, relayURL string, series func(metric string) string) {
	t.Helper()
	all, err := client.ScrapeSeries(relayURL)
	if err != nil {
		t.Fatal(err)
	}
	pushed, expiry := all[series("push_time_seconds")], all[series("push_expiry_timestamp_seconds")]
	if lives := expiry - pushed; lives < 3599.9 || lives > 3600.1 {
		t.Errorf("what is pushed at %v expires at %v, want an hour later", pushed, expiry)
	}
}

// groupingInstance has what a URL cannot carry plainly, so that each library has to encode it in its own way.
const groupingInstance = "i 1/2"

func TestPushWithClientGolang(t *testing.T) {
	t.Parallel()
	relayURL, all := destinations(t)
	formats := map[string]expfmt.Format{
		"protobuf": expfmt.NewFormat(expfmt.TypeProtoDelim),
		"text":     expfmt.NewFormat(expfmt.TypeTextPlain),
	}
	for format, f := range formats {
		for _, to := range all {
			t.Run(format+" to the "+to.name, func(t *testing.T) {
				t.Parallel()
				pusher := func(url, job, metric string, value float64) *clientpush.Pusher {
					gauge := prometheus.NewGauge(prometheus.GaugeOpts{Name: metric, Help: "Pushed."})
					gauge.Set(value)
					return clientpush.New(url, job).Grouping("instance", groupingInstance).Format(f).Collector(gauge)
				}
				must := func(t *testing.T, err error) {
					t.Helper()
					if err != nil {
						t.Fatal(err)
					}
				}
				testLibrary(t, relayURL, to, "golang-"+format, library{
					push: func(t *testing.T, url, job, metric string, value float64) {
						must(t, pusher(url, job, metric, value).Push())
					},
					add: func(t *testing.T, url, job, metric string, value float64) {
						must(t, pusher(url, job, metric, value).Add())
					},
					mortal: func(t *testing.T, url, job, metric string, value float64) {
						must(t, pusher(url, job, metric, value).Header(http.Header{"Push-Ttl": {"1h"}}).Push())
					},
					count: func(t *testing.T, url, job, metric string, value float64) {
						counter := prometheus.NewCounter(prometheus.CounterOpts{Name: metric, Help: "Pushed."})
						counter.Add(value)
						added := http.Header{"Push-Operation": {"add"}}
						must(t, clientpush.New(url, job).Grouping("instance", groupingInstance).Format(f).Collector(counter).Header(added).Add())
					},
					delete: func(t *testing.T, url, job string) {
						must(t, clientpush.New(url, job).Grouping("instance", groupingInstance).Delete())
					},
				})
			})
		}
	}
}

// pythonScript is called with the name of a function, URL, job, instance, metric and value.
const pythonScript = `
import sys
from prometheus_client import CollectorRegistry, Counter, Gauge, push_to_gateway, pushadd_to_gateway, delete_from_gateway
from prometheus_client.exposition import default_handler

def with_ttl(url, method, timeout, headers, data):
    return default_handler(url, method, timeout, headers + [("Push-TTL", "1h")], data)

def adding(url, method, timeout, headers, data):
    return default_handler(url, method, timeout, headers + [("Push-Operation", "add")], data)

verb, url, job, instance, metric, value = sys.argv[1:]
key = {"instance": instance}
if verb == "delete":
    delete_from_gateway(url, job=job, grouping_key=key)
elif verb == "count":
    registry = CollectorRegistry()
    Counter(metric, "Pushed.", registry=registry).inc(float(value))
    pushadd_to_gateway(url, job=job, registry=registry, grouping_key=key, handler=adding)
else:
    registry = CollectorRegistry()
    Gauge(metric, "Pushed.", registry=registry).set(float(value))
    handler = with_ttl if verb == "mortal" else default_handler
    push = pushadd_to_gateway if verb == "add" else push_to_gateway
    push(url, job=job, registry=registry, grouping_key=key, handler=handler)
`

func TestPushWithPython(t *testing.T) {
	t.Parallel()
	program.RequireProgram(t, "/usr/lib/python3/dist-packages/prometheus_client/__init__.py", "python3-prometheus-client")
	script := filepath.Join(t.TempDir(), "push.py")
	client.WriteFile(t, script, pythonScript)
	relayURL, all := destinations(t)
	for _, to := range all {
		t.Run("to the "+to.name, func(t *testing.T) {
			t.Parallel()
			python := func(t *testing.T, verb, url, job, metric string, value float64) {
				t.Helper()
				// Debian's own interpreter: another one of the same name does not see Debian's packages.
				program.MustOutput(t, program.Command{Path: "/usr/bin/python3", Args: []string{
					script, verb, url, job, groupingInstance, metric, fmt.Sprint(value),
				}})
			}
			testLibrary(t, relayURL, to, "python", library{
				push: func(t *testing.T, url, job, metric string, value float64) {
					python(t, "push", url, job, metric, value)
				},
				add: func(t *testing.T, url, job, metric string, value float64) {
					python(t, "add", url, job, metric, value)
				},
				mortal: func(t *testing.T, url, job, metric string, value float64) {
					python(t, "mortal", url, job, metric, value)
				},
				count: func(t *testing.T, url, job, metric string, value float64) {
					python(t, "count", url, job, metric, value)
				},
				delete: func(t *testing.T, url, job string) { python(t, "delete", url, job, "-", 0) },
			})
		})
	}
}

func TestPushWithCurl(t *testing.T) {
	t.Parallel()
	path := program.RequireProgram(t, "/usr/bin/curl", "curl")
	relayURL, all := destinations(t)
	for _, to := range all {
		t.Run("to the "+to.name, func(t *testing.T) {
			t.Parallel()
			curl := func(t *testing.T, method, url, job, body string, flags ...string) {
				t.Helper()
				c := program.Command{Path: path, Args: []string{"--silent", "--show-error", "--fail-with-body", "--request", method}}
				if body != "" {
					c.Args = append(c.Args, "--data-binary", "@-")
				}
				c.Args = append(append(c.Args, flags...), url+"/metrics/job/"+job+"/instance@base64/aSAxLzI")
				if r := program.OutputWithInput(t, c, body); r.Code != 0 {
					t.Fatalf("curl %s: exit code %d: %s%s", method, r.Code, r.Stdout, r.Stderr)
				}
			}
			testLibrary(t, relayURL, to, "curl", library{
				push: func(t *testing.T, url, job, metric string, value float64) {
					curl(t, http.MethodPut, url, job, fmt.Sprintf("%s %v\n", metric, value))
				},
				add: func(t *testing.T, url, job, metric string, value float64) {
					curl(t, http.MethodPost, url, job, fmt.Sprintf("%s %v\n", metric, value))
				},
				mortal: func(t *testing.T, url, job, metric string, value float64) {
					curl(t, http.MethodPut, url, job, fmt.Sprintf("%s %v\n", metric, value), "-H", "Push-TTL: 1h")
				},
				count: func(t *testing.T, url, job, metric string, value float64) {
					curl(t, http.MethodPost, url, job, fmt.Sprintf("# TYPE %s counter\n%s %v\n", metric, metric, value), "-H", "Push-Operation: add")
				},
				delete: func(t *testing.T, url, job string) { curl(t, http.MethodDelete, url, job, "") },
			})
		})
	}
}
