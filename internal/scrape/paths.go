package scrape

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Credentials are what a job's configuration adds to every request for its targets.
type Credentials int

// The kinds of credentials, each with more consequences than the one before.
const (
	// NoCredentials is a job that asks as anybody could.
	NoCredentials Credentials = iota
	// HeaderCredentials are passwords, tokens and other headers.
	HeaderCredentials
	// ClientCertificate is one of the connection, whatever is asked for on it.
	ClientCertificate
)

// checkProxied returns why a path and query may not be asked for in place of the target's own, or nil (T28). The agent decides: a relay may be
// anybody's by now. Without proxy_paths a proxied request gets no more of the job's credentials than one by path: the own path with the own parameters;
// and a certificate, which no request can do without, not at all.
func (e *Endpoint) checkProxied(r *Request) *Error {
	switch {
	case !lists(e.proxyPaths(), r.Path):
		return Errorf(Denied, "the job %q of the agent's file lets nobody ask for the path %s as a proxy, only for %s: put it into proxy_paths of the job", e.Job, toldPath(r.Path), listOf(e.proxyPaths()))
	case e.ProxyPaths != nil || e.Credentials == NoCredentials:
		return nil
	case e.Credentials == ClientCertificate:
		return Errorf(Denied, "the job %q of the agent's file has a client certificate, which would go along: put the path %s into proxy_paths of the job if it may", e.Job, toldPath(r.Path))
	case e.checkQuery(r.RawQuery) != nil:
		return Errorf(Denied, "the job %q of the agent's file has credentials, and these parameters are not among its own: put the path %s into proxy_paths of the job if the credentials may go along with any", e.Job, toldPath(r.Path))
	}
	return nil
}

// proxyPaths are the paths that may be asked for as a proxy.
func (e *Endpoint) proxyPaths() []string {
	if e.ProxyPaths != nil {
		return e.ProxyPaths
	}
	return []string{e.Target.MetricsPath}
}

// mayRedirectTo reports whether a request may go on to a path to which the target redirects it. A scraper, whose request it was, gets no further
// than it may ask; and credentials go nowhere but where the agent's file has them go.
func (e *Endpoint) mayRedirectTo(u *url.URL, proxied bool) bool {
	if !proxied && e.Credentials == NoCredentials {
		return true
	}
	paths := e.proxyPaths()
	if !proxied {
		paths = append([]string{e.Target.MetricsPath}, paths...)
	}
	for _, path := range slices.Clone(paths) { // most redirects add or take away a slash
		paths = append(paths, strings.TrimSuffix(path, "/"), path+"/")
	}
	return lists(paths, u.EscapedPath())
}

// lists reports whether a path, percent-encoded, is one of those, which may be written so or not. Nothing is unescaped or cleaned:
// what a target makes of another way of writing is not known.
func lists(paths []string, escaped string) bool {
	return slices.ContainsFunc(paths, func(path string) bool {
		return path == escaped || (&url.URL{Path: path}).EscapedPath() == escaped
	})
}

// toldPath returns a path as it can be told, in one line.
func toldPath(path string) string {
	if len(path) > maxPlaceBytes {
		return strconv.QuoteToASCII(path[:maxPlaceBytes]) + "…"
	}
	return strconv.QuoteToASCII(path)
}

// listOf tells a few paths.
func listOf(paths []string) string {
	const most = 5
	var told []string
	for _, path := range paths[:min(len(paths), most)] {
		told = append(told, toldPath(path))
	}
	switch {
	case len(paths) == 0:
		return "nothing"
	case len(paths) > most:
		told = append(told, "…")
	}
	return strings.Join(told, ", ")
}

// errUnlisted is a redirect to a path that is not listed.
func (e *Endpoint) errUnlisted(next *http.Request) *Error {
	return Errorf(TargetRedirects, "the target answered with a redirect to the path %s of its own, that is not followed: make it the metrics_path of the job %q in the agent's file, or put it into its proxy_paths",
		toldPath(next.URL.EscapedPath()), e.Job)
}
