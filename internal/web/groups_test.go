package web_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/prometheus/client_golang/prometheus"

	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	"pushrelay/internal/grouping"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/lifetime"
	"pushrelay/internal/recent"
	"pushrelay/internal/roster"
	"pushrelay/internal/target"
	"pushrelay/internal/web"
)

// TestGroups: the clock stands still, so that spans are what they are.
func TestGroups(t *testing.T) { synctest.Test(t, testGroups) }

func testGroups(t *testing.T) {
	t.Helper()
	s := newSite(t)
	s.push("m 1\nn 2\n", "job", "backup", "instance", "db 1")
	s.push("m 1\n", "job", "import", "team", "a=b")
	s.pushLiving(time.Hour, "", lifetime.Texts{Every: "30m", TTL: "3h"}, "job", "late")
	s.pushLiving(3*time.Hour, "", lifetime.Texts{Every: "2h", TTL: "1h"}, "job", "expired") // and late, if it were there
	s.pushLiving(0, "exit status 3", lifetime.Texts{Every: "25h"}, "job", "broken")
	s.refuse("pushed metrics must not have timestamps", "job", "refused")
	s.push("# TYPE m counter\nm 1\n", "job", "odd")
	s.get("/groups").wantText("7 groups", `job= "backup" instance= "db 1" ok 0s ago 2`, `job= "late" late 1h ago 30m ago in 2h`,
		`job= "expired" expired 3h ago 1h ago 2h ago`, `job= "broken" failed exit status 3`, `job= "refused" push refused pushed metrics must not have timestamps never`, `job= "odd" quarantine`)
	s.get("/").wantText("1 job is late", "1 job has expired")
	for query, want := range map[string]string{
		"q=backup":                             "backup",
		`q={job="import"}`:                     "import",
		`q=team="a=b"`:                         "import",
		`q={job=~"late|odd"}`:                  "late odd",
		`q=instance!=""`:                       "backup",
		"q=nothing":                            "",
		"state=late":                           "late",
		"state=expired":                        "expired",
		"state=failed":                         "broken refused",
		"state=rejected":                       "refused",
		"state=quarantined":                    "odd",
		"state=expecting":                      "broken expired late",
		"state=no-such":                        "backup broken expired import late odd refused",
		`q={job=~".+"}&state=late&sort=pushed`: "late",
		"sort=series&q=a":                      "backup import late", // a is in their keys
		`sort=due&state=expecting`:             "expired late broken",
		`sort=-due&state=expecting`:            "broken late expired",
		`sort=state&q={job=~"odd|late|broken|backup"}`:   "broken late odd backup",
		`sort=expires&q={job=~"late|expired"}`:           "expired late",
		`sort=evil&from=-1&q={job=~"late|odd"}&other=<>`: "late odd",
	} {
		values := url.Values{}
		for pair := range strings.SplitSeq(query, "&") {
			name, value, _ := strings.Cut(pair, "=")
			values.Set(name, value)
		}
		d := s.get("/groups?" + values.Encode())
		var jobs []string
		for _, row := range d.rows() {
			_, rest, _ := strings.Cut(row, `job= "`)
			job, _, _ := strings.Cut(rest, `"`)
			jobs = append(jobs, job)
		}
		if !strings.Contains(query, "sort") {
			slices.Sort(jobs)
		}
		if got := strings.Join(jobs, " "); got != want || d.status != http.StatusOK {
			t.Errorf("%s: %d, groups %q, want %q", query, d.status, got, want)
		}
	}
	for query, want := range map[string]string{`{job="a"`: "cannot be read", `{job=~"("}`: "cannot be read", `up{job="a"}`: "names a metric", `{}`: "no matcher"} {
		d := s.get("/groups?q=" + url.QueryEscape(query))
		if d.status != http.StatusBadRequest {
			t.Errorf("%s: %d", query, d.status)
		}
		d.wantText(want)
	}
}

