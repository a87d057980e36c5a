package scrape_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"pushrelay/internal/scrape"
	"pushrelay/internal/target"
)

// asking records what the target of an endpoint is asked for, and answers as told.
func asking(asked *[]string, locations map[string]string) roundTripper {
	return func(r *http.Request) (*http.Response, error) {
		*asked = append(*asked, r.URL.RequestURI())
		resp := &http.Response{StatusCode: 200, Header: http.Header{}, Body: http.NoBody, Request: r}
		if location := locations[r.URL.Path]; location != "" {
			resp.StatusCode, resp.Header = 302, http.Header{"Location": {location}}
		}
		return resp, nil
	}
}

// TestProxiedPaths: as a proxy the own path is asked for, and what the job lists; with the job's credentials nothing else than by path, unless
// it is listed. The target is not asked for the rest.
func TestProxiedPaths(t *testing.T) {
	const none, header, certificate = scrape.NoCredentials, scrape.HeaderCredentials, scrape.ClientCertificate
	for _, tt := range []struct {
		name        string
		listed      []string
		credentials scrape.Credentials
		path, query string
		asked       string // empty: denied
	}{
		{"the own path", nil, none, "/own", "", "/own"},
		{"the own path with any parameters", nil, none, "/own", "x=1", "/own?x=1"},
		{"another path", nil, none, "/admin", "", ""},
		{"a longer path", nil, none, "/own/admin", "", ""},
		{"a path around the own", nil, none, "/own/../admin", "", ""},
		{"an escaped way around", nil, none, "/own%2F..%2Fadmin", "", ""},
		{"the own path, written otherwise", nil, none, "/%6Fwn", "", ""},
		{"two slashes", nil, none, "//own", "", ""},
		{"no slash", nil, none, "own", "", ""},
		{"a host", nil, none, "//evil.test/own", "", ""},
		{"listed", []string{"/probe"}, none, "/probe", "target=x&module=y%2F", "/probe?target=x&module=y%2F"},
		{"listed, in either way of writing", []string{"/fed%2Ferate"}, none, "/fed%2Ferate", "a=%2F", "/fed%2Ferate?a=%2F"},
		{"listed as it reads", []string{"/a b"}, none, "/a%20b", "", "/a%20b"},
		{"a slash that separates is none that does not", []string{"/a/b"}, none, "/a%2Fb", "", ""},
		{"the own path, not listed", []string{"/probe"}, none, "/own", "", ""},
		{"nothing is listed", []string{}, none, "/own", "", ""},
		{"a password, as by path", nil, header, "/own", "p=1", "/own?p=1"},
		{"a password, no parameters", nil, header, "/own", "", "/own"},
		{"a password, other parameters", nil, header, "/own", "p=2", ""},
		{"a password, another path", nil, header, "/admin", "", ""},
		{"a password, listed", []string{"/own", "/probe"}, header, "/probe", "target=x", "/probe?target=x"},
		{"a certificate, as by path", nil, certificate, "/own", "", ""},
		{"a certificate, listed", []string{"/own"}, certificate, "/own", "x=1", "/own?x=1"},
		{"a certificate, not listed", []string{"/own"}, certificate, "/admin", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var asked []string
			s := scrape.NewHTTPScraper()
			s.Configure([]*scrape.Endpoint{{
				Target: targetOf("http", "localhost:1"), Params: url.Values{"p": {"1"}}, Job: "the job",
				ProxyPaths: tt.listed, Credentials: tt.credentials, RoundTripper: asking(&asked, nil),
			}})
			resp, err := s.Scrape(t.Context(), &scrape.Request{Target: "t", Method: "GET", Path: tt.path, RawQuery: tt.query})
			if err == nil {
				resp.Body.Close()
			}
			if tt.asked != "" {
				if err != nil || !slices.Equal(asked, []string{tt.asked}) {
					t.Errorf("the target was asked for %q, %v, want %q", asked, err, tt.asked)
				}
				return
			}
			if err == nil || scrape.AsError(t.Context(), err).Reason != scrape.Denied || asked != nil {
				t.Fatalf("the target was asked for %q, %v, want it denied", asked, err)
			}
			if !strings.Contains(err.Error(), "proxy_paths") || !strings.Contains(err.Error(), `"the job"`) {
				t.Errorf("error = %v, want it to name the key and the job", err)
			}
		})
	}
}

