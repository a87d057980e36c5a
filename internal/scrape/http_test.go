package scrape_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/prometheus/common/config"

	"pushrelay/internal/scrape"
	"pushrelay/internal/target"
)

// site is an HTTP server that an agent has as target "t", and its scraper.
func site(t *testing.T, h http.HandlerFunc) (*scrape.HTTPScraper, *httptest.Server) {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	cfg := config.DefaultHTTPClientConfig
	cfg.BasicAuth = &config.BasicAuth{Username: "u", Password: "p"}
	rt, err := scrape.NewRoundTripper(cfg, "job")
	if err != nil {
		t.Fatal(err)
	}
	s := scrape.NewHTTPScraper()
	s.Configure([]*scrape.Endpoint{{
		Target: target.Target{Name: "t", Address: server.Listener.Addr().String(), Scheme: "http", MetricsPath: "/own"},
		Params: url.Values{"p": {"1"}}, RoundTripper: rt, FollowRedirects: true,
		Job: "job", Credentials: scrape.HeaderCredentials, ProxyPaths: []string{"/fed%2Ferate", "/large", "/chunked", "/cut", "/slow"},
	}})
	return s, server
}

func TestHTTPScraperAsksTheConfiguredTarget(t *testing.T) {
	var got *http.Request
	s, _ := site(t, func(w http.ResponseWriter, r *http.Request) {
		got = r.Clone(context.Background())
		w.Header().Set("Retry-After", "1")
		w.Header().Set("X-Answer", "1")
		w.Header().Set("X-Relay-Error", "agent_offline")
		fmt.Fprint(w, "m 1\n")
	})
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	resp, err := s.Scrape(ctx, &scrape.Request{Target: "t", Method: "GET", Header: http.Header{"Accept": {"x"}, "Authorization": {"not this"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || string(text) != "m 1\n" || resp.Status != 200 || resp.Header.Get("Retry-After") != "1" {
		t.Errorf("answer = %d %q %v, %v", resp.Status, text, resp.Header, err)
	}
	if resp.Header.Get(scrape.ErrorHeader) != "" || resp.Header.Get("X-Answer") != "" {
		t.Errorf("the target speaks for the relay: %v", resp.Header)
	}
	if got.URL.RequestURI() != "/own?p=1" || got.Header.Get("Accept") != "x" {
		t.Errorf("asked for %s with %v", got.URL.RequestURI(), got.Header)
	}
	if user, password, _ := got.BasicAuth(); user != "u" || password != "p" {
		t.Errorf("the target saw the credentials %q, %q, want those of the configuration", user, password)
	}
	if left, err := strconv.ParseFloat(got.Header.Get(scrape.TimeoutHeader), 64); err != nil || left <= 0 || left > 5 {
		t.Errorf("the target was told a timeout of %v, %v, want what is left of 5 s", left, err)
	}
}

func TestHTTPScraperLeavesGzipAlone(t *testing.T) {
	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed)
	io.WriteString(zip, "m 1\n")
	zip.Close()
	s, _ := site(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		w.Write(packed.Bytes())
	})
	for _, header := range []http.Header{{}, {"Accept-Encoding": {"gzip"}}} {
		resp, err := s.Scrape(t.Context(), &scrape.Request{Target: "t", Method: "GET", Header: header})
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || !bytes.Equal(text, packed.Bytes()) || resp.Header.Get("Content-Encoding") != "gzip" {
			t.Errorf("Accept-Encoding %v: %d bytes, %v, %v: not the target's own bytes", header, len(text), resp.Header, err)
		}
	}
}

func TestHTTPScraperPathAndQueryAreKept(t *testing.T) {
	var uri string
	s, _ := site(t, func(_ http.ResponseWriter, r *http.Request) { uri = r.RequestURI })
	resp, err := s.Scrape(t.Context(), &scrape.Request{Target: "t", Method: "GET", Path: "/fed%2Ferate", RawQuery: "match[]=%7Ba%7D&a=%2F"})
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if want := "/fed%2Ferate?match[]=%7Ba%7D&a=%2F"; uri != want {
		t.Errorf("asked for %s, want %s", uri, want)
	}
}

func TestHTTPScraperStaysWithTheTarget(t *testing.T) {
	visited := false
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { visited = true }))
	defer elsewhere.Close()
	for name, tt := range map[string]struct {
		location string
		says     string // in the error; empty if the redirect is followed
	}{
		"another host":   {elsewhere.URL + "/x", `a redirect to "` + elsewhere.URL + `/x"`},
		"another scheme": {"https://user:secret@SELF/x", `a redirect to "https://`},
		"the same path":  {"/own/", ""},
		"another path":   {"/there", `a redirect to the path "/there"`},
		"for ever":       {"/own", `a redirect to "/own"`},
		"no URL":         {"http://user:secret@%zz", "a redirect to no valid URL"},
		"nowhere":        {"", "a redirect to no valid URL"},
	} {
		for _, method := range []string{"GET", "HEAD"} {
			t.Run(name+" "+method, func(t *testing.T) {
				s, _ := site(t, func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path == "/own/" {
						return
					}
					if tt.location != "" {
						w.Header().Set("Location", strings.ReplaceAll(tt.location, "SELF", r.Host))
					}
					w.WriteHeader(302)
				})
				resp, err := s.Scrape(t.Context(), &scrape.Request{Target: "t", Method: method})
				switch {
				case visited:
					t.Error("the agent went elsewhere")
				case err != nil && (tt.says == "" || !strings.Contains(err.Error(), "target_redirects: ") || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "secret")):
					t.Errorf("Scrape() = %v, want %q", err, tt.says)
				case err == nil && (tt.says != "" || resp.Status != 200):
					t.Errorf("Scrape() = %d, want an error with %q", resp.Status, tt.says)
				}
				if err == nil {
					resp.Body.Close()
				}
			})
		}
	}
}

