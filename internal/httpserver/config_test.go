package httpserver_test

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/common/promslog"

	"pushrelay/internal/httpserver"
)

// Passwords that stand behind the end of the first document would protect nothing.
func TestWebConfigIsReadToItsEnd(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ text, want string }{
		"good":               {"http_server_config: {http2: true}\n", ""},
		"empty":              {"", ""},
		"second document":    {"http_server_config: {http2: true}\n---\nbasic_auth_users: {u: x}\n", "line 2: a second document"},
		"pasted with indent": {"  http_server_config: {http2: true}\nbasic_auth_users: {u: x}\n", "line 2: what begins here"},
		"unknown key":        {"basic_auth: {u: x}\n", `: line 1: field "basic_auth" not found`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "web.yml")
			if err := os.WriteFile(file, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			f := flags("127.0.0.1:0")
			f.WebConfigFile = &file
			s, err := httpserver.Listen(httpserver.Config{Flags: f, Logger: promslog.NewNopLogger()})
			if err == nil {
				s.Close()
			}
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), file)) {
				t.Errorf("Listen() error = %v, want one with %q", err, tt.want)
			}
		})
	}
}

// TestWebConfigIsNotQuoted: a password in the wrong place is in no error, and in no line of the log if the file becomes bad later.
func TestWebConfigIsNotQuoted(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"users without hashes": "basic_auth_users: hunter2\n",
		"no blank":             "tls_server_config: {key:hunter2}\n",
		"asterisk":             "basic_auth_users: {admin: *hunter2}\n",
		"tag":                  "basic_auth_users: {admin: !!int hunter2}\n",
		"no hash":              "basic_auth_users: {admin: hunter2}\n",
		"nothing but it":       "hunter2\n",
		"key of TLS":           "tls_server_config: hunter2\nhttp_server_config: hunter2\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "web.yml")
			write := func(text string) {
				t.Helper()
				if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			write(text)
			f := flags("127.0.0.1:0")
			f.WebConfigFile = &file
			var log syncedLog
			cfg := httpserver.Config{Flags: f, Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
			_, err := httpserver.Listen(cfg)
			if err == nil || strings.Contains(err.Error(), "hunter") || strings.Contains(err.Error(), "\n") {
				t.Errorf("Listen() error = %q", err)
			}
			write("")
			s, err := httpserver.Listen(cfg)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- s.Run(ctx, http.NotFoundHandler(), time.Second) }()
			for !strings.Contains(log.String(), "TLS is disabled") { // it has read the file
				time.Sleep(time.Millisecond)
			}
			write(text)
			if name != "no hash" { // which the library takes for one that no password has
				for !strings.Contains(log.String(), "Unable to parse configuration") {
					_, err := exchange(t, func(t *testing.T) net.Conn {
						t.Helper()
						return clientTLS(false)(t, s.Addr().String())
					}, "GET / HTTP/1.0\r\n\r\n")
					if err != nil {
						t.Fatal(err)
					}
				}
			}
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
			if strings.Contains(log.String(), "hunter") {
				t.Errorf("the log tells the password: %s", log.String())
			}
		})
	}
}

// syncedLog is what was logged, for several goroutines.
type syncedLog struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *syncedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *syncedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
