package httpserver_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

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
		"unknown key":        {"basic_auth: {u: x}\n", "basic_auth"},
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