// TestPathsOfOneAddress: where several jobs have targets at an address, the one that lists the path serves it, whichever the relay names; one at
// another address does not.
func TestPathsOfOneAddress(t *testing.T) {
	var plain, probes, elsewhere []string
	at := func(name, address string, paths []string, asked *[]string) *scrape.Endpoint {
		return &scrape.Endpoint{
			Target: target.Target{Name: name, Address: address, Scheme: "http", MetricsPath: "/" + name},
			Job:    name, ProxyPaths: paths, RoundTripper: asking(asked, nil),
		}
	}
	s := scrape.NewHTTPScraper()
	s.Configure([]*scrape.Endpoint{
		at("elsewhere", "localhost:2", []string{"/probe", "/other"}, &elsewhere), at("plain", "LOCALHOST:1", nil, &plain), at("probes", "localhost:1", []string{"/probe"}, &probes),
	})
	for path, want := range map[string]scrape.Reason{"/probe": "", "/plain": "", "/probes": scrape.Denied, "/other": scrape.Denied} {
		resp, err := s.Scrape(t.Context(), &scrape.Request{Target: "plain", Method: "GET", Path: path})
		if err == nil {
			resp.Body.Close()
		}
		if (err == nil) != (want == "") || err != nil && scrape.AsError(t.Context(), err).Reason != want {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
	if !slices.Equal(plain, []string{"/plain"}) || !slices.Equal(probes, []string{"/probe"}) || elsewhere != nil {
		t.Errorf("asked for %q, %q and %q", plain, probes, elsewhere)
	}
}

// TestRedirectsToOtherPaths: a target does not send credentials to another of its paths, nor a scraper's request to one that the scraper may
// not ask for.
func TestRedirectsToOtherPaths(t *testing.T) {
	const none, header, certificate = scrape.NoCredentials, scrape.HeaderCredentials, scrape.ClientCertificate
	for _, tt := range []struct {
		name         string
		listed       []string
		credentials  scrape.Credentials
		path, leadTo string
		followed     bool
	}{
		{"by path", nil, none, "", "/other", true},
		{"by path, a password", nil, header, "", "/other", false},
		{"by path, a certificate", nil, certificate, "", "/other", false},
		{"by path, a password and a slash", nil, header, "", "/own/", true},
		{"by path, a password and parameters", nil, header, "", "/own/?x=1", true},
		{"by path, a password, listed", []string{"/other"}, header, "", "/other", true},
		{"by path, a certificate, listed", []string{"/other"}, certificate, "", "http://localhost:1/other", true},
		{"by path, a password, around", []string{"/other"}, header, "", "/other/../admin", false},
		{"proxied", nil, none, "/own", "/other", false},
		{"proxied, a slash", nil, none, "/own", "/own/", true},
		{"proxied, listed", []string{"/own", "/other"}, none, "/own", "/other", true},
		{"proxied, to the own path that is not listed", []string{"/probe"}, none, "/probe", "/own/", false},
		{"proxied, a password", []string{"/own"}, header, "/own", "/other", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var asked []string
			s := scrape.NewHTTPScraper()
			s.Configure([]*scrape.Endpoint{{
				Target: targetOf("http", "localhost:1"), Job: "the job", ProxyPaths: tt.listed, Credentials: tt.credentials, FollowRedirects: true,
				RoundTripper: asking(&asked, map[string]string{"/own": tt.leadTo, "/probe": tt.leadTo}),
			}})
			resp, err := s.Scrape(t.Context(), &scrape.Request{Target: "t", Method: "GET", Path: tt.path})
			if err == nil {
				resp.Body.Close()
			}
			if followed := err == nil && len(asked) == 2; followed != tt.followed {
				t.Errorf("the target was asked for %q, %v, want the redirect followed: %v", asked, err, tt.followed)
			}
			if !tt.followed && (scrape.AsError(t.Context(), err).Reason != scrape.TargetRedirects || !strings.Contains(err.Error(), "proxy_paths") || len(asked) != 1) {
				t.Errorf("the target was asked for %q, %v, want the key named", asked, err)
			}
		})
	}
}
