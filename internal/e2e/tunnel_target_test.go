//go:build linux

package e2e_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// serveHandler serves a target in this process. Its connections are not kept, so that what an agent has open is what it
// is doing.
func serveHandler(t testing.TB, handler http.Handler) (address string) {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.Config.SetKeepAlivesEnabled(false)
	server.Start()
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// A script is what a target says on a connection after it has read a request. It returns to close the connection.
type script func(c net.Conn)

// serveScripts serves a target that speaks HTTP as badly as the scripts of its paths say.
func serveScripts(t testing.TB, scripts map[string]script) (address string) {
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
				c.SetDeadline(time.Now().Add(patience))
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

// says is a script that writes and closes.
func says(text string) script {
	return func(c net.Conn) { io.WriteString(c, text) }
}

// untilHungUp waits until the other side closes the connection.
func untilHungUp(c net.Conn) { io.Copy(io.Discard, c) }

// targetVariable makes the test binary a target that serves on the address in it, see [serveTarget].
const targetVariable = "PUSHRELAY_E2E_TARGET"

// startTarget starts a target as a process of its own, which can be stopped and killed.
func startTarget(t testing.TB, address string) *process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := start(t, command{path: "/usr/bin/env", args: []string{targetVariable + "=" + address, self}})
	eventually(t, 20*time.Second, "target ready", func() error {
		_, err := wantOK("http://" + address + "/whole")
		return err
	})
	return p
}

// wholeBody is what the path /whole of a target process serves.
const wholeBody = "whole 1\n"

// serveTarget serves /whole, and the bodies without end /chunked and /length, until the process is told to end.
func serveTarget(address string) int {
	mux := http.NewServeMux()
	mux.HandleFunc("/whole", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, wholeBody) })
	mux.HandleFunc("/chunked", func(w http.ResponseWriter, r *http.Request) { trickle(w, r) })
	mux.HandleFunc("/length", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(100<<20)) // below what a relay passes on, and more than ever comes
		trickle(w, r)
	})
	server := &http.Server{Addr: address, Handler: mux, ReadHeaderTimeout: patience}
	server.SetKeepAlivesEnabled(false)
	if err := server.ListenAndServe(); err != nil {
		fmt.Fprintln(os.Stderr, "target:", err)
	}
	return 1
}

// trickle writes lines, some 200 KB in a second, until nobody reads any more.
func trickle(w http.ResponseWriter, r *http.Request) {
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