// TestOrders: the form of a list has the orders that its columns have, and keeps the one that was chosen.
func TestOrders(t *testing.T) {
	s := newSite(t, roster.Agent{Name: "a", Targets: []roster.Target{{Target: target.Target{Name: "t", Job: "j", Instance: "i"}}}})
	s.push("m 1\n", "job", "a")
	for _, path := range []string{"/groups", "/agents", "/targets"} {
		d := s.get(path + "?sort=-" + map[string]string{"/groups": "series", "/agents": "down", "/targets": "took"}[path])
		values, chosen := []string{}, ""
		for _, o := range d.all("option") {
			if attribute(o.Parent, "name") == "sort" {
				values = append(values, attribute(o, "value"))
				if strings.Contains(o.Attr[len(o.Attr)-1].Key, "selected") {
					chosen = text(o)
				}
			}
		}
		heads := 0
		for _, a := range d.all("a") {
			if a.Parent.Data == "th" && attribute(a.Parent, "scope") == "col" {
				heads++
			}
		}
		if heads == 0 || len(values) != 1+2*heads || !strings.HasSuffix(chosen, ", ascending") {
			t.Errorf("%s: the orders are %q, of %d columns, and %q is chosen", path, values, heads, chosen)
		}
	}
}

// TestPages: many groups are many pages, each of them small, and together all of them.
func TestPages(t *testing.T) {
	const many = 1234
	s := newSite(t)
	for i := range many {
		s.push("m 1\n", "job", fmt.Sprintf("job-%04d", i))
	}
	seen, pages := map[string]bool{}, 0
	for path := "/groups?q=job-"; path != ""; pages++ {
		d := s.get(path)
		if len(d.raw) > 100<<10 {
			t.Errorf("GET %s: %d bytes", path, len(d.raw))
		}
		d.wantText("1 234 groups")
		for _, g := range d.rows() {
			seen[g] = true
		}
		path = d.link("next")
	}
	if len(seen) != many || pages != 13 {
		t.Errorf("%d groups on %d pages, want %d on 13", len(seen), pages, many)
	}
	if got := s.get("/groups?from=400").link("previous"); got != "/groups?from=300" {
		t.Errorf("the link to the previous page is %q", got)
	}
}

// TestGroup: the clock stands still, so that spans are what they are.
func TestGroup(t *testing.T) { synctest.Test(t, testGroup) }

func testGroup(t *testing.T) {
	t.Helper()
	s := newSite(t)
	k := s.push(`# HELP rows Rows of the last run.
# TYPE rows gauge
rows{k="1"} 1
rows{k="2"} 2.5e+06
# TYPE wait summary
wait{quantile="0.5"} 0.25
wait_sum 10
wait_count 20
# TYPE took histogram
took_bucket{le="1"} 3
took_bucket{le="2"} 3
took_bucket{le="+Inf"} 9
took_sum 4.5
took_count 9
`, "instance", "db/1", "job", "backup")
	now := time.Now()
	s.recent.Pushed(k, recent.Push{At: now.Add(-time.Minute), Operation: change.Replace, Kind: change.Full, Detail: "the store is full", Bytes: 2048, Took: 1500 * time.Microsecond})
	s.recent.Pushed(k, recent.Push{At: now, Operation: change.Merge, Kind: change.Applied, Bytes: 100})
	d := s.get(s.get("/groups").link("backup"))
	if d.url.Path != prefix+"/group/job/backup/instance@base64/ZGIvMQ" {
		t.Errorf("its page is at %s", d.url.Path)
	}
	d.wantText(`job= "backup" instance= "db/1"`, "ok pushed 0s ago", "The next push is late none is expected", "/pre/fix/metrics/job/backup/instance@base64/ZGIvMQ",
		"0s ago", "merge taken 100 B 0s", "replace refused: full the store is full 2.0 KiB 1.5ms",
		`rows gauge, 2 series, pushed 0s ago Rows of the last run. k= "1" 1 k= "2" 2500000`, `count 20, sum 10 quantile= "0.5" 0.25`, "-Inf +Inf count 9 , sum 4.5 2 buckets (-Inf, 1] 3 (2, +Inf] 6")
	if got := d.link("db/1"); got != "/groups?q=%7Binstance%3D%22db%2F1%22%7D" {
		t.Errorf("its label leads to %q", got)
	}
	for _, path := range []string{"/group/job/none", "/group/nothing", "/group/job/backup/instance", "/group/job/backup/__x/y"} {
		if d := s.get(path); d.status != http.StatusNotFound {
			t.Errorf("GET %s is %d", path, d.status)
		}
	}
	s.refuse("no good", "job", "backup", "instance", "db/1")
	d = s.get(d.url.Path[len(prefix):])
	d.wantText("push refused", "The last push was refused", "no good", "What was pushed before stays.")
}

