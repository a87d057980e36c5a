package httpserver

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
)

// maxToldBytes is how much of a header is told to whoever sent it.
const maxToldBytes = 256

// RefuseOtherSites answers 403 to a request that changes something and that a browser sends for a page of another site: whoever
// reads that page has no part in it, and may be the only one who reaches this listener. own is where browsers find this listener, where that is
// another address than the one that requests come to; nil if it is not known. Reads are taken, and so is every request that says nothing of a page.
func RefuseOtherSites(own *url.URL, hint string, next http.Handler) http.Handler {
	protection := http.NewCrossOriginProtection()
	if origin := originOf(own); origin != "" {
		protection.AddTrustedOrigin(origin) //nolint:errcheck // It has a scheme and a host, and nothing else.
	}
	protection.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, fmt.Sprintf("a page of another site (%s) may not change anything here: %s", told(r.Header.Get("Origin")), hint), http.StatusForbidden)
	}))
	return protection.Handler(next)
}

// originOf returns how browsers write the origin of a URL; empty if they can have none there.
func originOf(u *url.URL) string {
	if u == nil || u.Host == "" {
		return ""
	}
	implied := map[string]string{"http": "80", "https": "443"}[u.Scheme]
	if implied == "" {
		return ""
	}
	return u.Scheme + "://" + strings.TrimSuffix(strings.ToLower(u.Host), ":"+implied)
}

// RefuseOtherHosts answers 421 to what a browser asks on loopback in the name of a host that is not this machine: the owner of a domain
// can let it lead to 127.0.0.1, and a page from there then passes for one of this listener (DNS rebinding). A change is judged by the
// host of its page, so that programs may call this machine what they like; a read by its own, since browsers say no more of it. Known are
// IP addresses, localhost, the name of the machine, and the allowed hosts, with any port.
func RefuseOtherHosts(allowed []string, next http.Handler) http.Handler {
	known := []string{"localhost"}
	if name, err := os.Hostname(); err == nil {
		known = append(known, canonicalName(name))
	}
	for _, host := range allowed {
		known = append(known, canonicalName(host))
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isLoopback(r) {
			for _, host := range hostsToJudge(r) {
				if isKnownHost(known, host) {
					continue
				}
				http.Error(w, fmt.Sprintf("%s is not known as a name of this machine, so that a page of another site may be behind it: ask for localhost or for an IP address, or start the agent with --web.allowed-host=NAME",
					told(host)), http.StatusMisdirectedRequest)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// isLoopback says whether a request came over TCP from this machine.
func isLoopback(r *http.Request) bool {
	address, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return ok && address.IP.IsLoopback()
}

// hostsToJudge returns in whose name a browser sends a request; nothing if no browser does.
func hostsToJudge(r *http.Request) []string {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		if r.Host == "" { // HTTP/1.0
			return nil
		}
		return []string{r.Host}
	}
	var hosts []string
	for _, origin := range r.Header["Origin"] {
		host := origin // "null", of a page that hides where it is from
		if u, err := url.Parse(origin); err == nil && u.Host != "" {
			host = u.Host
		}
		hosts = append(hosts, host)
	}
	if hosts == nil && r.Header["Sec-Fetch-Site"] != nil {
		return []string{r.Host}
	}
	return hosts
}

// isKnownHost says whether host:port is that of a known name, or of an address.
func isKnownHost(known []string, hostport string) bool {
	host := (&url.URL{Host: hostport}).Hostname()
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	return slices.Contains(known, canonicalName(host))
}

// canonicalName returns a host name in one way of writing.
func canonicalName(host string) string { return strings.ToLower(strings.TrimSuffix(host, ".")) }

// told returns what somebody sent in a form that can be sent back.
func told(text string) string {
	if len(text) > maxToldBytes {
		return fmt.Sprintf("%q…", text[:maxToldBytes])
	}
	return fmt.Sprintf("%q", text)
}
