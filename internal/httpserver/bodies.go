package httpserver

import (
	"errors"
	"io"
	"net/http"
	"time"
)

// What net/http does about a body that its handler did not read: it reads it, before the answer leaves, so that the
// connection can serve further requests; of a long one nothing, and then [conn] does. A sender that announced a body and
// sends none would hold the handler, with all that it holds, for ever.
const (
	// bodyTimeout is for handlers that read no body, or before they begin: those that read one move the deadline on.
	bodyTimeout = 10 * time.Second
	// unreadTimeout is for what is left when the handler is done.
	unreadTimeout = 2 * time.Second
)

// boundBodies bounds the time that a body may take which the handler does not read.
func boundBodies(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		unread := &connOf(r.Context()).unread
		if r.ContentLength == 0 {
			unread.Store(false)
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
		body := &watchedBody{ReadCloser: r.Body}
		aborted := true
		defer func() {
			if aborted || body.ended {
				unread.Store(false)
			}
			if !body.ended {
				control.SetReadDeadline(time.Now().Add(unreadTimeout)) //nolint:errcheck // As above.
			}
		}()
		watched := r.WithContext(r.Context()) // a copy: net/http looks at the body that it made
		watched.Body = body
		next.ServeHTTP(w, watched)
		aborted = false
	})
}

// endChunked lets a connection end with a request in chunks. With a length beside them, which net/http drops without a word, whoever
// is in front may have read the request by that, and have passed on as its body what we would take for the next one (RFC 9112, 6.1).
func endChunked(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 1 && len(r.TransferEncoding) > 0 {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}

// watchedBody notes when it has been read to its end.
type watchedBody struct {
	io.ReadCloser
	ended bool
}

func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.ended = b.ended || errors.Is(err, io.EOF)
	return n, err
}
