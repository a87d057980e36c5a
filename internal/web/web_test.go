package web_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	"pushrelay/internal/grouping"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/lifetime"
	"pushrelay/internal/roster"
	"pushrelay/internal/target"
	"pushrelay/internal/web"
)

// knownAgents are agents that never change.
type knownAgents []roster.Agent

func (k knownAgents) Agents() []roster.Agent { return k }

func newHandler(store *groupstore.Store, known ...roster.Agent) *web.Handler {
	return web.New(web.Config{
		Store: store, Agents: knownAgents(known), Flags: map[string]string{"web.telemetry-path": "/scrape"},
		Build: map[string]string{"version": "1.2.3", "branch": ""}, StartedAt: time.Now().Add(-90 * time.Minute),
		TelemetryPath: "/scrape", RoutePrefix: "/pre", Logger: slog.New(slog.DiscardHandler),
	})
}

// push pushes to the group of the labels: name, value, name, value….
func push(t testing.TB, store *groupstore.Store, body string, pairs ...string) {
	t.Helper()
	var parser exposition.Parser
	parsed, err := parser.ParseText([]byte(body), exposition.Options{})
	if err != nil {
		t.Fatal(err)
	}
	c := &change.Change{Operation: change.Replace, Key: key(t, pairs...), At: time.Now()}
	if o, _ := store.Apply(t.Context(), c, groupstore.Content{Body: parsed}); !o.IsTaken() {
		t.Fatal(o)
	}
}

// fail notes that a push was rejected.
func fail(t testing.TB, store *groupstore.Store, k grouping.Key, at time.Time, reason string) {
	t.Helper()
	if o, _ := store.Apply(t.Context(), &change.Change{Operation: change.Fail, Key: k, At: at}, groupstore.Content{Fault: reason}); !o.IsTaken() {
		t.Fatal(o)
	}
}

