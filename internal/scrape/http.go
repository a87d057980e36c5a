package scrape

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/common/config"

	"pushrelay/internal/target"
)

// Endpoint is a configured target together with the way to it. Only an agent has endpoints.
type Endpoint struct {
	Target target.Target
	// Params are the query parameters of the target's own path.
	Params url.Values
	// RoundTripper holds the target's TLS, authentication and proxy settings. Endpoints of one scrape configuration share
	// it. It must not decompress.
	RoundTripper http.RoundTripper
	// FollowRedirects says whether redirects within the target's own scheme, host and port are followed. No other ever is.
	FollowRedirects bool
	// Job is the name of the scrape configuration, for errors.
	Job string
	// ProxyPaths are the paths that may be asked for in place of the target's own. Nil stands for its own path alone; empty for none.
	ProxyPaths []string
	// Credentials are those of RoundTripper.
	Credentials Credentials
}

// HTTPScraper scrapes configured targets over HTTP, and nothing else: a target is asked for by name, its address comes
// from the configuration. It is safe for concurrent use.
type HTTPScraper struct {
	mu        sync.RWMutex
	endpoints map[string]*Endpoint   // guarded by mu; by name; replaced whole by Configure
	places    map[string][]*Endpoint // guarded by mu; by scheme and address; replaced whole by Configure
}

// NewHTTPScraper returns a scraper without targets; Configure gives it some.
func NewHTTPScraper() *HTTPScraper { return &HTTPScraper{} }

// Configure replaces all endpoints. Scrapes that run go on with the old ones.
func (s *HTTPScraper) Configure(endpoints []*Endpoint) {
	byName, byPlace := make(map[string]*Endpoint, len(endpoints)), map[string][]*Endpoint{}
	for _, e := range endpoints {
		byName[e.Target.Name] = e
		byPlace[e.place()] = append(byPlace[e.place()], e)
	}
	s.mu.Lock()
	s.endpoints, s.places = byName, byPlace
	s.mu.Unlock()
}

// find returns the endpoint of a request. Where several jobs have targets at one address, a relay cannot know which of them lets a proxied request
// through: the first that does serves it.
func (s *HTTPScraper) find(r *Request) (*Endpoint, *Error) {
	s.mu.RLock()
	endpoints, places := s.endpoints, s.places
	s.mu.RUnlock()
	e := endpoints[r.Target]
	if e == nil {
		return nil, Errorf(TargetUnknown, "the agent has no target %q", r.Target)
	}
	if r.Path == "" {
		return e, e.checkQuery(r.RawQuery)
	}
	denied := e.checkProxied(r)
	if denied == nil {
		return e, nil
	}
	for _, other := range places[e.place()] {
		if other.checkProxied(r) == nil {
			return other, nil
		}
	}
	return nil, denied
}

// Scrape asks the target named by the request. See [Scraper].
func (s *HTTPScraper) Scrape(ctx context.Context, r *Request) (*Response, error) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return nil, Errorf(Denied, "method %q is not allowed, a scrape is GET or HEAD", r.Method)
	}
	e, denied := s.find(r)
	if denied != nil {
		return nil, denied
	}
	u, err := e.url(r)
	if err != nil {
		return nil, Errorf(Denied, "%v", err)
	}
	req, err := http.NewRequestWithContext(ctx, r.Method, u.String(), http.NoBody)
	if err != nil {
		return nil, Errorf(Denied, "%v", err)
	}
	req.Header = RequestHeader(r.Header)
	if deadline, ok := ctx.Deadline(); ok {
		// The target is told what is left, as if Prometheus asked it directly.
		req.Header.Set(TimeoutHeader, strconv.FormatFloat(time.Until(deadline).Seconds(), 'f', 3, 64))
	}
	if _, set := req.Header["User-Agent"]; !set {
		req.Header["User-Agent"] = nil // or net/http would add its own
	}
	resp, err := e.client(r.Path != "").Do(req)
	if err != nil {
		return nil, AsError(ctx, plain(err))
	}
	if err := CheckHead(resp.StatusCode, resp.Header); err != nil { // of a 101 net/http hands out a body that no context ends
		resp.Body.Close()
		return nil, err
	}
	if r.MaxBodyBytes > 0 && resp.ContentLength > r.MaxBodyBytes && r.Method != http.MethodHead {
		resp.Body.Close()
		return nil, tooLarge(r.MaxBodyBytes)
	}
	return &Response{
		Status:        resp.StatusCode,
		Header:        ResponseHeader(resp.Header),
		ContentLength: resp.ContentLength,
		Body:          &limitedBody{body: resp.Body, max: r.MaxBodyBytes},
	}, nil
}