// The same host, however a target writes it in a redirect, is the target.
func TestHTTPScraperKnowsTheTargetByAnyName(t *testing.T) {
	for _, tt := range []struct {
		scheme, address, location string
		same                      bool
	}{
		{"http", "localhost:80", "http://localhost/x", true},
		{"http", "localhost:80", "HTTP://LocalHost:80/x", true},
		{"http", "LOCALHOST:80", "http://localhost/x", true},
		{"http", "localhost:80", "http://localhost:/x", true},
		{"http", "localhost:80", "//localhost/x", true},
		{"https", "db.example.org:443", "https://DB.example.org/x", true},
		{"http", "[::1]:80", "http://[::1]/x", true},
		{"http", "[::1]:80", "http://[0:0::1]:80/x", true},
		{"http", "[FE80::1]:8080", "http://[fe80::1]:8080/x", true},
		{"http", "localhost:80", "http://localhost:8080/x", false},
		{"http", "localhost:80", "https://localhost:80/x", false},
		{"http", "localhost:443", "http://localhost/x", false},
		{"https", "localhost:80", "https://localhost/x", false},
		{"http", "localhost:80", "http://localhost.example.org/x", false},
		{"http", "127.0.0.1:80", "http://localhost/x", false},
		{"http", "localhost:80", "http://localhost:80@elsewhere.example.org/x", false},
	} {
		asked := 0
		target := roundTripper(func(r *http.Request) (*http.Response, error) {
			asked++
			resp := &http.Response{StatusCode: 200, Header: http.Header{}, Body: http.NoBody, Request: r}
			if asked == 1 {
				resp.StatusCode = 301
				resp.Header.Set("Location", tt.location)
			}
			return resp, nil
		})
		s := scrape.NewHTTPScraper()
		s.Configure([]*scrape.Endpoint{{
			Target:       targetOf(tt.scheme, tt.address),
			RoundTripper: target, FollowRedirects: true,
		}})
		resp, err := s.Scrape(t.Context(), &scrape.Request{Target: "t", Method: "GET"})
		if err == nil {
			resp.Body.Close()
		}
		if followed := err == nil; followed != tt.same {
			t.Errorf("%s://%s redirects to %s: followed = %t (%v)", tt.scheme, tt.address, tt.location, followed, err)
		}
	}
}

func targetOf(scheme, address string) target.Target {
	return target.Target{Name: "t", Address: address, Scheme: scheme, MetricsPath: "/own"}
}

