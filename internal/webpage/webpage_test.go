package webpage_test

import (
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/klauspost/compress/gzip"

	"pushrelay/internal/webpage"
)

func newPages(templates map[string]string) *webpage.Pages {
	files := fstest.MapFS{}
	for name, text := range templates {
		files[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return webpage.New(webpage.Config{
		Templates: files, Program: "prog", Places: []webpage.Place{{Name: "One", Path: "one"}, {Name: "Two", Path: "two"}}, Events: "events",
		Logger: slog.New(slog.DiscardHandler),
	})
}

func show(t *testing.T, p *webpage.Pages, method string, depth int, page webpage.Page, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	w, r := httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), method, "/", nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	p.Show(w, r, depth, func(time.Time) webpage.Page { return page })
	return w
}

func TestShow(t *testing.T) {
	p := newPages(map[string]string{"a.html": `{{define "content"}}<h1>{{.}}</h1>{{template "part" .}}{{end}}`, "_b.html": `{{define "part"}}part {{.}}{{end}}`, "bad.html": `{{define "content"}}{{.None.Of}}{{end}}`})
	page := webpage.Page{Template: "a", Title: "T <1>", Place: "Two", Status: 404, Topics: "x y", Version: "1", Content: "<b>"}
	plain := show(t, p, http.MethodGet, 2, page)
	for _, want := range []string{
		"<title>T &lt;1&gt; · prog</title>", "<h1>&lt;b&gt;</h1>part &lt;b&gt;", `<a href="../../two" aria-current="page">Two</a>`, `<a href="../../one">One</a>`,
		`<main id="main" tabindex="-1" data-topics="x y">`, `data-events="../../events"`, "prog 1",
	} {
		if !strings.Contains(plain.Body.String(), want) {
			t.Errorf("the page lacks %s:\n%s", want, plain.Body)
		}
	}
	if plain.Code != 404 || plain.Header().Get("Content-Security-Policy") != webpage.Policy || plain.Header().Get("Vary") != "Accept-Encoding" || plain.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("it is answered %d with %v", plain.Code, plain.Header())
	}
	zipped := show(t, p, http.MethodGet, 2, page, "Accept-Encoding", "br, gzip")
	z, err := gzip.NewReader(zipped.Body)
	if err != nil || zipped.Header().Get("Content-Encoding") != "gzip" {
		t.Fatalf("%v, %v", err, zipped.Header())
	}
	whole, err := io.ReadAll(z)
	ignored := regexp.MustCompile(`(?s)<footer>.*</footer>`) // has the time
	if err != nil || ignored.ReplaceAllString(string(whole), "") != ignored.ReplaceAllString(plain.Body.String(), "") {
		t.Errorf("compressed it is another page: %v", err)
	}
	if head := show(t, p, http.MethodHead, 0, page); head.Code != 404 || head.Body.Len() != 0 {
		t.Errorf("HEAD is %d with %d bytes", head.Code, head.Body.Len())
	}
	if bad := show(t, p, http.MethodGet, 0, webpage.Page{Template: "bad", Content: 1}); bad.Code != 500 || strings.Contains(bad.Body.String(), "None") {
		t.Errorf("a page that cannot be made is %d %s", bad.Code, bad.Body)
	}
	if top := show(t, p, http.MethodGet, 0, page).Body.String(); !strings.Contains(top, `href="./two"`) {
		t.Errorf("at the top links are not relative:\n%s", top)
	}
}

// TestDirections: no text of a page turns round what is beside it, and what is sent back stays as it is.
func TestDirections(t *testing.T) {
	p := newPages(map[string]string{"a.html": `{{define "content"}}<a title="{{.}}" href="?q={{.}}">{{.}}</a>, <q>{{.}}</q>{{end}}`})
	const text = "a\u202a\u202b\u202c\u202d\u202e<\u2066\u2067>\u2068\u2069 \u200f\u202f…"
	body := show(t, p, http.MethodGet, 0, webpage.Page{Template: "a", Title: text, Content: text}).Body.String()
	const told = "a[U+202A][U+202B][U+202C][U+202D][U+202E]&lt;[U+2066][U+2067]&gt;[U+2068][U+2069] \u200f\u202f…"
	for _, want := range []string{"<title>" + told + " · prog", ">" + told + "</a>, <q>" + told + "</q>", `title="a` + "\u202a\u202b\u202c\u202d\u202e&lt;\u2066"} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %q:\n%q", want, body)
		}
	}
}

