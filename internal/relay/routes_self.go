package relay

import (
	"cmp"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"pushrelay/internal/push"
)

// pushesToSelf serves pushes whose request line has a whole URL, if that is the relay's own: a client with the relay as its
// proxy sends them so. They go to pushes; everything else goes to next, which is a proxy for scrapes.
func pushesToSelf(prefix string, external *url.URL, pushes, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Host == "" || !push.IsPush(prefix, r) || !isSelf(r, external) {
			next.ServeHTTP(w, r)
			return
		}
		here := r.WithContext(r.Context())
		here.URL = &url.URL{Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery}
		pushes.ServeHTTP(w, here)
	})
}

// isSelf says whether the URL of a request is that of the relay: the configured one, or the address that the request came to.
func isSelf(r *http.Request, external *url.URL) bool {
	if external != nil && external.Host != "" && strings.EqualFold(external.Hostname(), r.URL.Hostname()) && portOf(external) == portOf(r.URL) {
		return true
	}
	address, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	if !ok {
		return false
	}
	own := address.AddrPort()
	if portOf(r.URL) != strconv.Itoa(int(own.Port())) {
		return false
	}
	if strings.EqualFold(r.URL.Hostname(), "localhost") {
		return own.Addr().IsLoopback()
	}
	named, err := netip.ParseAddr(r.URL.Hostname())
	return err == nil && named.Unmap() == own.Addr().Unmap()
}

func portOf(u *url.URL) string {
	if u.Scheme == "https" {
		return cmp.Or(u.Port(), "443")
	}
	return cmp.Or(u.Port(), "80")
}
