//go:build linux

package exporter

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

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/program"
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

// TargetVariable makes the test binary a target that serves on the address in it, see [ServeTarget].
const TargetVariable = "PUSHRELAY_E2E_TARGET"

// StartTarget starts a target as a process of its own, which can be stopped and killed.
func StartTarget(t testing.TB, address string) *program.Process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := program.Start(t, program.Command{Path: "/usr/bin/env", Args: []string{TargetVariable + "=" + address, self}})
	client.Eventually(t, 20*time.Second, "target ready", func() error {
		_, err := client.WantOK("http://" + address + "/whole")
		return err
	})
	return p
}

// WholeBody is what the path /whole of a target process serves.
const WholeBody = "whole 1\n"

// ServeTarget serves /whole, and the bodies without end /chunked and /length, until the process is told to end.
func ServeTarget(address string) int {
	mux := http.NewServeMux()
	mux.HandleFunc("/whole", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, WholeBody) })
	mux.HandleFunc("/chunked", func(w http.ResponseWriter, r *http.Request) { trickle(w, r) })
	mux.HandleFunc("/length", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(100<<20)) // below what a relay passes on, and more than ever comes
		trickle(w, r)
	})
	server := &http.Server{Addr: address, Handler: mux, ReadHeaderTimeout: client.Patience}
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
