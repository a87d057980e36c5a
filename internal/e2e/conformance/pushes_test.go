//go:build linux

package conformance_test

import (
	"slices"
	"strings"
	"testing"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/gateway"
)

// hasMetadata says whether a wanted state has TYPE or HELP lines.
func hasMetadata(want string) bool { return strings.Contains(want, "# ") }

// repeat returns the request n times.
func repeat(n int, r gateway.Request) []gateway.Request {
	all := make([]gateway.Request, n)
	for i := range all {
		all[i] = r
	}
	return all
}

const (
	histogram = "# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 1\n"
	summary   = "# TYPE s summary\ns{quantile=\"0.5\"} 1\ns_sum 1\ns_count 1\n"
)

var pushBehaviours = []behaviour{
	{
		name: "put", do: []gateway.Request{gateway.Put("/job/j", "a 1\n")},
		want: `
			# TYPE a untyped
			a{instance="",job="j"} 1
			group{instance="",job="j"} pushed`,
	},
	{
		name: "post to a new group", do: []gateway.Request{gateway.Post("/job/j", "a 1\n")},
		want: `
			a{instance="",job="j"} 1
			group{instance="",job="j"} pushed`,
	},
	{
		name: "post adds families", do: []gateway.Request{gateway.Put("/job/j", "a 1\n"), gateway.Post("/job/j", "b 2\n")},
		want: `
			a{instance="",job="j"} 1
			b{instance="",job="j"} 2
			group{instance="",job="j"} pushed`,
	},
	{
		name: "put replaces the group", do: []gateway.Request{gateway.Put("/job/j", "a 1\nb 2\n"), gateway.Put("/job/j", "c 3\n")},
		want: `
			c{instance="",job="j"} 3
			group{instance="",job="j"} pushed`,
	},
	{
		name: "post replaces whole families", do: []gateway.Request{gateway.Post("/job/j", "m{x=\"1\"} 1\nm{x=\"2\"} 2\nn 1\n"), gateway.Post("/job/j", "m{x=\"3\"} 3\n")},
		want: `
			m{instance="",job="j",x="3"} 3
			n{instance="",job="j"} 1
			group{instance="",job="j"} pushed`,
	},
	{
		name: "empty post", do: []gateway.Request{gateway.Put("/job/j", "c 3\n"), gateway.Post("/job/j", "")},
		want: `
			c{instance="",job="j"} 3
			group{instance="",job="j"} pushed`,
		then: func(t *testing.T, g *gateway.Gateway) {
			const pushTime = `push_time_seconds{instance="", job="j"}`
			before, _, err := client.ValueOf(g.URL, pushTime)
			if err != nil {
				t.Fatal(err)
			}
			g.Check(t, gateway.Post("/job/j", ""))
			if after, _, err := client.ValueOf(g.URL, pushTime); err != nil || after <= before {
				t.Errorf("the push time went from %v to %v (%v), want it to increase", before, after, err)
			}
		},
	},
	{
		name: "empty put empties the group", do: []gateway.Request{gateway.Put("/job/j", "c 3\n"), gateway.Put("/job/j", "")},
		want: `group{instance="",job="j"} pushed`,
	},
	{
		name: "bodies without series", do: []gateway.Request{
			gateway.Put("/job/j", "# only this\n"), gateway.Put("/job/k", "\n\n"), gateway.Put("/job/l", "# TYPE zz gauge\n"),
		},
		want: `
			group{instance="",job="j"} pushed
			group{instance="",job="k"} pushed
			group{instance="",job="l"} pushed`,
	},
	{name: "delete", do: []gateway.Request{gateway.Put("/job/j", "a 1\n"), gateway.Del("/job/j", "")}},
	{name: "delete of what is not there", do: []gateway.Request{gateway.Del("/job/j", ""), gateway.Del("/job/k", "garbage")}},
	{
		name: "delete is exact", do: []gateway.Request{gateway.Put("/job/j/instance/i", "a 1\n"), gateway.Del("/job/j", "")},
		want: `
			a{instance="i",job="j"} 1
			group{instance="i",job="j"} pushed`,
	},
	{
		name: "delete, then put", do: []gateway.Request{gateway.Put("/job/j", "a 1\n"), gateway.Del("/job/j", ""), gateway.Put("/job/j", "b 1\n")},
		want: `
			b{instance="",job="j"} 1
			group{instance="",job="j"} pushed`,
	},
	{
		name: "labels of the path win", do: []gateway.Request{gateway.Put("/job/j/instance/i", "m{job=\"x\",instance=\"y\",k=\"v\"} 1\n")},
		want: `
			m{instance="i",job="j",k="v"} 1
			group{instance="i",job="j"} pushed`,
	},
	{
		name: "an instance of the body stays", do: []gateway.Request{gateway.Put("/job/j", "m{instance=\"bi\"} 1\n")},
		want: `
			m{instance="bi",job="j"} 1
			group{instance="",job="j"} pushed`,
	},
	{
		name: "labels of the path may make series equal", do: []gateway.Request{
			gateway.Put("/job/j", "m{job=\"x\",k=\"1\"} 1\nm{job=\"y\",k=\"1\"} 2\n").Refused("was collected before with the same name and label values"),
		},
		want: `group{instance="",job="j"} rejected`,
	},
	{
		name: "timestamps", do: []gateway.Request{
			gateway.Put("/job/j", "m 1 1000\n").Refused("pushed metrics are invalid or inconsistent with existing metrics: pushed metrics must not have timestamps\n"),
		},
		want: `group{instance="",job="j"} rejected`,
	},
	{
		name: "a rejected push leaves the group, and its failure stays", do: []gateway.Request{
			gateway.Put("/job/z", "m 1\n"), gateway.Put("/job/z", "n 1 5\n").Refused("must not have timestamps"),
			gateway.Ask("GET", "/api/v1/metrics", 200).Answered(200, `"last_push_successful":false`), gateway.Put("/job/z", "n 1\n"),
			gateway.Ask("GET", "/api/v1/metrics", 200).Answered(200, `"last_push_successful":true`),
		},
		want: `
			n{instance="",job="z"} 1
			group{instance="",job="z"} rejected pushed`,
	},
	{
		name: "delete takes the failure away", do: []gateway.Request{gateway.Put("/job/j", "m 1 1000\n").Refused("timestamps"), gateway.Del("/job/j", "")},
	},
	{
		name: "pushed push times are ignored", do: []gateway.Request{
			gateway.Put("/job/j", "push_time_seconds 5\n"), gateway.Put("/job/k", "push_failure_time_seconds 5\n"),
		},
		want: `
			group{instance="",job="j"} pushed
			group{instance="",job="k"} pushed`,
	},
	{
		// At the reference the second such push overrides the real time.
		name: "also the second time", do: repeat(2, gateway.Put("/job/j", "push_failure_time_seconds 5\n")), unlike: "shows 5",
		want: `group{instance="",job="j"} pushed`,
	},
}