func key(t testing.TB, pairs ...string) grouping.Key {
	t.Helper()
	labels := make([]grouping.Label, 0, len(pairs)/2)
	for i := 0; i < len(pairs); i += 2 {
		labels = append(labels, grouping.Label{Name: pairs[i], Value: pairs[i+1]})
	}
	k, err := grouping.New(labels...)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// A document is a page as a browser reads it.
type document struct {
	t    testing.TB
	root *html.Node
	raw  string
	head http.Header
}

func get(t testing.TB, h http.Handler, query string) document {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/pre/"+query, nil))
	if w.Code != http.StatusOK {
		t.Fatalf("GET %s: %d %s", query, w.Code, w.Body)
	}
	root, err := html.Parse(strings.NewReader(w.Body.String()))
	if err != nil {
		t.Fatal(err)
	}
	return document{t, root, w.Body.String(), w.Header()}
}

// all returns the elements of that name.
func (d document) all(name string) []*html.Node {
	var found []*html.Node
	for n := range d.root.Descendants() {
		if n.Type == html.ElementNode && n.Data == name {
			found = append(found, n)
		}
	}
	return found
}

// text returns what a person reads of a node, with single blanks.
func text(n *html.Node) string {
	var b strings.Builder
	for d := range n.Descendants() {
		if d.Type == html.TextNode && d.Parent.Data != "style" {
			b.WriteString(d.Data + " ")
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

func attribute(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

// wantText checks that a person reads all of it on the page.
func (d document) wantText(want ...string) {
	d.t.Helper()
	page := text(d.root)
	for _, w := range want {
		if !strings.Contains(page, w) {
			d.t.Errorf("the page does not say %q:\n%s", w, page)
		}
	}
}

// groups returns the groups of the page as text.
func (d document) groups() []string {
	var groups []string
	for _, details := range d.all("details") {
		if attribute(details.Parent, "id") == "groups" {
			groups = append(groups, text(details))
		}
	}
	return groups
}

// link returns where the link with that text leads.
func (d document) link(label string) string {
	for _, a := range d.all("a") {
		if strings.Contains(text(a), label) {
			return attribute(a, "href")
		}
	}
	return ""
}

func TestPage(t *testing.T) {
	store := groupstore.New(groupstore.Config{})
	push(t, store, "# HELP rows Rows of the last run.\n# TYPE rows gauge\nrows{k=\"1\"} 1\nrows{k=\"2\"} 2\n", "instance", "db 1", "job", "backup")
	fail(t, store, key(t, "job", "late"), time.Now().Add(-5*time.Minute), "pushed metrics must not have timestamps")
	d := get(t, newHandler(store), "")
	d.wantText("1.2.3", "2 groups", "2 series", "0 in quarantine", "0 of 0 agents connected", "started 1h 30m ago",
		"--web.telemetry-path /scrape", "branch unknown", "No agent was here yet.")
	groups := d.groups()
	if len(groups) != 2 {
		t.Fatalf("the page has %d groups, want 2: %q", len(groups), groups)
	}
	for i, want := range [][]string{
		{`job= "backup" instance= "db 1"`, "2 series, pushed 0s ago", "/pre/metrics/job/backup/instance/db%201", "rows gauge Rows of the last run. 2 0s ago"},
		{`job= "late"`, "last push rejected", "never pushed", "The last push was rejected 5m ago : pushed metrics must not have timestamps"},
	} {
		for _, w := range want {
			if !strings.Contains(groups[i], w) {
				t.Errorf("group %d does not say %q: %s", i, w, groups[i])
			}
		}
	}
	if got := d.link("Metrics"); got != "scrape" {
		t.Errorf("the link to the metrics is %q, want the telemetry path, relative", got)
	}
}

func TestEmptyPage(t *testing.T) {
	d := get(t, newHandler(groupstore.New(groupstore.Config{})), "")
	d.wantText("Nothing was pushed yet.", "0 groups")
	get(t, newHandler(groupstore.New(groupstore.Config{})), "?q=x").wantText("No group matches.")
}

// TestWhatIsPushedIsText: everything that somebody can choose is text on the page, and the page's own policy would
// not run it either.
func TestWhatIsPushedIsText(t *testing.T) {
	const evil = `"'><script>alert(1)</script><img src=x onerror=alert(1)>`
	store := groupstore.New(groupstore.Config{Check: groupstore.CheckQuarantine})
	push(t, store, "# HELP m "+evil+"\nm 1\n", "job", evil)
	push(t, store, "# TYPE m gauge\nm 1\n", "job", "z"+evil)
	fail(t, store, key(t, "job", evil), time.Now().Add(time.Second), evil)
	agent := roster.Agent{
		Name: evil, Version: evil, RemoteAddress: evil,
		Targets: []roster.Target{{Target: target.Target{Name: evil, Job: evil, Instance: "javascript:alert(1)", Address: evil}, LastError: evil}},
	}
	for _, query := range []string{"", "?show=quarantined", "?q=" + url.QueryEscape(evil), "?from=-1&show=%22%3E%3Cscript%3E"} {
		d := get(t, newHandler(store, agent), query)
		if n := len(d.all("script")) + len(d.all("img")) + len(d.all("iframe")); n != 0 {
			t.Errorf("GET %s: %d elements came from outside:\n%s", query, n, d.raw)
		}
		for n := range d.root.Descendants() {
			for _, a := range n.Attr {
				if strings.HasPrefix(a.Key, "on") || a.Key == "style" || strings.HasPrefix(strings.TrimSpace(a.Val), "javascript:") {
					t.Errorf("GET %s: <%s> has the attribute %s=%q", query, n.Data, a.Key, a.Val)
				}
			}
		}
		if query == "" {
			d.wantText(strings.Join(strings.Fields(evil), " "))
		}
	}
}

// TestHead: a check costs no page, and whoever closed the sending half still reads the one that was asked for.
func TestHead(t *testing.T) {
	h := newHandler(groupstore.New(groupstore.Config{}))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodHead, "/", nil))
	if w.Code != http.StatusOK || w.Body.Len() > 0 || w.Header().Get("Content-Type") != "text/html; charset=utf-8" {
		t.Errorf("HEAD = %d %v with %d bytes, want 200 and nothing", w.Code, w.Header(), w.Body.Len())
	}
	gone, leave := context.WithCancel(t.Context())
	leave()
	for range 20 {
		w := httptest.NewRecorder()
		if h.ServeHTTP(w, httptest.NewRequestWithContext(gone, http.MethodGet, "/", nil)); w.Body.Len() == 0 {
			t.Fatal("a page whose context has ended is empty")
		}
	}
}

// TestPolicy: the one style of the page is the one that its policy admits, and nothing else is.
func TestPolicy(t *testing.T) {
	d := get(t, newHandler(groupstore.New(groupstore.Config{})), "")
	styles := d.all("style")
	if len(styles) != 1 {
		t.Fatalf("the page has %d styles, want 1", len(styles))
	}
	sum := sha256.Sum256([]byte(styles[0].FirstChild.Data))
	policy := d.head.Get("Content-Security-Policy")
	if !strings.Contains(policy, "style-src 'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"';") || !strings.HasPrefix(policy, "default-src 'none';") {
		t.Errorf("Content-Security-Policy = %q does not admit just the page's own style", policy)
	}
	// Nothing comes from elsewhere, and links stay below whatever prefix the page is reached by.
	for n := range d.root.Descendants() {
		for _, a := range n.Attr {
			if (a.Key == "href" || a.Key == "src" || a.Key == "action") && (strings.HasPrefix(a.Val, "/") || strings.Contains(a.Val, "//") && !strings.HasPrefix(a.Val, "data:")) {
				t.Errorf("<%s %s=%q> leads away", n.Data, a.Key, a.Val)
			}
		}
	}
}

func TestQuarantine(t *testing.T) {
	store := groupstore.New(groupstore.Config{Check: groupstore.CheckQuarantine})
	push(t, store, "# TYPE m counter\nm 1\n", "job", "a")
	push(t, store, "# TYPE m gauge\nm 1\nn 1\n", "job", "b")
	d := get(t, newHandler(store), "")
	d.wantText("1 in quarantine")
	link := d.link("in quarantine")
	if link != "?show=quarantined#groups" {
		t.Fatalf("the figure leads to %q", link)
	}
	d = get(t, newHandler(store), strings.TrimSuffix(link, "#groups"))
	if groups := d.groups(); len(groups) != 1 || !strings.Contains(groups[0], `job= "b"`) || !strings.Contains(groups[0], "is not a COUNTER") {
		t.Errorf("?show=quarantined has the groups %q, want b with the reason", groups)
	}
	if groups := get(t, newHandler(store), "?show=rejected").groups(); len(groups) != 0 {
		t.Errorf("?show=rejected has the groups %q, want none", groups)
	}
}

// TestPages: many groups are many pages, each of them small, and together all of them.
func TestPages(t *testing.T) {
	const many = 1234
	store := groupstore.New(groupstore.Config{})
	for i := range many {
		push(t, store, "m 1\n", "job", fmt.Sprintf("job-%04d", i))
	}
	h := newHandler(store)
	seen, pages := map[string]bool{}, 0
	for query := "?q=job-"; query != ""; pages++ {
		d := get(t, h, query)
		if len(d.raw) > 400<<10 {
			t.Errorf("GET %s: %d bytes", query, len(d.raw))
		}
		d.wantText(fmt.Sprintf("of %d", many))
		for _, g := range d.groups() {
			seen[g] = true
		}
		query = strings.TrimSuffix(d.link("next"), "#groups")
	}
	if len(seen) != many || pages != 7 {
		t.Errorf("%d groups on %d pages, want %d on 7", len(seen), pages, many)
	}
	if got := get(t, h, "?from=400").link("previous"); got != "?from=200#groups" {
		t.Errorf("the link to the previous page is %q", got)
	}
	if groups := get(t, h, "?q="+url.QueryEscape(`{job="job-0007"}`)).groups(); len(groups) != 1 {
		t.Errorf("the filter by a whole key has %d groups, want 1", len(groups))
	}
}

// TestManyFamilies: neither one huge group nor many large ones make a huge page.
func TestManyFamilies(t *testing.T) {
	var body strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&body, "m%04d 1\n", i)
	}
	store := groupstore.New(groupstore.Config{})
	for i := range 30 {
		push(t, store, body.String(), "job", fmt.Sprintf("job-%02d", i))
	}
	h := newHandler(store)
	d := get(t, h, "")
	d.wantText("4900 more of 5000 families", "5000 more of 5000 families")
	if len(d.raw) > 1<<20 {
		t.Errorf("the page has %d bytes", len(d.raw))
	}
	d = get(t, h, d.link("show this group alone"))
	if len(d.groups()) != 1 {
		t.Errorf("a group alone is shown with others: %d", len(d.groups()))
	}
	d.wantText("3000 more of 5000 families are in the JSON")
}

func TestAgents(t *testing.T) {
	roundTrip, skew := 12*time.Millisecond, -2*time.Second
	now := time.Now()
	d := get(t, newHandler(groupstore.New(groupstore.Config{}),
		roster.Agent{
			Name: "site-a", Connected: true, Conflict: true, SessionStarted: now.Add(-time.Hour), LastSeen: now, Version: "9.9", RemoteAddress: "192.0.2.7:4711",
			CertificateNotAfter: now.Add(72*time.Hour + time.Minute), RoundTrip: &roundTrip, ClockSkew: &skew, SpoolPending: 3,
			Targets: []roster.Target{
				{Target: target.Target{Name: "node-1", Job: "node", Instance: "web-1", Address: "10.0.0.1:9100"}, LastScrape: now, LastDuration: 3 * time.Millisecond},
				{Target: target.Target{Name: "node-2", Job: "node", Instance: "web-2", Address: "10.0.0.2:9100"}, LastError: "target_unreachable"},
			},
		},
		roster.Agent{Name: "site-b", LastSeen: now.Add(-26 * time.Hour)},
	), "")
	d.wantText("1 of 2 agents connected", "site-a connected two processes use this identity 2 targets, since 1h ago",
		"Version 9.9", "Address 192.0.2.7:4711", "Round trip 12ms", "Clock skew -2s", "Pushes waiting 3", "Certificate ends in 3d",
		"node web-1 10.0.0.1:9100 0s ago 3ms", "node web-2 10.0.0.2:9100 never target_unreachable", "site-b away 0 targets, last seen 1d 2h ago")
	for _, a := range d.all("a") { // what a target answers is no page of ours
		if strings.Contains(attribute(a, "href"), "agents/site-a") {
			t.Errorf("the page links to %q", attribute(a, "href"))
		}
	}
}

// What is down is counted, and says why: also what answers, and what the agent has no more.
func TestTargetsThatAreDown(t *testing.T) {
	now := time.Now()
	d := get(t, newHandler(groupstore.New(groupstore.Config{}),
		roster.Agent{Name: "site-a", Connected: true, SessionStarted: now.Add(-time.Hour), LastSeen: now, Targets: []roster.Target{
			{Target: target.Target{Name: "up", Job: "up", Instance: "i"}, LastScrape: now, LastStatus: 200},
			{Target: target.Target{Name: "closed", Job: "closed", Instance: "i"}, LastScrape: now, LastStatus: 401, LastError: "bad_status: no entry"},
			{Target: target.Target{Name: "left", Job: "left", Instance: "i"}, ListedUntil: now.Add(4*time.Minute + time.Second)},
		}},
		roster.Agent{Name: "site-b", LastSeen: now, Targets: []roster.Target{{Target: target.Target{Name: "far", Job: "far", Instance: "i"}}}},
	), "")
	d.wantText("3 of 4 targets down", "3 targets, since 1h ago 2 down", "1 target, last seen 0s ago 1 down",
		"up i 0s ago 0s 200", "closed i 0s ago 0s 401 bad_status: no entry", "left i never The agent announces it no more; it is listed until in 4m")
}

func TestManyAgents(t *testing.T) {
	targets := make([]roster.Target, 3000)
	known := make([]roster.Agent, 250)
	for i := range known {
		known[i].Name = fmt.Sprintf("site-%03d", i)
	}
	known[0].Targets = targets
	d := get(t, newHandler(groupstore.New(groupstore.Config{}), known...), "")
	d.wantText("1000 more targets", "50 more agents", "0 of 250 agents connected")
	if len(d.raw) > 2<<20 {
		t.Errorf("the page has %d bytes", len(d.raw))
	}
}

func BenchmarkPageOf100000Groups(b *testing.B) {
	store := groupstore.New(groupstore.Config{})
	for i := range 100_000 {
		push(b, store, "m 1\n", "job", "j", "instance", fmt.Sprint(i))
	}
	h := newHandler(store)
	for b.Loop() {
		get(b, h, "?q=instance")
	}
}

// TestLives: the page says what is declared of a group's life, by whom, and what has become of it.
func TestLives(t *testing.T) {
	store := groupstore.New(groupstore.Config{})
	pushLiving := func(job string, ago time.Duration, failed string, texts lifetime.Texts) {
		t.Helper()
		life, err := lifetime.Parse(texts)
		if err != nil {
			t.Fatal(err)
		}
		c := &change.Change{Operation: change.Replace, Key: key(t, "job", job), At: time.Now().Add(-ago), Life: life, Failed: failed}
		if o, _ := store.Apply(t.Context(), c, groupstore.Content{}); !o.IsTaken() {
			t.Fatal(o)
		}
	}
	pushLiving("dead", 2*time.Hour, "", lifetime.Texts{TTL: "1h", Every: "30m"})
	pushLiving("gone", 2*time.Hour, "", lifetime.Texts{TTL: "1h"})
	pushLiving("late", time.Hour, "", lifetime.Texts{Every: "30m"})
	pushLiving("broken", 0, "exit status <3>", lifetime.Texts{Every: "25h"})
	pushLiving("plain", 0, "", lifetime.Texts{})
	for query, want := range map[string][]string{
		"?show=expired": {"dead", "The next push was due 1h 30m ago", "expired 1h ago", "is not exposed any more", "Declared by: push"},
		"?show=late":    {"dead", "late"},
		"?show=failed":  {"broken", "The job that pushed last failed:", "exit status <3>", "The next push is due in 1d"},
		"?q=plain":      {"plain", "No metric families"},
	} {
		d := get(t, newHandler(store), query)
		text := strings.Join(strings.Fields(strings.Join(d.groups(), " ")), " ")
		for _, part := range want {
			if !strings.Contains(text, part) {
				t.Errorf("%s: %q is not in %q", query, part, text)
			}
		}
		if strings.Contains(text, "gone") || query == "?q=plain" && strings.Contains(text, "Declared") {
			t.Errorf("%s: %q", query, text)
		}
	}
}
