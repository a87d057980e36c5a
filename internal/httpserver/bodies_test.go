package httpserver_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/common/promslog"
	"github.com/prometheus/exporter-toolkit/web"

	"pushrelay/internal/httpserver"
)

// flags are those of a server on the given addresses.
func flags(addresses ...string) *web.FlagConfig {
	systemd, config := false, ""
	return &web.FlagConfig{WebListenAddresses: &addresses, WebSystemdSocket: &systemd, WebConfigFile: &config}
}

// serve runs a server with the handler on a port of the system's choice until the test ends.
func serve(t *testing.T, handler http.Handler) (address string) {
	t.Helper()
	s, _ := serveOn(t, handler, "127.0.0.1:0")
	return s.Addr().String()
}

// serveOn runs a server on the given addresses until stop is called, or the test ends.
func serveOn(t *testing.T, handler http.Handler, addresses ...string) (s *httpserver.Server, stop func()) {
	t.Helper()
	s, err := httpserver.Listen(httpserver.Config{Flags: flags(addresses...), Logger: promslog.NewNopLogger()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := s.Run(ctx, handler, time.Second); err != nil {
			t.Error(err)
		}
	})
	stop = func() {
		cancel()
		running.Wait()
	}
	t.Cleanup(stop)
	return s, stop
}

// TestBodyThatNeverComes: a request that announces a body and sends none is answered, and holds its handler no longer than
// any other.
func TestBodyThatNeverComes(t *testing.T) {
	long := strings.Repeat("long answer\n", 10_000)
	for _, tt := range []struct {
		name, head, answer string
		status             int
	}{
		{"GET with a long answer", "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n", long, 200},
		{"GET with a chunked body", "GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", long, 200},
		{"POST that is refused", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n", "no\n", 404},
		{"POST that is refused for its size", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n", "no\n", 404},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			returned := make(chan struct{})
			address := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				defer close(returned)
				w.WriteHeader(tt.status)
				io.WriteString(w, tt.answer)
			}))
			c, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(c, tt.head); err != nil {
				t.Fatal(err)
			}
			startedAt := time.Now()
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != tt.status || string(body) != tt.answer {
				t.Errorf("answer = %d with %d bytes, %v, want %d with %d", resp.StatusCode, len(body), err, tt.status, len(tt.answer))
			}
			<-returned
			if took := time.Since(startedAt); took > 8*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}

// TestBodyThatIsRead: a handler that reads the body, or has none, is as free as ever afterwards.
func TestBodyThatIsRead(t *testing.T) {
	address := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(w, r.Body)
	}))
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	reader := bufio.NewReader(c)
	for _, body := range []string{"first", "", "third"} { // on one connection
		r, err := http.NewRequest(http.MethodPost, "http://"+address+"/", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Write(c); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(reader, r)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || string(got) != body || resp.Close {
			t.Errorf("answer %q, %v, closes: %v, want %q", got, err, resp.Close, body)
		}
	}
}
