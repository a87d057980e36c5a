package series_test

import (
	"fmt"
	"strings"
	"testing"

	"pushrelay/internal/exposition"
	"pushrelay/internal/grouping"
	"pushrelay/internal/metric"
	"pushrelay/internal/series"
)

func parse(tb testing.TB, text string) *exposition.Body {
	tb.Helper()
	body, err := new(exposition.Parser).ParseText([]byte(text), exposition.Options{Names: metric.UTF8Names})
	if err != nil {
		tb.Fatalf("ParseText(%q): %v", text, err)
	}
	return body
}

func keyOf(tb testing.TB, pairs ...string) grouping.Key {
	tb.Helper()
	var labels []grouping.Label
	for i := 0; i < len(pairs); i += 2 {
		labels = append(labels, grouping.Label{Name: pairs[i], Value: pairs[i+1]})
	}
	key, err := grouping.New(labels...)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

func TestCheck(t *testing.T) {
	const before = "was collected before with the same name and label values"
	many, told := "", ""
	for i := range 36 {
		if i < 10 {
			told += fmt.Sprintf("; collected metric \"m%02d\" {} ", i) + before
		}
		many += fmt.Sprintf("m%02d 1\nm%02d 1\n", i, i)
	}
	told = told[len("; "):]
	for _, tt := range []struct {
		name, body string
		key, added []string
		want       string // of the reason; empty if there is none
	}{
		{name: "sound", body: "m 1\nm{a=\"b\"} 2\n# TYPE h histogram\nh_sum 1\nh_other 1\n"},
		{name: "empty", body: ""},
		{name: "timestamp", body: "m 1\nm{a=\"b\"} 2 5\n", want: "pushed metrics must not have timestamps"},
		{name: "timestamp of what is ignored", body: "push_time_seconds 1 5\n", want: "pushed metrics must not have timestamps"},
		{name: "ignored", body: "push_time_seconds 1\npush_time_seconds 1\npush_failure_time_seconds 1\n"},
		{name: "twice", body: "m{a=\"b\"} 1\nm{c=\"d\"} 1\nm{a=\"b\"} 2\n", want: `collected metric "m" {a="b"} ` + before},
		{name: "twice without what is empty", body: "m{a=\"b\"} 1\nm{a=\"b\",c=\"\"} 2\n", want: `collected metric "m" {a="b",c=""} ` + before},
		{name: "twice with the implicit instance", body: "m{instance=\"\"} 1\nm 2\n", want: `collected metric "m" {} ` + before},
		{name: "instance of its own", body: "m{instance=\"i\"} 1\nm 2\n"},
		{name: "twice under the key", body: "m{job=\"a\"} 1\nm{job=\"b\"} 2\n", want: `collected metric "m" {} ` + before + " once the labels of the group have taken the place of its own job"},
		{name: "instance of the key", body: "m{instance=\"a\"} 1\nm{instance=\"b\"} 2\n", key: []string{"instance", "i"}, want: `collected metric "m" {} ` + before + " once the labels of the group have taken the place of its own instance"},
		{name: "summaries twice", body: "# TYPE s summary\ns_sum{a=\"\"} 1\ns_sum 1\n", want: `collected metric "s" {a=""} ` + before},
		{name: "le of the key", body: "# TYPE h histogram\nh_sum 1\n", key: []string{"le", "1"}, want: `collected metric "h" {} must not have an explicit "le" label`},
		{name: "le of a summary", body: "# TYPE h summary\nh_sum 1\n", key: []string{"le", "1"}},
		{name: "quantile of the key", body: "# TYPE s summary\ns_sum 1\n", key: []string{"quantile", "1"}, want: `collected metric "s" {} must not have an explicit "quantile" label`},
		{name: "reserved", body: "relay_scrapes_total 1\n", want: `collected metric "relay_scrapes_total" has a reserved name: it is the relay's own`},
		{name: "series of a reserved histogram", body: "relay_push_duration_seconds_bucket 1\n", want: `collected metric "relay_push_duration_seconds_bucket" has a reserved name: it is the relay's own`},
		{name: "reserved for agents", body: "relay_agent_x 1\n", want: `collected metric "relay_agent_x" has a reserved name: it is the relay's own`},
		{name: "reserved for later", body: "push_up 1\n", want: `collected metric "push_up" has a reserved name: it is the relay's own`},
		{name: "of another relay", body: "relay_x 1\nrelay_switches_total 2\npush_upper 3\n"},
		{name: "name with a NUL", body: "{\"a\x00\"} 1\n", want: `collected metric "a\x00" has a name that cannot be exposed`},
		{name: "label with a NUL", body: "m{\"a\x00\"=\"\"} 1\n", want: "collected metric \"m\" {\"a\x00\"=\"\"} has a label with an invalid name: a\x00"},
		{name: "key with a NUL", body: "m 1\n", key: []string{"a\x00", "b"}, want: "collected metric \"push_time_seconds\" {} has a label with an invalid name: a\x00"},
		{name: "count of a histogram", body: "h_count 1\n# TYPE h histogram\nh_sum 1\n", want: `collected metric named "h_count" collides with previously collected histogram named "h"`},
		{name: "bucket of a summary", body: "s_bucket 1\n# TYPE s summary\ns_sum 1\n"},
		{name: "sum of a summary", body: "s_sum 1\n# TYPE s summary\ns_count 1\n", want: `collected metric named "s_sum" collides with previously collected summary named "s"`},
		{name: "all by name", body: "z 1\nz 1\npush_up 1\nm 1\nm 1\n", want: `collected metric "m" {} ` + before + `; collected metric "push_up" has a reserved name: it is the relay's own; collected metric "z" {} ` + before},
		{name: "more than anybody reads", body: many, want: told + "; and 26 more"},
		{name: "count of a faulty histogram", body: "h_count 1\n# TYPE h histogram\nh_sum 1\n", key: []string{"le", "1"}, want: `collected metric "h" {} must not have an explicit "le" label`},
		{name: "label of the agent", body: "m{agent=\"a\"} 1\nm{agent=\"b\"} 2\n", key: []string{"agent", "x"}, added: []string{"agent"}},
		{name: "label of the agent, taken", body: "m{agent=\"a\"} 1\nm{exported_agent=\"a\"} 2\n", key: []string{"agent", "x"}, added: []string{"agent"}, want: `collected metric "m" {exported_agent="a"} ` + before},
		{name: "long labels", body: "m{a=\"" + strings.Repeat("x", 2000) + "\"} 1\nm{a=\"" + strings.Repeat("x", 2000) + "\"} 1\n", want: `collected metric "m" {a="` + strings.Repeat("x", 1024-len(`{a="`)) + "… " + before},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := series.Check(parse(t, tt.body), keyOf(t, append([]string{"job", "j"}, tt.key...)...), tt.added)
			if got != tt.want {
				t.Errorf("Check(%q) =\n%s, want\n%s", tt.body, got, tt.want)
			}
		})
	}
}

