package httpserver_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pushrelay/internal/httpserver"
)

// part is more than net/http keeps back.
var part = strings.Repeat("metric 1\n", 1<<17)

// TestCutIsTold: an answer that breaks off must not look whole to a scraper of HTTP/1.0, for which it ends with the
// connection.
func TestCutIsTold(t *testing.T) {
	for _, tt := range []struct {
		name   string
		answer http.HandlerFunc
	}{
		{"a few bytes", func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, "metric 1\n")
			http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}},
		{"many bytes", func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, part)
			panic(http.ErrAbortHandler)
		}},
		{"before its head", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }},
		{"another panic", func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, part)
			panic("a mistake")
		}},
		{"a writer that failed, and a handler that does not say so", func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, part)
			http.NewResponseController(w).SetWriteDeadline(time.Now())
			io.WriteString(w, part)
		}},
		{"less than was announced", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100000")
			io.WriteString(w, "metric 1\n")
			panic(http.ErrAbortHandler)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for network, dial := range listeners(t, tt.answer) {
				heads := []string{"GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"}
				if network == "unix" { // where nothing is sent until all is there
					heads = heads[:1]
				}
				for _, head := range heads {
					got, err := exchange(t, dial, head)
					nothingOrAll := len(got) == 0 || len(got) > 2*len(part)
					if err == nil && (network != "unix" || !nothingOrAll) {
						t.Errorf("%s, %q: %d bytes and a clean end, want it broken off", network, head, len(got))
					}
				}
				// Where the framing tells, it does.
				got, err := exchange(t, dial, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
				resp, bad := http.ReadResponse(bufio.NewReader(bytes.NewReader(got)), nil)
				if err == nil && bad == nil {
					_, bad = io.ReadAll(resp.Body)
					resp.Body.Close()
				}
				if err == nil && bad == nil {
					t.Errorf("%s, HTTP/1.1: %d bytes that are a whole answer, want it broken off", network, len(got))
				}
			}
		})
	}
}

// TestWholeEndsCleanly: a whole answer ends in good order, also for whoever closed its sending half.
func TestWholeEndsCleanly(t *testing.T) {
	for _, body := range []string{"", "metric 1\n", strings.Repeat("metric 1\n", 300), part} {
		for network, dial := range listeners(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, body) }) {
			for _, head := range []string{"GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc"} {
				got, err := exchange(t, dial, head)
				if _, answer, _ := strings.Cut(string(got), "\r\n\r\n"); err != nil || answer != body {
					t.Errorf("%s, %q: an answer of %d bytes, %v, want %d", network, head, len(answer), err, len(body))
				}
			}
			if got, err := exchange(t, dial, "HEAD / HTTP/1.0\r\n\r\n"); err != nil || !strings.HasPrefix(string(got), "HTTP/1.0 200") {
				t.Errorf("%s, HEAD: %q, %v, want 200", network, got, err)
			}
		}
	}
}

// TestCutAtTheEnd: an answer that the server's end cuts off is as cut as any other.
func TestCutAtTheEnd(t *testing.T) {
	if testing.Short() {
		t.Skip("it waits")
	}
	t.Parallel()
	for _, secured := range []bool{false, true} {
		begun := make(chan struct{})
		f, client := flags("127.0.0.1:0"), clientTLS(secured)
		if secured {
			*f.WebConfigFile = webConfig(t)
		}
		s, stop := serveFlags(t, f, func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "metric 1\n")
			http.NewResponseController(w).Flush()
			close(begun)
			<-r.Context().Done()
		})
		c := client(t, s.Addr().String())
		io.WriteString(c, "GET / HTTP/1.0\r\n\r\n")
		<-begun
		go stop()
		if got, err := io.ReadAll(c); err == nil {
			t.Errorf("TLS %v: %q and a clean end, want it broken off", secured, got)
		}
	}
}

// TestHalfBodyAtTheEnd: whoever stopped sending within a body does not keep the server from its end.
func TestHalfBodyAtTheEnd(t *testing.T) {
	if testing.Short() {
		t.Skip("it waits")
	}
	t.Parallel()
	for _, secured := range []bool{false, true} {
		begun := make(chan struct{}, 8)
		f, client := flags("127.0.0.1:0"), clientTLS(secured)
		if secured {
			*f.WebConfigFile = webConfig(t)
		}
		s, stop := serveFlags(t, f, func(w http.ResponseWriter, r *http.Request) {
			http.NewResponseController(w).SetReadDeadline(time.Now().Add(time.Hour)) // it is patient itself
			begun <- struct{}{}
			io.Copy(io.Discard, r.Body)
		})
		for range cap(begun) {
			io.WriteString(client(t, s.Addr().String()), "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf")
			<-begun
		}
		stop()
	}
}

// TestTooLongToHold: what cannot be reset is held back, within bounds.
func TestTooLongToHold(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	serveOn(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		out := httpserver.NewStallWriter(w)
		for range 64 {
			if _, err := io.WriteString(out, part); err != nil {
				return
			}
		}
	}), "unix:"+path)
	got, err := exchange(t, func(t *testing.T) net.Conn { return dialUnix(t, path) }, "GET / HTTP/1.0\r\n\r\n")
	if err != nil || !strings.HasPrefix(string(got), "HTTP/1.0 505 ") || !strings.Contains(string(got), "proxy_http_version 1.1") || strings.Contains(string(got), "gzip") {
		t.Errorf("answer = %.300q, %v, want 505 and what to do", got, err)
	}
}

// TestOutlasting: what must be brought to its end does not end with the request, but with the server.
func TestOutlasting(t *testing.T) {
	t.Parallel()
	gone, ended := make(chan struct{}), make(chan error, 1)
	s, stop := serveFlags(t, flags("127.0.0.1:0"), func(w http.ResponseWriter, r *http.Request) {
		ctx := httpserver.Outlasting(r.Context())
		derived, cancel := context.WithTimeout(ctx, time.Hour)
		defer cancel()
		<-r.Context().Done()
		ended <- ctx.Err()
		close(gone)
		<-derived.Done()
		if connection := ctx.Value(http.LocalAddrContextKey); connection == nil {
			t.Error("the context has no values of the request")
		}
		io.WriteString(w, "decided")
	})
	c := clientTLS(false)(t, s.Addr().String()).(*net.TCPConn)
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	<-gone
	if err := <-ended; err != nil {
		t.Errorf("the context ended with the request: %v", err)
	}
	go stop()
	if got, err := io.ReadAll(c); err != nil || !strings.HasSuffix(string(got), "decided") {
		t.Errorf("answer = %q, %v, want it in spite of the end", got, err)
	}
}

// TestOutlastingElsewhere: other servers have no end that it could follow.
func TestOutlastingElsewhere(t *testing.T) {
	parent, leave := context.WithCancel(t.Context())
	ctx := httpserver.Outlasting(parent)
	leave()
	if ctx.Err() != nil {
		t.Error("it ended with its parent")
	}
}