type roundTripper func(r *http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// What a scraper asks with is among the target's own parameters, or is refused: an answer to another question would be worse.
func TestHTTPScraperRefusesOtherParameters(t *testing.T) {
	for query, says := range map[string]string{
		"":                   "",
		"&":                  "",
		"p=1":                "",
		"p=2&p=1":            "",
		"q=%26&p=1":          "",
		"p=3":                `the parameters "p" of the request`,
		"p=1&p=3":            `"p"`,
		"format=prometheus":  `"format"`,
		"b=1&p=1&a=2&secret": `"a", "b", "secret"`,
		"p":                  `"p"`,
		"p=%zz":              "the query is malformed",
		"a;b":                "the query is malformed",
	} {
		var uri string
		s := scrape.NewHTTPScraper()
		s.Configure([]*scrape.Endpoint{{
			Target: targetOf("http", "localhost:1"), Params: url.Values{"p": {"1", "2"}, "q": {"&"}},
			RoundTripper: roundTripper(func(r *http.Request) (*http.Response, error) {
				uri = r.URL.RequestURI()
				return &http.Response{StatusCode: 200, Body: http.NoBody, Request: r}, nil
			}),
		}})
		resp, err := s.Scrape(t.Context(), &scrape.Request{Target: "t", Method: "GET", RawQuery: query})
		if err == nil {
			resp.Body.Close()
		}
		switch {
		case says == "" && (err != nil || uri != "/own?p=1&p=2&q=%26"):
			t.Errorf("%q: asked for %q, %v", query, uri, err)
		case says != "" && (scrape.AsError(t.Context(), err).Reason != scrape.ParamsUnknown || !strings.Contains(err.Error(), says) || uri != ""):
			t.Errorf("%q: asked for %q, %v, want a refusal with %q", query, uri, err, says)
		}
	}
}

func TestHTTPScraperErrors(t *testing.T) {
	s, server := site(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/large":
			w.Write(make([]byte, 2000))
		case "/chunked":
			for range 20 {
				w.Write(make([]byte, 100))
				w.(http.Flusher).Flush()
			}
		case "/cut":
			w.Header().Set("Content-Length", "100")
			w.Write([]byte("m 1\n"))
			panic(http.ErrAbortHandler)
		case "/slow":
			<-r.Context().Done()
		}
	})
	for _, tt := range []struct {
		name    string
		request scrape.Request
		down    bool
		timeout time.Duration
		want    scrape.Reason
	}{
		{name: "unknown target", request: scrape.Request{Target: "u"}, want: scrape.TargetUnknown},
		{name: "another method", request: scrape.Request{Target: "t", Method: "POST"}, want: scrape.Denied},
		{name: "large, announced", request: scrape.Request{Target: "t", Path: "/large", MaxBodyBytes: 1999}, want: scrape.BodyTooLarge},
		{name: "large, chunked", request: scrape.Request{Target: "t", Path: "/chunked", MaxBodyBytes: 1999}, want: scrape.BodyTooLarge},
		{name: "cut off", request: scrape.Request{Target: "t", Path: "/cut"}, want: scrape.TargetUnreachable},
		{name: "no answer", request: scrape.Request{Target: "t", Path: "/slow"}, timeout: 50 * time.Millisecond, want: scrape.Timeout},
		{name: "refused", request: scrape.Request{Target: "t"}, down: true, want: scrape.TargetUnreachable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.request.Method == "" {
				tt.request.Method = "GET"
			}
			if tt.down {
				server.CloseClientConnections()
				server.Close()
			}
			if tt.timeout == 0 {
				tt.timeout = 10 * time.Second
			}
			ctx, cancel := context.WithTimeout(t.Context(), tt.timeout)
			defer cancel()
			resp, err := s.Scrape(ctx, &tt.request)
			if err == nil {
				_, err = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
			if err == nil {
				t.Fatal("no error")
			}
			if got := scrape.AsError(ctx, err).Reason; got != tt.want {
				t.Errorf("reason = %s (%v), want %s", got, err, tt.want)
			}
			if strings.Contains(err.Error(), "http://") {
				t.Errorf("the error tells the target's address: %v", err)
			}
		})
	}
	if _, err := s.Scrape(t.Context(), &scrape.Request{Target: "t", Method: "GET", Path: "no-slash"}); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("a path without a slash: %v", err)
	}
}

// TestHTTPScraperRefusesAnotherProtocol: the body that net/http has for a 101 is the bare connection, whose Read no
// context ends; whoever read it would never come back.
func TestHTTPScraperRefusesAnotherProtocol(t *testing.T) {
	s, _ := site(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "x")
		w.WriteHeader(http.StatusSwitchingProtocols)
	})
	_, err := s.Scrape(t.Context(), &scrape.Request{Target: "t", Method: "GET"})
	if named, ok := errors.AsType[*scrape.Error](err); !ok || named.Reason != scrape.TargetUnreachable {
		t.Errorf("Scrape() = %v, want %s", err, scrape.TargetUnreachable)
	}
}
