package exporter

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"pushrelay/internal/e2e/client"
)

// Serve serves a target in this process. Its connections are not kept, so that what an agent has open is what it
// is doing.
func Serve(t testing.TB, handler http.Handler) (address string) {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.Config.SetKeepAlivesEnabled(false)
	server.Start()
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// A Script is what a target says on a connection after it has read a request. It returns to close the connection.
type Script func(c net.Conn)

// ServeScripts serves a target that speaks HTTP as badly as the scripts of its paths say.
func ServeScripts(t testing.TB, scripts map[string]Script) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	t.Cleanup(serving.Wait)
	t.Cleanup(func() { listener.Close() })
	serving.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer c.Close()
				c.SetDeadline(time.Now().Add(client.Patience))
				req, err := http.ReadRequest(bufio.NewReader(c))
				if err != nil {
					return
				}
				scripts[strings.TrimPrefix(req.URL.Path, "/")](c)
			})
		}
	})
	return listener.Addr().String()
}

// Says is a script that writes and closes.
func Says(text string) Script {
	return func(c net.Conn) { io.WriteString(c, text) }
}

// UntilHungUp waits until the other side closes the connection.
func UntilHungUp(c net.Conn) { io.Copy(io.Discard, c) }

// Trickle writes lines, some 200 KB in a second, until nobody reads any more.
func Trickle(w http.ResponseWriter, r *http.Request) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	text := strings.Repeat("line 1\n", 150)
	for {
		if _, err := io.WriteString(w, text); err != nil {
			return
		}
		http.NewResponseController(w).Flush()
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return
		}
	}
}
