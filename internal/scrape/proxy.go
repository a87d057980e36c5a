package scrape

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// Parameters of a proxied request that are for the relay; the target never sees them.
const (
	schemeParam = "_scheme"
	agentParam  = "_agent"
)

// Match is what a proxied request says of the target it wants.
type Match struct {
	// Instance is the host of the request, in lower case, as a target's label instance has it.
	Instance string
	// Path is that of the request, percent-encoded; it decides between targets of one agent that share the instance.
	Path string
	// Scheme and Agent choose where several targets match; empty accepts any.
	Scheme, Agent string
}

// Finder finds the target that a proxied request wants.
type Finder interface {
	// Find returns the names of the agent and of its target. The error is TargetUnknown if no agent announced such a
	// target, or TargetAmbiguous if several agents did.
	Find(m Match) (agent, target string, err *Error)
}

// Proxy returns a handler that answers requests as an HTTP proxy does: those with a whole URL in the request line, as
// Prometheus sends them to its proxy_url. It scrapes what agents have announced and connects to nothing else (T26). Every
// other request goes on to next.
func (h *Handler) Proxy(finder Finder, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodConnect:
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "the relay opens no tunnels: scrape http://<instance>/<path>, with the parameter _scheme=https for a target that is configured with https",
				http.StatusMethodNotAllowed)
		case r.URL.Host == "":
			next.ServeHTTP(w, r)
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "a scrape is GET or HEAD", http.StatusMethodNotAllowed)
		default:
			h.serveProxied(finder, w, r)
		}
	})
}

func (h *Handler) serveProxied(finder Finder, w http.ResponseWriter, r *http.Request) {
	query, params := takeParams(r.URL.RawQuery, schemeParam, agentParam)
	m := Match{
		Instance: strings.ToLower(r.URL.Host), Path: r.URL.EscapedPath(),
		Scheme: params[schemeParam], Agent: params[agentParam],
	}
	if m.Path == "" {
		m.Path = "/"
	}
	if r.URL.Scheme == "https" { // a scraper that speaks to its proxy in clear and means the target's scheme
		m.Scheme = "https"
	}
	agent, target, err := finder.Find(m)
	if err != nil {
		agent, target = m.Agent, ""
	}
	if denied := h.permit(r, agent, target, fmt.Sprintf("a target with the instance or address %.256q", m.Instance)); denied != nil {
		err = denied // also if there is none, which is none of their business
	}
	if err != nil {
		h.fail(w, &Request{Agent: m.Agent, Target: m.Instance}, err)
		return
	}
	h.serve(w, r, &Request{Agent: agent, Target: target, Path: m.Path, RawQuery: query})
}

// takeParams takes the named parameters out of a query, and leaves every byte of the others as it is.
func takeParams(query string, names ...string) (rest string, taken map[string]string) {
	taken = map[string]string{}
	var kept []string
	for pair := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(pair, "=")
		found := false
		for _, n := range names {
			if name != n {
				continue
			}
			found = true
			if unescaped, err := url.QueryUnescape(value); err == nil {
				taken[n] = unescaped
			}
		}
		if !found {
			kept = append(kept, pair)
		}
	}
	return strings.Join(kept, "&"), taken
}
