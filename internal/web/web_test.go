package web_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/route"
	"golang.org/x/net/html"
	"google.golang.org/protobuf/encoding/protodelim"

	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	"pushrelay/internal/grouping"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/lifetime"
	"pushrelay/internal/queryapi"
	"pushrelay/internal/recent"
	"pushrelay/internal/roster"
	"pushrelay/internal/web"
)

// knownAgents are agents that change only by being forgotten.
type knownAgents struct {
	all     []roster.Agent
	changes atomic.Uint64
}

func (k *knownAgents) Agents() []roster.Agent { return slices.Clone(k.all) }

func (k *knownAgents) Agent(name string) (roster.Agent, bool) {
	i := slices.IndexFunc(k.all, func(a roster.Agent) bool { return a.Name == name })
	if i < 0 {
		return roster.Agent{}, false
	}
	return k.all[i], true
}

func (k *knownAgents) Changes() uint64 { return k.changes.Load() }

func (k *knownAgents) Forget(name string) error {
	a, known := k.Agent(name)
	switch {
	case !known:
		return roster.ErrUnknown
	case a.Connected:
		return roster.ErrConnected
	}
	k.all = slices.DeleteFunc(k.all, func(a roster.Agent) bool { return a.Name == name })
	return nil
}

// A site is a relay as its pages see it.
type site struct {
	testing.TB

	store  *groupstore.Store
	agents *knownAgents
	recent *recent.Recent
	rights web.Rights
	health web.Health
	config func(*web.Config)

	handler http.Handler
	pages   *web.Handler
}

// all are the rights of who may do everything.
func all() web.Rights {
	return web.Rights{
		OffersDeletion: func(grouping.Key) bool { return true }, Delete: func(grouping.Key) error { return nil },
		OffersForgetting: true, Forget: func(string) error { return nil },
	}
}

func newSite(t testing.TB, agents ...roster.Agent) *site {
	t.Helper()
	s := &site{TB: t, store: groupstore.New(groupstore.Config{Check: groupstore.CheckQuarantine}), agents: &knownAgents{all: agents}, recent: recent.New(), rights: all()}
	s.build()
	return s
}

// prefix is the route prefix of a site.
const prefix = "/pre/fix"

func (s *site) build() {
	cfg := web.Config{
		Store: s.store, Agents: s.agents, Recent: s.recent, Rights: func(*http.Request) web.Rights { return s.rights }, Health: func() web.Health { return s.health },
		Deleter:    queryapi.NewGroups(queryapi.GroupsConfig{Store: s.store, AgentLabel: "agent", Timeout: time.Second}),
		AgentLabel: "agent", AgentTerms: func(string) web.AgentTerms { return web.AgentTerms{MaxGroups: 100, MaxSeries: 1000} },
		Flags: map[string]string{"web.telemetry-path": "/scrape"}, Build: map[string]string{"version": "1.2.3", "branch": ""},
		StartedAt: time.Now().Add(-90 * time.Minute), TelemetryPath: "/scrape", RoutePrefix: prefix, AgentsPort: "9443", DataDir: "/var/lib/relay data",
		Logger: slog.New(slog.DiscardHandler),
	}
	if s.config != nil {
		s.config(&cfg)
	}
	s.pages = web.New(cfg)
	r := route.New()
	s.pages.Mount(r.WithPrefix(prefix), func(_ string, h http.HandlerFunc) http.HandlerFunc { return h })
	s.handler = s.pages.TakeChanges(r)
}

// push pushes to the group of the labels: name, value, name, value….
func (s *site) push(body string, pairs ...string) grouping.Key {
	s.Helper()
	var parser exposition.Parser
	parsed, err := parser.ParseText([]byte(body), exposition.Options{})
	if err != nil {
		s.Fatal(err)
	}
	k := key(s, pairs...)
	c := &change.Change{Operation: change.Replace, Key: k, At: time.Now()}
	if o, _ := s.store.Apply(s.Context(), c, groupstore.Content{Body: parsed}); !o.IsTaken() {
		s.Fatal(o)
	}
	return k
}

// pushLiving pushes nothing, so long ago, and says something of the life of the group.
func (s *site) pushLiving(ago time.Duration, failed string, texts lifetime.Texts, pairs ...string) {
	s.Helper()
	life, err := lifetime.Parse(texts)
	if err != nil {
		s.Fatal(err)
	}
	c := &change.Change{Operation: change.Replace, Key: key(s, pairs...), At: time.Now().Add(-ago), Life: life, Failed: failed}
	if o, _ := s.store.Apply(s.Context(), c, groupstore.Content{}); !o.IsTaken() {
		s.Fatal(o)
	}
}

