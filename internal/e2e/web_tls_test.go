//go:build linux

package e2e_test

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestWebTLS: the web configuration file gives the HTTP port TLS, and lets in only those who have a certificate.
func TestWebTLS(t *testing.T) {
	t.Parallel()
	curl := requireProgram(t, "/usr/bin/curl", "curl")
	issuer := startRelay(t)
	server, client := filepath.Join(t.TempDir(), "server"), issuer.issue(t, "alice")
	mustOutput(t, command{path: programs.relayServer, args: []string{"--data.dir=" + issuer.dataDir, "relay-certificate", "--out=" + server}})
	ca := filepath.Join(server, "ca.crt")
	file := filepath.Join(t.TempDir(), "web.yml")
	writeFile(t, file, fmt.Sprintf("tls_server_config: {cert_file: %s, key_file: %s, client_auth_type: RequireAndVerifyClientCert, client_ca_file: %s}\n",
		filepath.Join(server, "relay.crt"), filepath.Join(server, "relay.key"), ca))
	known := []string{"--cert", filepath.Join(client, "agent.crt"), "--key", filepath.Join(client, "agent.key")}

	for name, program := range map[string][]string{
		"relay":     {programs.relayServer, "--data.dir="},
		"reference": {requireProgram(t, "/usr/bin/prometheus-pushgateway", "prometheus-pushgateway"), "--persistence.file="},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := freeAddress(t)
			start(t, command{path: program[0], args: append(program[1:], "--web.listen-address="+address, "--web.config.file="+file)})
			send := func(url string, args ...string) result {
				return output(t, command{path: curl, args: append([]string{"--silent", "--show-error", "--fail-with-body", "--cacert", ca, url}, args...)})
			}
			eventually(t, 20*time.Second, name+" answers", func() error {
				if r := send("https://"+address+"/-/ready", known...); r.code != 0 {
					return fmt.Errorf("curl: %s", r.stderr)
				}
				return nil
			})
			if r := send("https://"+address+"/metrics/job/j", append(known, "--data-binary", "m 1\n")...); r.code != 0 {
				t.Errorf("a push: %s %s", r.stderr, r.stdout)
			}
			if r := send("https://"+address+"/metrics", known...); !strings.Contains(r.stdout, `m{instance="",job="j"} 1`) {
				t.Errorf("a scrape: %s %.2000s", r.stderr, r.stdout)
			}
			if r := send("https://" + address + "/metrics"); r.code == 0 {
				t.Error("a scrape without a certificate is answered")
			}
			if r, err := fetch(http.MethodGet, "http://"+address+"/metrics", nil); err != nil || r.status != http.StatusBadRequest {
				t.Errorf("a scrape without TLS: %d %v, want 400", r.status, err)
			}
		})
	}
}
