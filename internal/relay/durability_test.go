//go:build unix

package relay_test

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"pushrelay/internal/relay"
	"pushrelay/internal/relaytest"
)

// TestWhileRecovering lets the recovery wait, by a segment that is a pipe. Until it has ended, HTTP answers 503, but for the
// question whether the process lives; and the relay ends with the reason when the store turns out to be unreadable.
func TestWhileRecovering(t *testing.T) {
	opts := relaytest.Options(t)
	store := filepath.Join(opts.DataDir, "store")
	if err := os.MkdirAll(store, 0o700); err != nil {
		t.Fatal(err)
	}
	segment := filepath.Join(store, "0000000000000001.log")
	if err := syscall.Mkfifo(segment, 0o600); err != nil {
		t.Fatal(err)
	}
	server, err := relay.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Run(context.WithoutCancel(t.Context())) }()
	url := "http://" + server.Addr().String()
	for path, want := range map[string]int{
		"/-/healthy": http.StatusOK, "/-/ready": http.StatusServiceUnavailable, "/metrics": http.StatusServiceUnavailable,
		"/sd/targets": http.StatusServiceUnavailable, "/": http.StatusServiceUnavailable,
	} {
		status, body := relaytest.Get(t, url+path)
		if status != want {
			t.Errorf("GET %s while recovering = %d %q, want %d", path, status, body, want)
		}
	}
	pipe, err := os.OpenFile(segment, os.O_WRONLY, 0) // lets the other end go on, and fail
	if err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil || !strings.Contains(err.Error(), opts.DataDir) {
		t.Errorf("Run() = %v, want an error that names the data dir", err)
	}
	pipe.Close()
}

func TestDefaultDataDir(t *testing.T) {
	for _, tt := range []struct{ state, file, want string }{
		{"", "", "data"},
		{"/var/lib/x", "", "/var/lib/x"},
		{"/var/lib/x:/var/lib/y", "", "/var/lib/x"},
		{"/var/lib/x", "/var/lib/pushgateway", "/var/lib/pushgateway.relay"},
	} {
		t.Setenv("STATE_DIRECTORY", tt.state)
		if got := relay.DefaultDataDir(tt.file); got != tt.want {
			t.Errorf("DefaultDataDir(%q) with STATE_DIRECTORY=%q is %q, want %q", tt.file, tt.state, got, tt.want)
		}
	}
}