// TestRefused: a refused push is found from the first page, with its reason, also where no group came of it.
func TestRefused(t *testing.T) {
	s := newSite(t)
	s.push("m 1\n", "job", "other")
	s.refuse("it is odd", "job", "other") // before the relay was started
	s.get("/refused").wantText("No push was refused since the relay started")
	s.recent.Pushed(key(t, "job", "new", "a", "b/c"), recent.Push{At: time.Now(), Operation: change.Merge, Kind: change.Invalid, Detail: "line 1 is no text"})
	s.recent.Pushed(grouping.Key{}, recent.Push{At: time.Now(), Kind: change.Invalid, Detail: "job name is required"})
	d := s.get(s.get("/").link("pushes were refused in the last hour"))
	d.wantText("Refused pushes", `job= "new" a= "b/c"`, "merge refused: invalid line 1 is no text", "none", "job name is required")
	d.wantNoText("other")
	d = s.get(d.link(`job= "new"`))
	if d.status != http.StatusOK {
		t.Errorf("the page of the group is %d", d.status)
	}
	d.wantText("There is no such group now", "merge refused: invalid line 1 is no text")
	s.rights.SeesGroup = func(k grouping.Key) bool { return k.Job() == "other" }
	s.get("/refused").wantNoText(`"new"`, "job name is required")
	if d := s.get(d.url.Path[len(prefix):]); d.status != http.StatusNotFound || strings.Contains(d.raw, "line 1") {
		t.Errorf("for who may not read it the page is %d: %s", d.status, d.main())
	}
}

// TestNativeHistogram: it is drawn, and its buckets are in words.
func TestNativeHistogram(t *testing.T) {
	s := newSite(t)
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "took", NativeHistogramBucketFactor: 1.1})
	for i := range 1000 {
		h.Observe(float64(i-100) / 100)
	}
	var m dto.Metric
	if err := h.Write(&m); err != nil {
		t.Fatal(err)
	}
	s.pushFamily(&dto.MetricFamily{Name: new("took"), Type: dto.MetricType_HISTOGRAM.Enum(), Metric: []*dto.Metric{&m}}, "job", "j")
	d := s.get("/group/job/j")
	d.wantText("count 1000 , sum", "native", "80 buckets", "[-")
	bars := 0
	for _, path := range d.all("path") {
		bars = max(bars, strings.Count(attribute(path, "d"), "M"))
	}
	if bars < 30 || bars > 80 {
		t.Errorf("it has %d bars", bars)
	}
}

func (s *site) pushFamily(family *dto.MetricFamily, pairs ...string) {
	s.Helper()
	var parser exposition.Parser
	parsed, err := parser.Parse(exposition.ProtobufDelimited, delimited(s, family), exposition.Options{})
	if err != nil {
		s.Fatal(err)
	}
	c := &change.Change{Operation: change.Replace, Key: key(s, pairs...), At: time.Now()}
	if o, _ := s.store.Apply(s.Context(), c, groupstore.Content{Body: parsed}); !o.IsTaken() {
		s.Fatal(o)
	}
}

// TestManyValues: neither one huge group nor its histograms make a huge page.
func TestManyValues(t *testing.T) {
	var body strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&body, "m%04d 1\n", i)
	}
	for i := range 5000 {
		fmt.Fprintf(&body, "z{i=\"%d\"} 1\n", i)
	}
	s := newSite(t)
	s.push(body.String(), "job", "many")
	s.push(body.String()[strings.Index(body.String(), "z{"):], "job", "wide")
	d := s.get("/group/job/many")
	d.wantText("4 801 more families of 5 001")
	if len(d.raw) > 300<<10 {
		t.Errorf("the page has %d bytes", len(d.raw))
	}
	d = s.get("/group/job/wide")
	d.wantText("3 500 more metrics")
	if len(d.raw) > 500<<10 {
		t.Errorf("the page has %d bytes", len(d.raw))
	}
}

