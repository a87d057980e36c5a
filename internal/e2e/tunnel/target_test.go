//go:build linux

package tunnel_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"testing"
	"time"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/exporter"
	"pushrelay/internal/e2e/program"
)

// targetVariable makes the test binary a target that serves on the address in it, see [serveTarget].
const targetVariable = "PUSHRELAY_E2E_TARGET"

// startTarget starts a target as a process of its own, which can be stopped and killed.
func startTarget(t testing.TB, address string) *program.Process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := program.Start(t, program.Command{Path: "/usr/bin/env", Args: []string{targetVariable + "=" + address, self}})
	client.Eventually(t, 20*time.Second, "target ready", func() error {
		_, err := client.WantOK("http://" + address + "/whole")
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
	mux.HandleFunc("/chunked", func(w http.ResponseWriter, r *http.Request) { exporter.Trickle(w, r) })
	mux.HandleFunc("/length", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(100<<20)) // below what a relay passes on, and more than ever comes
		exporter.Trickle(w, r)
	})
	server := &http.Server{Addr: address, Handler: mux, ReadHeaderTimeout: client.Patience}
	server.SetKeepAlivesEnabled(false)
	if err := server.ListenAndServe(); err != nil {
		fmt.Fprintln(os.Stderr, "target:", err)
	}
	return 1
}
