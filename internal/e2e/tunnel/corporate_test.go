//go:build linux

package tunnel_test

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pushrelay/internal/e2e/certificate"
	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/exporter"
	"pushrelay/internal/e2e/house"
	"pushrelay/internal/e2e/middlebox"
	"pushrelay/internal/e2e/program"
	"pushrelay/internal/faultproxy"
)

const proxyUser, proxyPassword = "site-a", "open-sesame"

func basic(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

// TestTunnelThroughProxy: an agent reaches its relay on port 443 through a CONNECT proxy that asks for a password and
// resolves the relay's name, and comes back through it.
func TestTunnelThroughProxy(t *testing.T) {
	t.Parallel()
	address := exporter.Serve(t, exporter.NewStaged())
	r := house.StartRelay(t, "--grpc.tls.server-name=relay.example.org")
	network := house.NewNetworkTo(t, r.GRPC, "proxy")
	for _, tt := range []struct {
		name, password string
		flags          func(url string) (before, after []string)
	}{
		{"by flag", proxyPassword, func(url string) (_, after []string) { return nil, []string{"--relay.proxy-url=" + url} }},
		{"by environment", "p@ss/word", func(url string) (before, _ []string) { return []string{"HTTPS_PROXY=" + url, "NO_PROXY="}, nil }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			proxy := (&middlebox.CorporateProxy{Authorization: basic(proxyUser, tt.password), Hosts: map[string]string{middlebox.RelayName: network.Addr()}}).Start(t)
			password := strings.NewReplacer("@", "%40", "/", "%2F").Replace(tt.password)
			environment, flags := tt.flags("http://" + proxyUser + ":" + password + "@" + proxy.Address)
			name := strings.ReplaceAll(tt.name, " ", "-")
			a := house.NewAgentVia(t, r, middlebox.RelayName, name, house.ConfigOf(address, exporter.StagedPaths...), flags...)
			if environment != nil {
				a.Command.Args = slices.Concat(environment, []string{a.Command.Path}, a.Command.Args)
				a.Command.Path = "/usr/bin/env"
			}
			a.Start(t)
			if asked, all := proxy.WasAsked(middlebox.RelayName); !asked {
				t.Errorf("the proxy was asked for %q, want %s", all, middlebox.RelayName)
			}
			url := r.TargetURL(name, "metrics", address)
			client.WantScraped(t, client.Patience, url, exporter.StagedBody)
			client.Push(t, a.URL+"/metrics/job/j", "m 1\n")
			session := r.Session(t, name)
			network.Cut(faultproxy.Reset)
			r.WantBack(t, session)
			client.WantScraped(t, client.Patience, url, exporter.StagedBody)
			if strings.Contains(a.Log.String(), tt.password) {
				t.Error("the log has the proxy's password")
			}
		})
	}
}

// TestTunnelProxySaysNo: what a proxy has against the connection is told in the log and at /-/ready, in words that a person
// can act on and without the password; pushes are taken meanwhile.
func TestTunnelProxySaysNo(t *testing.T) {
	t.Parallel()
	r := house.StartRelay(t, "--grpc.tls.server-name=relay.example.org")
	office := certificate.New(t, "Office Inspection CA")
	shown := certificate.RelayTemplate()
	shown.DNSNames = []string{"relay.example.org"}
	inspecting := office.Sign(t, "inspected", shown)
	hosts := map[string]string{middlebox.RelayName: r.GRPC}
	for _, tt := range []struct {
		name  string
		proxy *middlebox.CorporateProxy
		want  []string
	}{
		{"wrong password", &middlebox.CorporateProxy{Authorization: basic(proxyUser, "another"), Hosts: hosts}, []string{"proxy", "407", "authentication"}},
		{"relay not allowed", &middlebox.CorporateProxy{Authorization: basic(proxyUser, proxyPassword)}, []string{"proxy", middlebox.RelayName, "403"}},
		{"TLS is inspected", &middlebox.CorporateProxy{Authorization: basic(proxyUser, proxyPassword), Hosts: hosts, Inspect: &inspecting}, []string{"Office Inspection CA", "inspected on the way"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			proxy := tt.proxy.Start(t)
			a := house.NewAgentVia(t, r, middlebox.RelayName, "site-a", "scrape_configs: []\n", "--relay.proxy-url=http://"+proxyUser+":"+proxyPassword+"@"+proxy.Address)
			a.Process = program.Start(t, a.Command)
			client.Eventually(t, 20*time.Second, "the reason in the log", func() error { return program.Warned(a.Log.String(), tt.want) })
			ready := client.MustGet(t, a.URL+"/-/ready") // it takes pushes, so it is ready
			for _, word := range tt.want {
				if !strings.Contains(strings.ToLower(ready), strings.ToLower(word)) {
					t.Errorf("/-/ready does not say %q:\n%s", word, ready)
				}
			}
			for where, text := range map[string]string{"log": a.Log.String(), "/-/ready": ready} {
				if strings.Contains(text, proxyPassword) {
					t.Errorf("%s has the proxy's password", where)
				}
			}
			client.WantSeries(t, a.URL, fmt.Sprintf("relay_agent_connected{relay=%q}", middlebox.RelayName), 0)
		})
	}
}