// TestAssets: every file that the frame and the scripts name is there, can be kept by browsers, and only under its version.
func TestAssets(t *testing.T) {
	p := newPages(map[string]string{"a.html": `{{define "content"}}{{end}}`})
	get := func(path string, headers ...string) *httptest.ResponseRecorder {
		w, r := httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		p.ServeAsset(w, r)
		return w
	}
	page := show(t, p, http.MethodGet, 0, webpage.Page{Template: "a"}).Body.String()
	todo := map[string]bool{}
	dir := ""
	for _, m := range regexp.MustCompile(`(?:src|href)="\.(/assets/[0-9a-f]{12}/)([^"]+)"`).FindAllStringSubmatch(page, -1) {
		dir, todo[m[2]] = m[1], true
	}
	seen := 0
	for len(todo) > 0 {
		for name := range todo {
			delete(todo, name)
			seen++
			w := get(dir + name)
			types := map[string]string{"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}
			_, suffix, _ := strings.Cut(name, ".")
			if w.Code != 200 || w.Header().Get("Content-Type") != types[suffix] || !strings.Contains(w.Header().Get("Cache-Control"), "immutable") {
				t.Fatalf("%s%s: %d %v", dir, name, w.Code, w.Header())
			}
			z, err := gzip.NewReader(get(dir+name, "Accept-Encoding", "gzip").Body)
			if err != nil {
				t.Fatal(err)
			}
			if whole, err := io.ReadAll(z); err != nil || string(whole) != w.Body.String() {
				t.Errorf("%s: compressed it is another file: %v", name, err)
			}
			for _, m := range regexp.MustCompile(`(?:from |URL\()"\./([^"]+)"`).FindAllStringSubmatch(w.Body.String(), -1) {
				todo[m[1]] = true
			}
		}
		if seen > 100 {
			t.Fatal("there is no end to the files")
		}
	}
	if seen < 9 {
		t.Errorf("%d files were found", seen)
	}
	for _, path := range []string{"/assets/000000000000/page.css", dir + "none.js", dir + "../page.css", "/assets//page.css"} {
		if w := get(path); w.Code != 404 {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
}

func TestMoments(t *testing.T) {
	now := time.Date(2026, 11, 30, 4, 5, 6, 7e6, time.FixedZone("", 3600))
	for at, want := range map[time.Time]webpage.Moment{
		{}:                                {},
		now:                               {Exact: "2026-11-30T03:05:06.007Z", Absolute: "2026-11-30 03:05:06 UTC", Relative: "0s ago"},
		now.Add(-time.Hour - time.Second): {Exact: "2026-11-30T02:05:05.007Z", Absolute: "2026-11-30 02:05:05 UTC", Relative: "1h ago"},
		now.Add(50 * time.Hour):           {Exact: "2026-12-02T05:05:06.007Z", Absolute: "2026-12-02 05:05:06 UTC", Relative: "in 2d 2h"},
		now.Add(time.Second - 1):          {Exact: "2026-11-30T03:05:07.006Z", Absolute: "2026-11-30 03:05:07 UTC", Relative: "0s ago"},
	} {
		if got := webpage.MomentOf(at, now); got != want {
			t.Errorf("MomentOf(%v) = %+v, want %+v", at, got, want)
		}
	}
}

func TestNumbers(t *testing.T) {
	for got, want := range map[string]string{
		webpage.Duration(1234567 * time.Nanosecond): "1.23ms", webpage.Duration(-1): "0s", webpage.Duration(12 * time.Nanosecond): "12ns", webpage.Duration(61234 * time.Millisecond): "1m1.2s",
		webpage.Bytes(999): "999 B", webpage.Bytes(1023.0): "1.0 KiB", webpage.Bytes(int64(1536)): "1.5 KiB", webpage.Bytes(uint64(300 << 20)): "300 MiB", webpage.Bytes(int64(1) << 60): "1048576 TiB",
		webpage.Count(0): "0", webpage.Count(999): "999", webpage.Count(1234567): "1\u202f234\u202f567", webpage.Count(-1234): "-1\u202f234",
		webpage.Plural(1, "a", "b"): "1 a", webpage.Plural(0, "a", "b"): "0 b",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestGraph(t *testing.T) {
	nan := math.NaN()
	g := webpage.NewGraph([]float64{0, 1, 2, nan, math.Inf(1)}, []float64{0, 0, 0.001, 0, nan})
	if want := "M48.00 48v-24.00h38.40v24.00zM96.00 48v-48.00h38.40v48.00z"; g.Good != want {
		t.Errorf("the bars are %s, want %s", g.Good, want)
	}
	if want := "M96.00 48v-1.00h38.40v1.00z"; g.Bad != want {
		t.Errorf("what is bad is %s, want %s, which is seen", g.Bad, want)
	}
	if g := webpage.NewGraph([]float64{0, 0}, nil); g.Good != "" || g.Bad != "" {
		t.Errorf("nothing is drawn as %+v", g)
	}
}

func TestPager(t *testing.T) {
	for _, tt := range []struct {
		query    string
		matching int
		from, to int
		want     webpage.Pager
	}{
		{"", 0, 0, 0, webpage.Pager{First: 1}},
		{"", 10, 0, 10, webpage.Pager{Matching: 10, First: 1, Last: 10}},
		{"q=x", 25, 0, 10, webpage.Pager{Matching: 25, First: 1, Last: 10, Next: "?from=10&q=x"}},
		{"q=x&from=10", 25, 10, 20, webpage.Pager{Matching: 25, First: 11, Last: 20, Previous: "?q=x", Next: "?from=20&q=x"}},
		{"from=5", 12, 5, 12, webpage.Pager{Matching: 12, First: 6, Last: 12, Previous: "?"}},
		{"from=1000", 25, 20, 25, webpage.Pager{Matching: 25, First: 21, Last: 25, Previous: "?from=10"}},
		{"from=-3", 25, 0, 10, webpage.Pager{Matching: 25, First: 1, Last: 10, Next: "?from=10"}},
		{"from=x", 5, 0, 5, webpage.Pager{Matching: 5, First: 1, Last: 5}},
	} {
		query, err := url.ParseQuery(tt.query)
		if err != nil {
			t.Fatal(err)
		}
		if got, from, to := webpage.NewPager(query, tt.matching, 10); got != tt.want || from != tt.from || to != tt.to {
			t.Errorf("%q of %d: %+v, %d to %d, want %+v, %d to %d", tt.query, tt.matching, got, from, to, tt.want, tt.from, tt.to)
		}
	}
	if got := webpage.Known(url.Values{"a": {"1", "2"}, "b": {""}, "c": {"3"}}, "a", "b").Encode(); got != "a=1" {
		t.Errorf("of the query %q is known", got)
	}
}
