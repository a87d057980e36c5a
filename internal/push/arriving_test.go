package push_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
)

// pipe is a listener with one connection.
type pipe struct {
	net.Listener
	conns chan net.Conn
}

func (p *pipe) Accept() (net.Conn, error) {
	if c, ok := <-p.conns; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}

func (p *pipe) Close() error {
	close(p.conns)
	return nil
}

func (p *pipe) Addr() net.Addr { return &net.UnixAddr{} }

// TestBodyThatStopsArriving: what may succeed when it is pushed again must not be answered 400, which means never again.
func TestBodyThatStopsArriving(t *testing.T) {
	for _, tt := range []struct{ name, head, body string }{
		{"plain", "Content-Length: 1000000\r\n", "m 1\n"},
		{"short", "Content-Length: 8\r\n", "m 1\n"},
		{"nothing at all", "Content-Length: 8\r\n", ""},
		{"chunked", "Transfer-Encoding: chunked\r\n", "4\r\nm 1\n\r\n"},
		{"gzip", "Content-Encoding: gzip\r\nContent-Length: 100\r\n", gzipped(t, "m 1\n")[:12]},
		{"gzip without a byte", "Content-Encoding: gzip\r\nContent-Length: 100\r\n", ""},
		{"snappy", "Content-Encoding: snappy\r\nContent-Length: 100\r\n", "\xff\x06"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				here, there := net.Pipe()
				l := &pipe{conns: make(chan net.Conn, 1)}
				l.conns <- there
				server := &http.Server{Handler: newHandler(&pusher{}, exposition.Limits{MaxBodyBytes: 1 << 20})}
				go server.Serve(l)
				startedAt := time.Now()
				io.WriteString(here, "PUT /metrics/job/j HTTP/1.1\r\nHost: x\r\n"+tt.head+"\r\n"+tt.body)
				resp, err := http.ReadResponse(bufio.NewReader(here), nil)
				if err != nil {
					t.Fatal(err)
				}
				said, err := io.ReadAll(resp.Body)
				if err != nil || resp.StatusCode != http.StatusRequestTimeout || !strings.Contains(string(said), "stopped arriving") {
					t.Errorf("answer = %d %q, %v, want 408 and why", resp.StatusCode, said, err)
				}
				if took := time.Since(startedAt); took != 30*time.Second || !resp.Close {
					t.Errorf("answered after %s, closing: %v, want 30s and true", took, resp.Close)
				}
				here.Close()
				server.Close()
				time.Sleep(time.Minute) // of the bubble: net/http waits before it closes
			})
		})
	}
}

// TestPusherThatClosed: what came whole is decided and answered, also if nothing more can come. socat and `nc -N` close the
// sending half as soon as they have sent all.
func TestPusherThatClosed(t *testing.T) {
	for method, body := range map[string]string{http.MethodPut: "m 7\n", http.MethodPost: "m 7\n", http.MethodDelete: ""} {
		gone := make(chan struct{})
		mux := http.NewServeMux()
		handler := newHandler(pusherFunc(func(ctx context.Context, _ *change.Change) change.Outcome {
			<-gone
			return change.OutcomeOf(ctx.Err())
		}), exposition.Limits{MaxInflightBytes: 1 << 20})
		mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
			context.AfterFunc(r.Context(), func() { close(gone) })
			handler.ServeHTTP(w, r)
		})
		server := httptest.NewServer(mux)
		conn, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "%s /metrics/job/nc HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", method, len(body), body)
		if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(conn)
		if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 20") {
			t.Errorf("%s: answer = %q, %v, want 200 or 202", method, answer, err)
		}
		conn.Close()
		server.Close()
	}
}

// pusherFunc is a pusher of one function.
type pusherFunc func(context.Context, *change.Change) change.Outcome

func (f pusherFunc) Apply(ctx context.Context, r *change.Change) change.Outcome {
	return f(ctx, r)
}