// refuse notes that a push was refused.
func (s *site) refuse(reason string, pairs ...string) {
	s.Helper()
	c := &change.Change{Operation: change.Fail, Key: key(s, pairs...), At: time.Now().Add(time.Millisecond)}
	if o, _ := s.store.Apply(s.Context(), c, groupstore.Content{Fault: reason}); !o.IsTaken() {
		s.Fatal(o)
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
	testing.TB

	url    *url.URL
	status int
	root   *html.Node
	raw    string
	head   http.Header
}

// get loads a page; the path is below the prefix, and has a leading slash.
func (s *site) get(path string) document {
	s.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(s.Context(), http.MethodGet, prefix+path, nil)
	s.handler.ServeHTTP(w, r)
	root, err := html.Parse(strings.NewReader(w.Body.String()))
	if err != nil {
		s.Fatal(err)
	}
	return document{s, r.URL, w.Code, root, w.Body.String(), w.Header()}
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
		if d.Type == html.TextNode {
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

// main returns what a person reads of the content.
func (d document) main() string {
	for _, n := range d.all("main") {
		return text(n)
	}
	return ""
}

// wantText checks that a person reads all of it.
func (d document) wantText(want ...string) {
	d.Helper()
	page := d.main()
	for _, w := range want {
		if !strings.Contains(page, w) {
			d.Errorf("%s does not say %q:\n%.1000s", d.url, w, page)
		}
	}
}

// wantNoText checks that a person reads none of it.
func (d document) wantNoText(unwanted ...string) {
	d.Helper()
	page := d.main()
	for _, u := range unwanted {
		if strings.Contains(page, u) {
			d.Errorf("%s says %q:\n%.1000s", d.url, u, page)
		}
	}
}

// rows returns the rows of the list as text.
func (d document) rows() []string {
	var rows []string
	for _, body := range d.all("tbody") {
		for tr := range body.ChildNodes() {
			if tr.Type == html.ElementNode {
				rows = append(rows, text(tr))
			}
		}
	}
	return rows
}

// link returns where the first link with that text leads, as a path below the prefix; empty if there is none.
func (d document) link(label string) string {
	d.Helper()
	for _, a := range d.all("a") {
		if strings.Contains(text(a), label) {
			return d.resolve(attribute(a, "href"))
		}
	}
	return ""
}

// resolve returns where a reference of the page leads, as a path below the prefix.
func (d document) resolve(reference string) string {
	d.Helper()
	u, err := d.url.Parse(reference)
	if err != nil || u.Host != d.url.Host {
		d.Fatalf("%s leads to %q", d.url, reference)
	}
	path, below := strings.CutPrefix(u.RequestURI(), prefix)
	if !below {
		d.Fatalf("%s leads out of the prefix, to %q", d.url, reference)
	}
	return path
}

// post sends a form of a page, with a token and headers: name, value….
func (s *site) post(path, token string, form url.Values, headers ...string) (int, string) {
	s.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(s.Context(), http.MethodPost, prefix+path, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("X-Relay-Token", token)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	s.handler.ServeHTTP(w, r)
	body, err := io.ReadAll(w.Body)
	if err != nil {
		s.Fatal(err)
	}
	return w.Code, string(body)
}

// token returns that of a form of the page, and what the form sends.
func (d document) form() (token string, fields url.Values) {
	fields = url.Values{}
	for _, f := range d.all("form") {
		if t := attribute(f, "data-token"); t != "" {
			token = t
		}
	}
	for _, input := range d.all("input") {
		if attribute(input, "type") == "checkbox" {
			fields.Add(attribute(input, "name"), attribute(input, "value"))
		}
	}
	return token, fields
}

// context that has ended.
func ended(t testing.TB) context.Context {
	t.Helper()
	ctx, end := context.WithCancel(t.Context())
	end()
	return ctx
}

// delimited returns families as the protobuf format has them.
func delimited(t testing.TB, families ...*dto.MetricFamily) []byte {
	t.Helper()
	var b bytes.Buffer
	for _, f := range families {
		if _, err := protodelim.MarshalTo(&b, f); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}