// TestDeleting: what was listed and chosen is deleted, and nothing else: not what was pushed to meanwhile, nor what came since.
func TestDeleting(t *testing.T) {
	s := newSite(t)
	for _, job := range []string{"a", "b", "c", "kept"} {
		s.push("m 1\n", "job", job, "host", map[string]string{"kept": "new"}[job]+"old")
	}
	list := s.get("/groups?q=" + url.QueryEscape(`{host="old"}`))
	d := s.get(list.link("Delete these 3 groups"))
	d.wantText("Delete groups", `job= "a"`, `job= "b"`, `job= "c"`, "Delete 3 groups")
	d.wantNoText("kept")
	token, fields := d.form()
	if len(fields["group"]) != 3 {
		t.Fatalf("the form has %v", fields)
	}
	s.push("m 2\n", "job", "b", "host", "old")
	s.push("m 1\n", "job", "d", "host", "old")
	for _, tt := range []struct {
		token   string
		fields  url.Values
		headers []string
		status  int
		body    string
	}{
		{"", fields, nil, 403, "load the page again"},
		{"x" + token, fields, nil, 403, "load the page again"},
		{token, fields, []string{"Sec-Fetch-Site", "same-site"}, 403, "load the page again"},
		{token, url.Values{}, nil, 400, "no group is chosen"},
		{token, url.Values{"group": {"?.1"}}, nil, 400, "cannot be read"},
		{token, url.Values{"group": {"am9i.1"}}, nil, 400, "cannot be read"},
		{token, url.Values{"group": slices.Repeat([]string{strings.Repeat("x", 1000)}, 1100)}, nil, 400, "cannot be read"},
		{token, fields, []string{"Origin", "http://elsewhere.test", "Host", "inner"}, 200, `"deleted":2,"pushed to or deleted meanwhile, and left":1`},
	} {
		if status, body := s.post("/groups/delete", tt.token, tt.fields, tt.headers...); status != tt.status || !strings.Contains(body, tt.body) {
			t.Errorf("%v: %d %s, want %d %q", tt.headers, status, body, tt.status, tt.body)
		}
	}
	var left []string
	for g := range s.store.Snapshot().Groups() {
		left = append(left, g.Key().Job())
	}
	if slices.Sort(left); strings.Join(left, " ") != "b d kept" {
		t.Errorf("the groups %q are left", left)
	}
	one := s.get("/group/job/kept/host/newold")
	d = s.get(one.link("Delete this group"))
	if _, fields := d.form(); len(fields["group"]) != 1 {
		t.Errorf("the form for one group has %v", fields)
	}
	for _, path := range []string{"/groups/delete", "/groups/delete?group=odd"} {
		if d := s.get(path); d.status != http.StatusBadRequest {
			t.Errorf("GET %s is %d", path, d.status)
		}
	}
}

// TestWithoutRights: who may delete nothing is told so, and deletes nothing.
func TestWithoutRights(t *testing.T) {
	s := newSite(t)
	s.push("m 1\n", "job", "a")
	token, fields := s.get("/groups/delete?q=a").form()
	s.rights = web.Rights{Refusal: "Start the relay with --web.enable-admin-api."}
	for _, path := range []string{"/groups?q=a", "/group/job/a", "/groups/delete?q=a"} {
		d := s.get(path)
		d.wantText("--web.enable-admin-api")
		if strings.Contains(d.main(), "Delete this") || len(d.all("button")) > 1 {
			t.Errorf("GET %s offers to delete: %s", path, d.main())
		}
	}
	if status, body := s.post("/groups/delete", token, fields); status != http.StatusForbidden || !strings.Contains(body, "--web.enable-admin-api") || s.store.Snapshot().Len() != 1 {
		t.Errorf("%d %s", status, body)
	}
}

// TestLongDeletion: what is too much to be listed is said, and the rest comes with the next list.
func TestLongDeletion(t *testing.T) {
	s := newSite(t)
	for i := range 600 {
		s.push("m 1\n", "job", "j", "agent", fmt.Sprint(i))
	}
	d := s.get("/groups/delete?q=job")
	d.wantText("The first 500 of 600 are listed", "500 came through agents")
	token, fields := d.form()
	if status, body := s.post("/groups/delete", token, fields); status != 200 || !strings.Contains(body, `"deleted":500`) || !strings.Contains(body, "come back") {
		t.Errorf("%d %s", status, body)
	}
	if _, fields := s.get("/groups/delete?q=job").form(); len(fields["group"]) != 100 {
		t.Errorf("%d groups are left", len(fields["group"]))
	}
}
