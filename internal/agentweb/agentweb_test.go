package agentweb_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/route"
	"golang.org/x/net/html"

	"pushrelay/internal/agentapi"
	"pushrelay/internal/agentweb"
)

const evil = `"'><script>alert(1)</script>`

// look returns what a person reads of the page, and its bytes.
func look(t *testing.T, st agentapi.Status, spooled agentapi.SpoolContent, textfiles ...string) (read, raw string) {
	t.Helper()
	r := route.New()
	agentweb.New(agentweb.Config{
		Status: func() agentapi.Status { return st }, Spool: func() agentapi.SpoolContent { return spooled }, Textfiles: func() []string { return textfiles },
		Version: "1.2.3", Logger: slog.New(slog.DiscardHandler),
	}).Mount(r)
	w := httptest.NewRecorder()
	r.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
	root, err := html.Parse(strings.NewReader(w.Body.String()))
	if err != nil || w.Code != http.StatusOK {
		t.Fatal(w.Code, err)
	}
	var b strings.Builder
	scripts := 0
	for n := range root.Descendants() {
		if n.Type == html.TextNode {
			b.WriteString(n.Data + " ")
		}
		if n.Data == "script" {
			scripts++
		}
	}
	if scripts != 2 {
		t.Errorf("the page has %d scripts, want its own 2", scripts)
	}
	for _, path := range []string{"/", strings.TrimPrefix(w.Body.String()[strings.Index(w.Body.String(), "./assets/"):][:len("./assets/123456789012/page.css")], ".")} {
		head := httptest.NewRecorder()
		r.ServeHTTP(head, httptest.NewRequestWithContext(t.Context(), http.MethodHead, path, nil))
		if head.Code != http.StatusOK {
			t.Errorf("HEAD %s is %d", path, head.Code)
		}
	}
	return strings.Join(strings.Fields(b.String()), " "), w.Body.String()
}

func TestPage(t *testing.T) {
	now := time.Now()
	good := agentapi.Status{
		StartTime: now.Add(-time.Hour), Spool: agentapi.Spool{Writable: true, Bytes: 2048, MaxBytes: 1 << 30},
		Relays: []agentapi.Relay{{Address: "r:1", Connected: true, Since: now.Add(-time.Hour), RoundTripSeconds: 0.012, Version: "9", LastError: "an old story"}},
	}
	read, _ := look(t, good, agentapi.SpoolContent{}, "/t/a.prom")
	for _, want := range []string{"All is well", "r:1 connected 1h ago", "12ms 0 9", "Takes pushes yes", "2.0 KiB", "There are none. They stand in --config.file", "/t/a.prom pushed", "1.2.3"} {
		if !strings.Contains(read, want) {
			t.Errorf("the page does not say %q: %s", want, read)
		}
	}
	if strings.Contains(read, "an old story") {
		t.Errorf("a relay that is connected is told with its last failure: %s", read)
	}
	scraped := now.Add(-time.Minute)
	bad := agentapi.Status{
		StartTime: now, Spool: agentapi.Spool{Writable: false, Error: "no space left", Entries: 3, OldestSeconds: 90}, TargetsMissing: "a file cannot be read",
		Relays: []agentapi.Relay{{Address: "r:1", LastError: evil, Since: now, Note: "an older copy"}, {Address: "r:2", Revoked: true}},
		Targets: []agentapi.Target{
			{Target: "t1", Job: "up", Instance: "i", LastScrape: &scraped, LastDurationSeconds: 0.5}, {Target: "t2", Job: evil, Instance: evil, LastScrape: &scraped, LastError: evil}, {Target: "t3", Job: "new"},
		},
		Textfiles: []agentapi.Textfile{{Path: "/t/b.prom", Reason: evil}},
	}
	spooled := agentapi.SpoolContent{
		Groups:     []agentapi.SpoolGroup{{GroupingKey: map[string]string{"instance": "b", "job": evil, "a": "1"}, Relay: "r:1", Changes: 2, Bytes: 100, Oldest: now}},
		Rejections: []agentapi.SpoolRejection{{GroupingKey: map[string]string{"job": "late"}, Relay: "r:2", Reason: evil, At: now}},
	}
	read, raw := look(t, bad, spooled, "/t/b.prom", "/t/a.prom")
	for _, want := range []string{
		"This agent needs attention the spool takes no pushes, 2 relays are not connected, 1 target is down, 1 text file is not pushed as it is, 1 push was rejected too late",
		"r:1 not connected", evil + " an older copy", "r:2 revoked", "no: no space left", "1m 30s", "Targets may be missing: a file cannot be read", "new not asked", `a="1" instance="b"`,
		"/t/b.prom wrong " + evil + " /t/a.prom pushed", `job="late"`,
	} {
		if !strings.Contains(read, want) {
			t.Errorf("the page does not say %q: %s", want, read)
		}
	}
	if strings.Index(read, "t2") > strings.Index(read, "t1") || strings.Contains(raw, evil) {
		t.Errorf("what is down does not come first, or something is no text: %s", raw)
	}
}

// TestBounds: an agent that has much has a page that is no book.
func TestBounds(t *testing.T) {
	st := agentapi.Status{Spool: agentapi.Spool{Writable: true}, Targets: make([]agentapi.Target, 20_000)}
	spooled := agentapi.SpoolContent{Groups: make([]agentapi.SpoolGroup, 50_000), Rejections: make([]agentapi.SpoolRejection, 1000)}
	files := make([]string, 2000)
	read, raw := look(t, st, spooled, files...)
	if len(raw) > 600<<10 || !strings.Contains(read, "19 500 more targets") || !strings.Contains(read, "49 900 more groups") || !strings.Contains(read, "1 500 more files") {
		t.Errorf("the page has %d bytes", len(raw))
	}
}
