package agentapi_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/common/route"

	"pushrelay/internal/agentapi"
	"pushrelay/internal/apiclient"
	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	"pushrelay/internal/grouping"
	"pushrelay/internal/lifetime"
	"pushrelay/internal/push"
)

// pusher is an agent behind its push API: it keeps the last push, and answers as it is told.
type pusher struct {
	operation change.Operation
	key       grouping.Key
	body      string
	life      lifetime.Texts
	failed    string
	result    change.Outcome
	err       error
}

func (p *pusher) Apply(_ context.Context, r *change.Change) change.Outcome {
	p.operation, p.key, p.body = r.Operation, r.Key, string(r.Body)
	p.life, p.failed = r.Life.Texts(), r.Failed
	if p.err != nil {
		return change.OutcomeOf(p.err)
	}
	return p.result
}

// handler serves the agent's real push routes before the pusher.
func (p *pusher) handler(prefix string) http.Handler {
	r := route.New()
	h := push.NewHandler(push.HandlerConfig{Applier: p, Logger: promslog.NewNopLogger(), Limits: exposition.Limits{MaxBodyBytes: 1 << 20}})
	h.Mount(r.WithPrefix(prefix), func(_ string, h http.HandlerFunc) http.HandlerFunc { return h })
	r.Get(prefix+"/-/healthy", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set(agentapi.AgentHeader, "1") })
	mux := http.NewServeMux()
	mux.Handle("/", r)
	return push.RefuseAmbiguous(prefix, mux)
}

