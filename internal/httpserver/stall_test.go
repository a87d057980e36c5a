package httpserver_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"pushrelay/internal/httpserver"
)

// TestDeadlineEndsWithItsAnswer: the write deadline that one answer leaves behind must not cut off the next one of the same
// connection.
func TestDeadlineEndsWithItsAnswer(t *testing.T) {
	t.Parallel()
	left := 20 * time.Millisecond
	address := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		out := httpserver.NewStallWriter(w)
		io.WriteString(out, strings.Repeat("answer\n", 20_000))
		http.NewResponseController(w).SetWriteDeadline(time.Now().Add(left))
	}))
	transport := &http.Transport{MaxConnsPerHost: 1}
	defer transport.CloseIdleConnections()
	for range 3 {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := transport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(resp.Body); err != nil || len(body) != 7*20_000 {
			t.Fatalf("answer of %d bytes, %v", len(body), err)
		}
		resp.Body.Close()
		time.Sleep(2 * left) // until the deadline has passed on the idle connection
	}
}
