//go:build linux

package middlebox

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/program"
)

// StartNginx starts Debian's nginx in front of a relay, as little configured as can be: it speaks HTTP/1.0 to the relay then.
func StartNginx(t testing.TB, relayURL string) (url string) {
	t.Helper()
	return StartNginxAt(t, relayURL, "/")
}

// StartNginxAt is StartNginx that passes on what is below a path alone, and leaves the path as it is. It returns the address with the path, less its last slash.
func StartNginxAt(t testing.TB, relayURL, path string) (url string) {
	t.Helper()
	dir, address := t.TempDir(), program.FreeAddress(t)
	user := ""
	if os.Geteuid() == 0 {
		user = "user root;"
	}
	config := filepath.Join(dir, "nginx.conf")
	client.WriteFile(t, config, fmt.Sprintf(`
daemon off; master_process off; %[1]s
pid %[2]s/pid; error_log stderr warn;
events {}
http {
	access_log off;
	client_body_temp_path %[2]s/client; proxy_temp_path %[2]s/proxy; fastcgi_temp_path %[2]s/fastcgi;
	uwsgi_temp_path %[2]s/uwsgi; scgi_temp_path %[2]s/scgi;
	server {
		listen %[3]s;
		location %[5]s { proxy_pass %[4]s; }
	}
}
`, user, dir, address, relayURL, path))
	p := program.Start(t, program.Command{Path: program.RequireProgram(t, "/usr/sbin/nginx", "nginx"), Dir: dir, Args: []string{"-p", dir, "-c", config, "-e", "stderr"}})
	url = "http://" + address + strings.TrimSuffix(path, "/")
	program.WaitReady(t, p, url)
	return url
}
