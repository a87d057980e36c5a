package exporter

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"

	"pushrelay/internal/e2e/client"
)

// RowsBody is what the target of the rows serves at /metrics.
const RowsBody = "# TYPE up_and_running gauge\nup_and_running 1\n"

// Rows is the target of the rows. It remembers what it was asked.
type Rows struct {
	mu   sync.Mutex
	seen *http.Request // guarded by mu; the last one, nil since forget
}

func (r *Rows) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	r.seen = req
	r.mu.Unlock()
	h := w.Header()
	switch req.URL.Path {
	case "/metrics", "/federate":
		h.Set("Content-Type", "text/plain; version=0.0.4")
		h.Set("Content-Length", fmt.Sprint(len(RowsBody)))
		h["Vary"] = []string{"one", "two"}
		if strings.Contains(req.Header.Get("Accept-Encoding"), "gzip") {
			h.Set("Content-Encoding", "gzip")
			h.Set("Content-Length", fmt.Sprint(len(Zipped(RowsBody))))
			w.Write(Zipped(RowsBody))
			return
		}
		io.WriteString(w, RowsBody)
	case "/broken":
		h.Set("X-Own", "for nobody else")
		http.Error(w, "the target's own words", http.StatusInternalServerError)
	case "/elsewhere":
		http.Redirect(w, req, "http://127.0.0.1:1/secret", http.StatusFound)
	case "/nothing":
		w.WriteHeader(http.StatusNoContent)
	case "/slow":
		select {
		case <-time.After(client.Patience):
		case <-req.Context().Done():
		}
	case "/short":
		h.Set("Content-Length", "100")
		io.WriteString(w, "part 1\n")
	case "/chunked":
		io.WriteString(w, "part 1\n")
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	default:
		http.NotFound(w, req)
	}
}

// Last returns what the target was asked since the call before; nil if nothing.
func (r *Rows) Last() *http.Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	seen := r.seen
	r.seen = nil
	return seen
}

// Zipped compresses a text as gzip does.
var Zipped = func(text string) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	io.WriteString(w, text)
	w.Close()
	return b.Bytes()
}