// manySeries returns a body of n series of gauges and a histogram for each fifty of them.
func manySeries(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "backup_file_bytes{disk=\"sda%d\",instance=\"db%d\",path=\"/var/lib/postgresql/%d\"} %d\n", i%7, i%3, i, i)
		if i%50 == 0 {
			fmt.Fprintf(&b, "# TYPE backup_%d_seconds histogram\nbackup_%d_seconds_bucket{le=\"1\"} 1\n", i, i)
		}
	}
	return b.String()
}

// TestCheckAllocates: what a push costs beside its body is the labels of the key.
func TestCheckAllocates(t *testing.T) {
	body, key := parse(t, manySeries(1000)), keyOf(t, "job", "j", "zone", "z")
	if got := testing.AllocsPerRun(20, func() {
		if fault := series.Check(body, key, nil); fault != "" {
			t.Fatal(fault)
		}
	}); got > 30 {
		t.Errorf("Check allocates %v times", got)
	}
}

func BenchmarkCheck(b *testing.B) {
	for _, n := range []int{10, 1000, 100_000} {
		text := []byte(manySeries(n))
		key := keyOf(b, "job", "j", "zone", "z")
		parser := new(exposition.Parser)
		options := exposition.Options{Names: metric.UTF8Names}
		b.Run(fmt.Sprintf("parse/series=%d", n), func(b *testing.B) {
			for b.Loop() {
				if _, err := parser.ParseText(text, options); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("check/series=%d", n), func(b *testing.B) {
			body, err := parser.ParseText(text, options)
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if fault := series.Check(body, key, nil); fault != "" {
					b.Fatal(fault)
				}
			}
		})
	}
}