// plain takes the address off a *url.Error: it may hold parameters that are nobody else's business.
func plain(err error) error {
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		return wrapped.Err
	}
	return err
}

// url returns what to ask for: the target's own path and parameters, or the requested ones on the target's own host.
func (e *Endpoint) url(r *Request) (*url.URL, error) {
	u := &url.URL{Scheme: e.Target.Scheme, Host: e.Target.Address}
	if r.Path == "" {
		u.Path = e.Target.MetricsPath
		u.RawQuery = e.Params.Encode()
		return u, nil
	}
	path, err := url.PathUnescape(r.Path)
	if err != nil || r.Path[0] != '/' {
		return nil, fmt.Errorf("path %q is not valid", r.Path)
	}
	u.Path, u.RawPath, u.RawQuery = path, r.Path, r.RawQuery
	return u, nil
}

// checkQuery refuses what a scraper asks for beyond the target's own parameters: to leave it out without a word would give
// another answer than was asked for.
func (e *Endpoint) checkQuery(query string) *Error {
	params, err := url.ParseQuery(query)
	if err != nil {
		return Errorf(ParamsUnknown, "the query is malformed: %v", err)
	}
	var unknown []string
	for _, name := range slices.Sorted(maps.Keys(params)) {
		for _, value := range params[name] {
			if !slices.Contains(e.Params[name], value) {
				unknown = append(unknown, strconv.Quote(name))
				break
			}
		}
	}
	if len(unknown) > 0 {
		return Errorf(ParamsUnknown, "the target is not configured with the parameters %s of the request: take them out of Prometheus' job, and put what the target needs into params of its job in the agent's file",
			strings.Join(unknown, ", "))
	}
	return nil
}

// place is where the endpoint is.
func (e *Endpoint) place() string {
	return e.Target.Scheme + "://" + canonicalHost(e.Target.Scheme, e.Target.Address)
}

// isAt reports whether a URL leads to the target itself, however it is written.
func (e *Endpoint) isAt(u *url.URL) bool {
	return u.Scheme == e.Target.Scheme && canonicalHost(u.Scheme, u.Host) == canonicalHost(u.Scheme, e.Target.Address)
}

// canonicalHost returns host:port in one way of writing: in lower case, with the port that the scheme implies, and an IP
// address as short as can be.
func canonicalHost(scheme, hostport string) string {
	host, port := (&url.URL{Host: hostport}).Hostname(), (&url.URL{Host: hostport}).Port()
	if port == "" {
		port = "80"
		if scheme == "https" {
			port = "443"
		}
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		host = ip.String()
	}
	return net.JoinHostPort(strings.ToLower(host), port)
}

// client returns an HTTP client that stays with the target: a redirect to another scheme, host or port is its answer (T28), since
// following it would reach what nobody configured, with the target's credentials. Neither is one to a path that is not listed.
func (e *Endpoint) client(proxied bool) *http.Client {
	return &http.Client{
		Transport: locating{e.RoundTripper},
		CheckRedirect: func(next *http.Request, via []*http.Request) error {
			if !e.FollowRedirects || !e.isAt(next.URL) || len(via) > 5 {
				return http.ErrUseLastResponse
			}
			if !e.mayRedirectTo(next.URL, proxied) {
				return e.errUnlisted(next)
			}
			return nil
		},
	}
}

// locating takes a Location off an answer that is no URL: net/http would write it into its error as it is.
type locating struct{ http.RoundTripper }

// RoundTrip asks the target.
func (l locating) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := l.RoundTripper.RoundTrip(r)
	if err == nil {
		if _, invalid := r.URL.Parse(resp.Header.Get("Location")); invalid != nil {
			resp.Header.Del("Location")
		}
	}
	return resp, err
}

// NewRoundTripper returns the transport for the targets of one scrape configuration.
func NewRoundTripper(cfg config.HTTPClientConfig, job string) (http.RoundTripper, error) {
	rt, err := config.NewRoundTripperFromConfig(cfg, job)
	if err != nil {
		return nil, fmt.Errorf("making the HTTP transport of job %q: %w", job, err)
	}
	return rt, nil
}

// limitedBody fails with BodyTooLarge once more than max bytes have come.
type limitedBody struct {
	body io.ReadCloser
	max  int64 // 0: no bound
	read int64
}

func (b *limitedBody) Read(p []byte) (int, error) {
	n, err := b.body.Read(p)
	b.read += int64(n)
	if b.max > 0 && b.read > b.max {
		return 0, tooLarge(b.max)
	}
	return n, err
}

func (b *limitedBody) Close() error { return b.body.Close() }

func tooLarge(limit int64) error {
	return Errorf(BodyTooLarge, "the target's body is larger than %d bytes (--scrape.max-body-size)", limit)
}
