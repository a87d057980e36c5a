//go:build linux

package command_test

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/house"
	"pushrelay/internal/e2e/program"
)

// TestWebTLS: the web configuration file gives the HTTP port TLS, and lets in only those who have a certificate.
func TestWebTLS(t *testing.T) {
	t.Parallel()
	curl := program.RequireProgram(t, "/usr/bin/curl", "curl")
	issuer := house.StartRelay(t)
	server, alice := filepath.Join(t.TempDir(), "server"), issuer.Issue(t, "alice")
	program.MustOutput(t, program.Command{Path: program.RelayServer(), Args: []string{"--data.dir=" + issuer.DataDir, "relay-certificate", "--out=" + server}})
	ca := filepath.Join(server, "ca.crt")
	file := filepath.Join(t.TempDir(), "web.yml")
	client.WriteFile(t, file, fmt.Sprintf("tls_server_config: {cert_file: %s, key_file: %s, client_auth_type: RequireAndVerifyClientCert, client_ca_file: %s}\n",
		filepath.Join(server, "relay.crt"), filepath.Join(server, "relay.key"), ca))
	known := []string{"--cert", filepath.Join(alice, "agent.crt"), "--key", filepath.Join(alice, "agent.key")}

	for name, line := range map[string][]string{
		"relay":     {program.RelayServer(), "--data.dir="},
		"reference": {program.RequireProgram(t, "/usr/bin/prometheus-pushgateway", "prometheus-pushgateway"), "--persistence.file="},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := program.FreeAddress(t)
			program.Start(t, program.Command{Path: line[0], Args: append(line[1:], "--web.listen-address="+address, "--web.config.file="+file)})
			send := func(url string, args ...string) program.Result {
				return program.Output(t, program.Command{Path: curl, Args: append([]string{"--silent", "--show-error", "--fail-with-body", "--cacert", ca, url}, args...)})
			}
			client.Eventually(t, 20*time.Second, name+" answers", func() error {
				if r := send("https://"+address+"/-/ready", known...); r.Code != 0 {
					return fmt.Errorf("curl: %s", r.Stderr)
				}
				return nil
			})
			if r := send("https://"+address+"/metrics/job/j", append(known, "--data-binary", "m 1\n")...); r.Code != 0 {
				t.Errorf("a push: %s %s", r.Stderr, r.Stdout)
			}
			if r := send("https://"+address+"/metrics", known...); !strings.Contains(r.Stdout, `m{instance="",job="j"} 1`) {
				t.Errorf("a scrape: %s %.2000s", r.Stderr, r.Stdout)
			}
			if r := send("https://" + address + "/metrics"); r.Code == 0 {
				t.Error("a scrape without a certificate is answered")
			}
			if r, err := client.Fetch(http.MethodGet, "http://"+address+"/metrics", nil); err != nil || r.Status != http.StatusBadRequest {
				t.Errorf("a scrape without TLS: %d %v, want 400", r.Status, err)
			}
		})
	}
}