var consistencyBehaviours = []behaviour{
	{
		name: "type of another group", do: []gateway.Request{
			gateway.Put("/job/a", "# TYPE m counter\nm 1\n"),
			gateway.Put("/job/b", "# TYPE m gauge\nm 1\n").Refused("is not a"),
			gateway.Put("/job/c", "m 1\n").Refused("is not a"),
		},
		want: `
			# TYPE m counter
			m{instance="",job="a"} 1
			group{instance="",job="a"} pushed
			group{instance="",job="b"} rejected
			group{instance="",job="c"} rejected`,
	},
	{
		// The reference's verdict depends on the order of a map, also about pushes that have nothing to do with it.
		name: "gauge histogram of another group", unlike: "answers 200 or 400 by chance", do: slices.Concat(
			[]gateway.Request{gateway.Put("/job/a", "# TYPE m gaugehistogram\nm_bucket{le=\"+Inf\"} 1\nm_sum 1\nm_count 1\n")},
			repeat(5, gateway.Put("/job/b", "# TYPE m gauge\nm 1\n").Refused("is not a GAUGE_HISTOGRAM")),
			repeat(5, gateway.Put("/job/c", "n 1\n")),
		),
		want: `
			m_bucket{instance="",job="a",le="+Inf"} 1
			m_sum{instance="",job="a"} 1
			m_count{instance="",job="a"} 1
			n{instance="",job="c"} 1
			group{instance="",job="a"} pushed
			group{instance="",job="b"} rejected
			group{instance="",job="c"} pushed`,
	},
	{
		name: "help of another group", do: []gateway.Request{
			gateway.Put("/job/a", "# HELP m A\n# TYPE m counter\nm 1\n"), gateway.Put("/job/b", "# HELP m B\n# TYPE m counter\nm 1\n"),
		},
		want: `
			m{instance="",job="a"} 1
			m{instance="",job="b"} 1
			group{instance="",job="a"} pushed
			group{instance="",job="b"} pushed`,
	},
	{
		name: "a group may change its types", do: []gateway.Request{gateway.Put("/job/a", "# TYPE m counter\nm 1\n"), gateway.Put("/job/a", "# TYPE m gauge\nm 1\n")},
		want: `
			# TYPE m gauge
			m{instance="",job="a"} 1
			group{instance="",job="a"} pushed`,
	},
	{
		name: "series of another group", do: []gateway.Request{
			gateway.Put("/job/a/k/v", "m 1\n"), gateway.Put("/job/a", "m{k=\"v\"} 2\n").Refused("was collected before"), gateway.Put("/job/a", "m{k=\"w\"} 2\n"),
		},
		want: `
			m{instance="",job="a",k="v"} 1
			m{instance="",job="a",k="w"} 2
			group{instance="",job="a",k="v"} pushed
			group{instance="",job="a"} rejected pushed`,
	},
	{
		name: "one series twice", do: []gateway.Request{gateway.Put("/job/j", "m 1\nm 2\n").Refused("was collected before")},
		want: `group{instance="",job="j"} rejected`,
	},
	{
		// The series of both groups are the same to Prometheus, which drops empty labels: the reference stores the second
		// one's times and is down from then on.
		name: "groups that differ by an empty label", unlike: poison, do: []gateway.Request{
			gateway.Put("/job/j", "m 1\n"), gateway.Put("/job/j/instance@base64/=", "n 1\n").Refused("inconsistent"),
		},
		want: `
			m{instance="",job="j"} 1
			group{instance="",job="j"} pushed`,
	},
	{
		// Which of the two the Pushgateway calls the previous one depends on the order of a map.
		name: "names that a histogram has taken", do: []gateway.Request{
			gateway.Put("/job/a", histogram),
			gateway.Put("/job/b", "h_count 1\n").Refused("collides with previously collected"),
			gateway.Put("/job/b", "h_sum 1\n").Refused("collides with previously collected"),
			gateway.Put("/job/b", "h_bucket 1\n").Refused("collides with previously collected"),
			gateway.Put("/job/c", "h_total 1\nh_created 1\n"),
		},
		want: `
			h_bucket{instance="",job="a",le="+Inf"} 1
			h_sum{instance="",job="a"} 1
			h_count{instance="",job="a"} 1
			h_total{instance="",job="c"} 1
			h_created{instance="",job="c"} 1
			group{instance="",job="a"} pushed
			group{instance="",job="b"} rejected
			group{instance="",job="c"} pushed`,
	},
	{
		name: "a summary that finds its names taken", do: []gateway.Request{
			gateway.Put("/job/b", "s_count 1\n"), gateway.Put("/job/a", summary).Refused("collides with previously collected"),
		},
		want: `
			s_count{instance="",job="b"} 1
			group{instance="",job="b"} pushed
			group{instance="",job="a"} rejected`,
	},
	{
		name: "a counter and its total", do: []gateway.Request{gateway.Put("/job/a", "# TYPE c counter\nc 1\n"), gateway.Put("/job/b", "c_total 1\n")},
		want: `
			c{instance="",job="a"} 1
			c_total{instance="",job="b"} 1
			group{instance="",job="a"} pushed
			group{instance="",job="b"} pushed`,
	},
	{
		name: "type of a metric of our own", do: []gateway.Request{
			gateway.Put("/job/j", "# TYPE go_goroutines counter\ngo_goroutines 5\n").Refused("gathered metric family go_goroutines has type COUNTER but should have GAUGE"),
		},
		want: `group{instance="",job="j"} rejected`,
	},
	{
		name: "a metric of our own name", do: []gateway.Request{
			gateway.Put("/job/j", "# TYPE go_goroutines gauge\ngo_goroutines 5\n# HELP go_info wrong\n# TYPE go_info gauge\ngo_info 7\n"),
			gateway.Ask("GET", "/metrics", 200).Answered(200, "# HELP go_info Information about the Go environment.\n"),
		},
		want: `
			go_goroutines{instance="",job="j"} 5
			go_info{instance="",job="j"} 7
			group{instance="",job="j"} pushed`,
	},
	{
		// As the very first push the reference takes it, and never answers 200 again. (The ones before have made its series.)
		name: "a metric that collides with the gateway's own", do: []gateway.Request{
			gateway.Put("/job/j", "pushgateway_http_push_size_bytes_count 1\n").Refused("pushgateway_http_push_size_bytes"),
		},
		want: `group{instance="",job="j"} rejected`,
	},
	{
		// S17: new names of ours must not turn pushes down that were taken before.
		name: "the relay's own names", unlike: "has no reserved names", do: []gateway.Request{
			gateway.Put("/job/j", "relay_scrapes_total 1\n").Refused("relay_scrapes_total"),
		},
		want: `group{instance="",job="j"} rejected`,
	},
	{
		name: "label names that nobody may have", do: []gateway.Request{
			gateway.Put("/job/j", "m{__x=\"1\"} 1\n").Refused("has a label with an invalid name: __x"),
		},
		want: `group{instance="",job="j"} rejected`,
	},
	{
		name: "quantile on a summary", do: []gateway.Request{gateway.Put("/job/j/quantile/x", summary).Refused("quantile")},
		want: `group{instance="",job="j",quantile="x"} rejected`,
	},
	{
		// The reference exposes two labels of that name, which Prometheus does not read.
		name: "le on a histogram", do: []gateway.Request{gateway.Put("/job/j/le/x", histogram).Refused("le")}, unlike: "takes it",
		want: `group{instance="",job="j",le="x"} rejected`,
	},
}

