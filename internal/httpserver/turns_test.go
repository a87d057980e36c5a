package httpserver_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"pushrelay/internal/httpserver"
)

// TestTurns: readers that take nothing keep their turns while nobody waits, and lose them as soon as somebody does.
func TestTurns(t *testing.T) {
	t.Parallel()
	const turns = 3
	large := bytes.Repeat([]byte("x"), 32<<20) // more than any socket takes
	all := httpserver.NewTurns(turns)
	cut := make(chan error, turns)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 10*time.Second)
		defer cancel()
		turn := all.Take(ctx, w)
		if turn == nil {
			http.Error(w, "busy", http.StatusServiceUnavailable)
			return
		}
		defer turn.End()
		if _, err := turn.Write(large); err != nil {
			cut <- err
			panic(http.ErrAbortHandler)
		}
	}))
	defer server.Close()
	for range turns {
		conn, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		if _, err := bufio.NewReaderSize(conn, 16).ReadByte(); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case err := <-cut:
		t.Fatalf("an answer was cut while nobody waited: %v", err)
	case <-time.After(2500 * time.Millisecond): // real sockets: longer than a stall may last if somebody waits
	}
	resp, err := server.Client().Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK || len(body) != len(large) {
		t.Errorf("who waited got %d and %d bytes, %v", resp.StatusCode, len(body), err)
	}
	if err := <-cut; !errors.Is(err, context.DeadlineExceeded) && !isTimeout(err) {
		t.Errorf("the answer that made room ended with %v", err)
	}
	if len(cut) > 0 {
		t.Error("more than one made room for one")
	}
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}
