package httpserver

import (
	"net/http"
	"time"
)

// What net/http does about a body that its handler did not read: it reads it, before the answer leaves, so that the
// connection can serve further requests. A sender that announced a body and sends none would hold the handler, with all
// that it holds, for ever.
const (
	// bodyTimeout is for handlers that read no body, or before they begin: those that read one move the deadline on.
	bodyTimeout = 10 * time.Second
	// unreadTimeout is for what is left when the handler is done.
	unreadTimeout = 2 * time.Second
)

// boundBodies bounds the time that a body may take which the handler does not read.
func boundBodies(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength == 0 {
			next.ServeHTTP(w, r)
			return
		}
		control := http.NewResponseController(w)
		control.SetReadDeadline(time.Now().Add(bodyTimeout)) //nolint:errcheck // Every ResponseWriter of net/http has deadlines.
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			// No handler reads such a body. Without further requests on the connection nobody has to: the answer leaves at
			// once, and with it what the handler holds.
			w.Header().Set("Connection", "close")
		}
		defer func() {
			control.SetReadDeadline(time.Now().Add(unreadTimeout)) //nolint:errcheck // As above.
		}()
		next.ServeHTTP(w, r)
	})
}
