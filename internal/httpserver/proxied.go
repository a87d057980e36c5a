package httpserver

import (
	"net"
	"net/http"
	"sync"
)

// proxied lets a request to a proxy bring its password as such requests do: where the first line has a whole URL, as with
// Prometheus' proxy_url, Proxy-Authorization is the password of this listener, and takes the place of Authorization. It has to
// stand before the handler that checks passwords.
func proxied(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		const header = "Proxy-Authorization"
		if brought := r.Header[header]; brought != nil && (r.URL.Host != "" || r.Method == http.MethodConnect) {
			r.Header["Authorization"] = brought
			delete(r.Header, header)
		}
		next.ServeHTTP(w, r)
	})
}

// frontListener puts endChunked, proxied and passwords before the handler of its server, which by then is the one that checks
// passwords: the toolkit puts that in place just before it accepts connections, and has no other moment for it.
type frontListener struct {
	net.Listener
	server    *http.Server
	passwords *passwords
	once      sync.Once
}

// Accept waits for a connection.
func (l *frontListener) Accept() (net.Conn, error) {
	l.once.Do(func() { l.server.Handler = endChunked(proxied(l.passwords.before(l.server.Handler))) })
	return l.Listener.Accept()
}
