package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"pushrelay/internal/relaytest"
)

func TestCheckReady(t *testing.T) {
	relay := relaytest.Start(t, relaytest.Options(t))
	answering := func(status int, text string) string {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, text, status) }))
		t.Cleanup(server.Close)
		return server.URL
	}
	tests := []struct {
		name, address string
		code          int
		stderr        string
	}{
		{"ready", relay.URL, 0, ""},
		{"starting", answering(http.StatusServiceUnavailable, "relay is starting"), 3, "relay is starting (HTTP status 503)"},
		{"something else", answering(http.StatusNotFound, "404 page not found"), 1, "404 page not found (HTTP status 404)"},
		{"with a password", answering(http.StatusUnauthorized, "Unauthorized"), 1, "the relay wants a password"},
		{"nobody there", "http://127.0.0.1:1", 3, "--relay.address or $RELAY_SERVER_ADDRESS says where"},
		{"no address", "relay", 2, "--relay.address or $RELAY_SERVER_ADDRESS"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("RELAY_SERVER_ADDRESS", tt.address)
			stdout, stderr, code := command("check-ready")
			if code != tt.code || stdout != "" || !strings.Contains(stderr, tt.stderr) || tt.stderr == "" && stderr != "" {
				t.Errorf("check-ready: exit code %d, want %d\nstdout %s\nstderr %s", code, tt.code, stdout, stderr)
			}
		})
	}
}
