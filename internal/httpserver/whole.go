package httpserver

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"net"
	"net/http"
	"strconv"
)

const (
	// commitBytes is how much of an answer net/http keeps back: one that is longer has no Content-Length, unless its handler
	// knows it.
	commitBytes = 2 << 10
	// heldBytes bounds an answer that is held back.
	heldBytes = 64 << 20
)

// tellCuts makes a cut answer look cut to those who speak HTTP/1.0, as nginx does by default. In HTTP/1.1 a long answer
// comes in chunks, and a last one is missing; in HTTP/1.0 it ends with the connection, however that ends. So there the
// connection is reset, unless the whole answer was sent. Where a connection cannot be reset, on a Unix socket, the answer
// is held back until it is whole.
func tellCuts(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoAtLeast(1, 1) {
			next.ServeHTTP(w, r)
			return
		}
		c := connOf(r.Context())
		if tcp := tcpOf(c); tcp != nil {
			serveOrReset(c.server.ending, next, w, r, tcp)
			return
		}
		serveHeld(next, w, r)
	})
}

// tcpOf returns the TCP connection below; nil if it is another.
func tcpOf(c *conn) *net.TCPConn {
	below := c.Conn
	if watched, ok := below.(*watchedConn); ok {
		below = watched.Conn
	}
	tcp, _ := below.(*net.TCPConn)
	return tcp
}

// serveOrReset leaves the connection ready for an orderly end only if the whole answer has left. Before, whatever ends it
// resets it, the death of the process included.
func serveOrReset(ending context.Context, next http.Handler, w http.ResponseWriter, r *http.Request, tcp *net.TCPConn) {
	tcp.SetLinger(0) //nolint:errcheck // A connection that is closed is cut already.
	reset := func() {
		tcp.Close() //nolint:errcheck // As above. Below TLS, which would say goodbye.
	}
	stop := context.AfterFunc(ending, reset)
	whole := false
	defer func() {
		stop()
		if !whole {
			reset()
		}
	}()
	out := &watchedWriter{ResponseWriter: w}
	next.ServeHTTP(out, r)
	if out.bytes > commitBytes && out.err == nil {
		out.err = http.NewResponseController(w).Flush()
	}
	if out.err != nil {
		panic(http.ErrAbortHandler)
	}
	whole = true
	tcp.SetLinger(-1) //nolint:errcheck // As above.
}

// watchedWriter notes how much was written, and whether that failed.
type watchedWriter struct {
	http.ResponseWriter
	bytes int64
	err   error
}

// Unwrap is for http.ResponseController.
func (w *watchedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *watchedWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.bytes += int64(n)
	if err != nil && !errors.Is(err, http.ErrBodyNotAllowed) {
		w.err = err
	}
	return n, err
}

var errHeld = errors.New("the answer is too long for HTTP/1.0 on this socket")

// serveHeld sends the answer when it is whole, with its length. Of one that is aborted nothing is sent.
func serveHeld(next http.Handler, w http.ResponseWriter, r *http.Request) {
	held := &heldWriter{ResponseWriter: w}
	next.ServeHTTP(held, r)
	if held.tooLong {
		clear(w.Header())
		http.Error(w, "the answer is too long for HTTP/1.0 on a Unix socket: ask with HTTP/1.1 (nginx: proxy_http_version 1.1)", http.StatusHTTPVersionNotSupported)
		return
	}
	if r.Method != http.MethodHead && held.body.Len() > 0 {
		w.Header().Set("Content-Length", strconv.Itoa(held.body.Len()))
	}
	w.WriteHeader(cmp.Or(held.status, http.StatusOK))
	if _, err := NewStallWriter(w).Write(held.body.Bytes()); err != nil && !errors.Is(err, http.ErrBodyNotAllowed) {
		panic(http.ErrAbortHandler)
	}
}

// heldWriter keeps an answer.
type heldWriter struct {
	http.ResponseWriter
	status  int // 0 until there is one
	body    bytes.Buffer
	tooLong bool
}

// Unwrap is for http.ResponseController, which sets deadlines.
func (w *heldWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// FlushError does nothing: http.ResponseController must not flush what Unwrap returns.
func (w *heldWriter) FlushError() error { return nil }

// WriteHeader keeps the status, the first as everywhere.
func (w *heldWriter) WriteHeader(status int) { w.status = cmp.Or(w.status, status) }

// Write keeps a piece, unless the answer becomes too long.
func (w *heldWriter) Write(p []byte) (int, error) {
	if w.tooLong = w.tooLong || w.body.Len()+len(p) > heldBytes; w.tooLong {
		return 0, errHeld
	}
	return w.body.Write(p)
}