var uncheckedBehaviours = []behaviour{
	{
		name: "put", do: []gateway.Request{gateway.Put("/job/j", "m 1\n").Answered(202, "")},
		want: `
			m{instance="",job="j"} 1
			group{instance="",job="j"} pushed`,
	},
	{name: "malformed put", do: []gateway.Request{gateway.Put("/job/j", "blablabla\n").Refused("text format parsing error in line 1")}},
	{
		name: "timestamps", do: []gateway.Request{gateway.Put("/job/j", "m 1 1000\n").Answered(202, "")},
		want: `group{instance="",job="j"} rejected`,
	},
	{
		// The reference answers scrapes with 500 until somebody deletes one of the two.
		name: "type clash", unlike: "is down", do: []gateway.Request{
			gateway.Put("/job/a", "# TYPE m counter\nm 1\n").Answered(202, ""), gateway.Put("/job/b", "# TYPE m gauge\nm 2\nn 2\n").Answered(202, ""),
			gateway.Ask("GET", "/-/healthy", 200), gateway.Ask("GET", "/api/v1/metrics", 200).Answered(200, `"quarantined":"`),
		},
		want: `
			# TYPE m counter
			m{instance="",job="a"} 1
			# TYPE n untyped
			n{instance="",job="b"} 2
			group{instance="",job="a"} pushed
			group{instance="",job="b"} pushed`,
	},
	{
		name: "what was hidden comes out when the winner leaves", unlike: "is down", do: []gateway.Request{
			gateway.Put("/job/a", "# TYPE m counter\nm 1\n").Answered(202, ""), gateway.Put("/job/b", "# TYPE m gauge\nm 2\n").Answered(202, ""), gateway.Del("/job/a", ""),
		},
		want: `
			# TYPE m gauge
			m{instance="",job="b"} 2
			group{instance="",job="b"} pushed`,
	},
}