func newClient(t *testing.T, address string) *agentapi.Client {
	t.Helper()
	c, err := agentapi.New(address)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func mustKey(t *testing.T, labels ...grouping.Label) grouping.Key {
	t.Helper()
	key, err := grouping.New(labels...)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// TestKeysArrive: whatever a key holds arrives as it is, over TCP, below a prefix, and over a Unix socket.
func TestKeysArrive(t *testing.T) {
	p := &pusher{result: change.Outcome{Kind: change.Applied}}
	plain, prefixed, unix := httptest.NewServer(p.handler("")), httptest.NewServer(p.handler("/agent")), httptest.NewUnstartedServer(p.handler(""))
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	unix.Listener.Close()
	unix.Listener = l
	unix.Start()
	for _, s := range []*httptest.Server{plain, prefixed, unix} {
		t.Cleanup(s.Close)
	}
	for _, address := range []string{plain.URL, plain.URL + "/", prefixed.URL + "/agent/", "unix:" + path} {
		c := newClient(t, address)
		for _, value := range []string{"plain", "", ".", "..", "a/b", "//", "a b", "a%2Fb", "ä€𝄞", "new\nline", `"quoted"`, "?#&+", "x@base64"} {
			for _, job := range []string{"backup", "a/b c", ".."} {
				key := mustKey(t, grouping.Label{Name: "job", Value: job}, grouping.Label{Name: "instance", Value: value})
				if _, err := c.Merge(t.Context(), key, agentapi.Content{Exposition: []byte("m 1\n")}); err != nil {
					t.Errorf("Merge(%s) at %s: %v", key, address, err)
				}
				if p.key != key || p.operation != change.Merge || p.body != "m 1\n" {
					t.Errorf("Merge(%s) at %s arrived as %s of %s with %q", key, address, p.operation, p.key, p.body)
				}
			}
		}
	}
}

func TestOperations(t *testing.T) {
	p := &pusher{result: change.Outcome{Kind: change.Spooled, Detail: "no relay is\nattached"}}
	s := httptest.NewServer(p.handler(""))
	t.Cleanup(s.Close)
	c := newClient(t, s.URL)
	key := mustKey(t, grouping.Label{Name: "job", Value: "j"})
	for want, operation := range map[change.Operation]func() (agentapi.Push, error){
		change.Replace: func() (agentapi.Push, error) {
			return c.Replace(t.Context(), key, agentapi.Content{Exposition: []byte("m 1\n")})
		},
		change.Merge: func() (agentapi.Push, error) {
			return c.Merge(t.Context(), key, agentapi.Content{Exposition: []byte("m 1\n")})
		},
		change.Delete: func() (agentapi.Push, error) { return c.Delete(t.Context(), key) },
	} {
		got, err := operation()
		if err != nil || p.operation != want {
			t.Errorf("operation %s arrived as %s, %v", want, p.operation, err)
		}
		if diff := cmp.Diff(agentapi.Push{Spooled: true, Detail: "no relay is attached"}, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", want, diff)
		}
	}
}

// TestLifeArrives: what a push says of its group's life, and that its job failed.
func TestLifeArrives(t *testing.T) {
	p := &pusher{result: change.Outcome{Kind: change.Applied}}
	s := httptest.NewServer(p.handler(""))
	t.Cleanup(s.Close)
	key := mustKey(t, grouping.Label{Name: "job", Value: "j"})
	for _, texts := range []lifetime.Texts{{}, {TTL: "3d", Every: "1d", Grace: "30m"}, {TTL: "0", Schedule: "TZ=Europe/Berlin 15 3 * * *"}} {
		for _, failed := range []string{"", "exit status 2", "kaputt: ü\nnext line"} {
			life, err := lifetime.Parse(texts)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := newClient(t, s.URL).Merge(t.Context(), key, agentapi.Content{Life: life, Failed: failed}); err != nil {
				t.Errorf("%+v, %q: %v", texts, failed, err)
			}
			if p.life != texts || p.failed != change.FailedText(failed) {
				t.Errorf("%+v, %q arrived as %+v, %q", texts, failed, p.life, p.failed)
			}
		}
	}
}

func TestRefusals(t *testing.T) {
	for _, tt := range []struct {
		err    error
		body   string
		status int
		reason string
		later  bool
	}{
		{err: change.Refuse(change.Invalid, "no\ngood"), status: 400, reason: "no good"},
		{err: change.Refuse(change.Unavailable, "no relay"), status: 503, reason: "no relay", later: true},
		{err: change.Refuse(change.Full, "store is full"), status: 429, reason: "store is full", later: true},
		{err: change.Refuse(change.Stalled, "nothing came"), status: 408, reason: "nothing came", later: true},
		{body: strings.Repeat("m 1\n", 1<<20), status: 413, reason: "--push.max-body-size"},
	} {
		s := httptest.NewServer((&pusher{err: tt.err}).handler(""))
		t.Cleanup(s.Close)
		_, err := newClient(t, s.URL).Merge(t.Context(), mustKey(t, grouping.Label{Name: "job", Value: "j"}), agentapi.Content{Exposition: []byte(tt.body)})
		refused, ok := errors.AsType[*apiclient.RefusedError](err)
		if !ok || refused.Status != tt.status || refused.Later() != tt.later || !strings.Contains(refused.Reason, tt.reason) {
			t.Errorf("a push that is answered %d: %v, want %q, later: %v", tt.status, err, tt.reason, tt.later)
		}
	}
}

func TestUnreachable(t *testing.T) {
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	t.Cleanup(silent.Close)
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	for address, reason := range map[string]string{
		silent.URL: "no answer in time", gone.URL: "connection refused", "unix:/nowhere/s": "no such file",
		strings.Replace(gone.URL, "http://", "http://user:secret@", 1): "connection refused",
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		_, _, err := newClient(t, address).Status(ctx)
		cancel()
		if !errors.Is(err, apiclient.ErrUnreachable) || !strings.Contains(err.Error(), reason) || strings.Contains(err.Error(), "secret") {
			t.Errorf("Status at %s = %v, want unreachable for %q", address, err, reason)
		}
	}
}

func TestStatus(t *testing.T) {
	const raw = `{"status":"success","data":{"version":"1","start_time":"2026-01-02T03:04:05Z","relays":[{"address":"r:1","connected":true,"pending":7}],
		"targets":[{"target":"t","labels":{"env":"prod"},"last_scrape":null}],"spool":{"bytes":3,"writable":true}}}`
	want := agentapi.Status{
		Version: "1", StartTime: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		Relays:  []agentapi.Relay{{Address: "r:1", Connected: true, Pending: 7}},
		Targets: []agentapi.Target{{Target: "t", Labels: map[string]string{"env": "prod"}}},
		Spool:   agentapi.Spool{Bytes: 3, Writable: true},
	}
	for answer, reason := range map[string]string{
		raw: "", `{"status":"success","data":{"flags":{}}}`: "no relay-agent", "<html>": "no relay-agent",
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, answer) }))
		t.Cleanup(s.Close)
		got, told, err := newClient(t, s.URL).Status(t.Context())
		if reason != "" {
			if err == nil || !strings.Contains(err.Error(), reason) {
				t.Errorf("Status of %q = %v, want %q", answer, err, reason)
			}
			continue
		}
		if diff := cmp.Diff(want, got); err != nil || diff != "" || string(told) != raw {
			t.Errorf("Status = %v, %s (-want +got):\n%s", err, told, diff)
		}
	}
}

