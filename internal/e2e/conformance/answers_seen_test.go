//go:build linux

package conformance_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/gateway"
	"pushrelay/internal/e2e/house"
	"pushrelay/internal/e2e/program"
)

// urllibPut pushes 17 MB by Python's standard library, which sends all before it reads, and prints what was answered.
const urllibPut = `
import sys, urllib.request, urllib.error
request = urllib.request.Request(sys.argv[1], data=b"x" * 17_000_000, method="PUT")
try:
    print(urllib.request.urlopen(request, timeout=50).status)
except urllib.error.HTTPError as e:
    print(e.code, e.read().decode())
`

// TestRefusalIsSeen: whoever sends all before reading sees why it was refused, and no connection that is reset.
func TestRefusalIsSeen(t *testing.T) {
	t.Parallel()
	python := program.RequireProgram(t, "/usr/bin/python3", "python3-prometheus-client")
	hash := filepath.Join(t.TempDir(), "web.yml")
	// Nobody knows the password.
	client.WriteFile(t, hash, "basic_auth_users: {somebody: \"$2y$05$0Pq8ZOPcXXr2Zl3AVJYVQOBRMVQ9xfeHkpwfSFMOiu7sT1bZCVmx6\"}\n")
	r := house.StartRelay(t)
	open, closed := r.URL, gateway.Relay(t, "--web.config.file="+hash)
	full := gateway.Relay(t, "--push.max-inflight-bytes=1MB")
	a := house.StartSite(t, r, "site-a", "scrape_configs: []\n")
	for _, tt := range []struct{ url, want string }{
		{open + "/metrics/job/large", "413 body is larger than 16777216 bytes (--push.max-body-size)"},
		{a.URL + "/metrics/job/large", "413 body is larger than 16777216 bytes (--push.max-body-size)"},
		{open + "/metrics/job/j/branch/a%2Fb", "400 a value has a slash"},
		{open + "/api/v1/admin/wipe", "404 the admin API is not enabled (--web.enable-admin-api)"},
		{closed.URL + "/metrics/job/large", "401 Unauthorized"},
		{full.URL + "/metrics/job/large", "413 body is larger"},
	} {
		out, err := exec.CommandContext(t.Context(), python, "-c", urllibPut, tt.url).CombinedOutput()
		if err != nil || !strings.HasPrefix(string(out), tt.want) {
			t.Errorf("%s: %q, %v, want %q", tt.url, out, err, tt.want)
		}
	}
}