// TestNoAgent: what is no agent is told so, whatever it is, and gets no push. An agent of an earlier release, which does not say
// of itself that it is one, gets it.
func TestNoAgent(t *testing.T) {
	const earlier = `{"status":"success","data":{"relays":[]}}`
	for _, tt := range []struct {
		name                    string
		healthy, status, pushed int // their statuses; the last is what a push would be answered
		body                    string
		agent                   bool
	}{
		{"a Pushgateway or a relay", 200, 200, 200, `{"status":"success","data":{"flags":{},"start_time":"2026-01-02T03:04:05Z"}}`, false},
		{"a page for every path", 200, 200, 200, "<html>", false},
		{"a web server", 404, 404, 405, "no such page", false},
		{"a web server that sends elsewhere", 301, 301, 301, "", false},
		{"a web server that knows GET only for one", 200, 404, 405, "", false},
		{"an agent of an earlier release", 200, 200, 200, earlier, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var pushes int
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch r.URL.Path {
				case "/-/healthy":
					w.WriteHeader(tt.healthy)
				case "/api/v1/status":
					w.WriteHeader(tt.status)
					fmt.Fprint(w, tt.body)
				default:
					pushes++
					w.WriteHeader(tt.pushed)
				}
			}))
			t.Cleanup(s.Close)
			key := mustKey(t, grouping.Label{Name: "job", Value: "j"})
			c := newClient(t, s.URL)
			_, _, statusErr := c.Status(t.Context())
			_, mergeErr := c.Merge(t.Context(), key, agentapi.Content{Exposition: []byte("m 1\n")})
			_, deleteErr := c.Delete(t.Context(), key)
			for operation, err := range map[string]error{"Status": statusErr, "Merge": mergeErr, "Delete": deleteErr} {
				if tt.agent && err != nil || !tt.agent && !errors.Is(err, agentapi.ErrNoAgent) {
					t.Errorf("%s: %v, want it to be an agent: %v", operation, err, tt.agent)
				}
			}
			if want := map[bool]int{true: 2}[tt.agent]; pushes != want {
				t.Errorf("it got %d changes, want %d", pushes, want)
			}
		})
	}
}

func TestAddresses(t *testing.T) {
	for _, bad := range []string{"", "localhost:9091", "unix:", "ftp://x", "http://", "http://x/?y", "http://[::1", "/run/s"} {
		if _, err := agentapi.New(bad); err == nil || !strings.Contains(err.Error(), "unix:/run/relay-agent/agent.sock") {
			t.Errorf("New(%q) = %v, want an error with an example", bad, err)
		}
	}
}
