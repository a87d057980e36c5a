package agent_test

import (
	"strings"
	"testing"

	"pushrelay/internal/agent"
	"pushrelay/internal/mtls"
)

// What is no URL of a proxy is refused, without a word of it: it may hold a password.
func TestProxyURLs(t *testing.T) {
	for name, tt := range map[string]struct {
		url  string
		want string // in the error; empty: it is taken
	}{
		"complete":            {"http://user:pa%23ss@proxy.test:3128", ""},
		"with a slash":        {"http://proxy.test:3128/", ""},
		"without a port":      {"http://proxy.test", ""},
		"upper case":          {"HTTP://proxy.test:3128", ""},
		"no scheme":           {"127.0.0.1:3128", ""},
		"no scheme, user":     {"user:secret@proxy.test:3128", ""},
		"IPv6":                {"[::1]:3128", ""},
		"at sign in password": {"http://user:sec@ret@proxy.test:3128", ""},

		"fragment":              {"http://user:sec#ret@proxy.test:3128", "percent-encode"},
		"digits, then fragment": {"http://user:123#secret@proxy.test:3128", "percent-encode"},
		"query":                 {"http://user:sec?ret@proxy.test:3128", "percent-encode"},
		"slash in password":     {"http://user:sec/ret@proxy.test:3128", "percent-encode"},
		"path":                  {"http://proxy.test:3128/secret", "percent-encode"},
		"no scheme, fragment":   {"user:sec#ret@proxy.test:3128", "percent-encode"},
		"broken escape":         {"http://user:secret%@proxy.test:3128", "percent-encode"},
		"space":                 {"http://user:secret @proxy.test:3128", "percent-encode"},
		"bracket":               {"http://user:secret[@proxy.test:3128", "percent-encode"},
		"another scheme":        {"https://user:secret@proxy.test:3128", "another scheme"},
		"scheme in password":    {"user:secret://x@proxy.test:3128", "another scheme"},
		"port":                  {"http://user:secret@proxy.test:99999", "1 to 65535"},
		"cut off":               {"http://user:secret", "cannot be read"},
		"empty port":            {"http://secret:", "cannot be read"},
		"no host":               {"http://user:secret@:3128", "cannot be read"},
	} {
		t.Run(name, func(t *testing.T) {
			check := func(where, prefix string) {
				t.Helper()
				_, err := agent.New(agent.Options{RelayAddresses: []string{"relay.test:9443"}, RelayProxyURL: tt.url, PushWait: 1})
				if where == "HTTPS_PROXY" {
					_, err = agent.New(agent.Options{RelayAddresses: []string{"relay.test:9443"}, PushWait: 1})
				}
				if err == nil {
					t.Fatal("New() without certificates succeeded")
				}
				if tt.want == "" {
					if !strings.Contains(err.Error(), "cannot keep an identity") {
						t.Errorf("%s: error = %v, want none about the proxy", where, err)
					}
					return
				}
				if !strings.Contains(err.Error(), prefix) || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("%s: error = %v, want one with %q and %q", where, err, prefix, tt.want)
				}
				for _, part := range []string{"sec", "ret", "user:", "123"} {
					if strings.Contains(strings.ReplaceAll(strings.ReplaceAll(err.Error(), "special", ""), "[user:password@]", ""), part) {
						t.Errorf("%s: error = %v, holds %q", where, err, part)
					}
				}
			}
			t.Setenv("HTTPS_PROXY", "")
			check("flag", "--relay.proxy-url: ")
			t.Setenv("HTTPS_PROXY", tt.url)
			check("HTTPS_PROXY", "(HTTPS_PROXY): ")
		})
	}
}

func TestProxyOfTheEnvironmentThatIsNotUsed(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://user:sec#ret@proxy.test")
	t.Setenv("NO_PROXY", "relay.test")
	if _, err := agent.New(agent.Options{RelayAddresses: []string{"relay.test:9443"}, PushWait: 1}); err == nil || strings.Contains(err.Error(), "PROXY") {
		t.Errorf("New() error = %v, want none about a proxy that NO_PROXY rules out", err)
	}
}

func TestRelayAddresses(t *testing.T) {
	for address, taken := range map[string]bool{
		"relay.test:9443": true, "[::1]:9443": true, "relay.test:https": true,
		"relay.test:99999": false, "relay.test:9443/": false, "relay.test:0": false, "relay.test:": false, ":9443": false,
		"relay.test": false, "https://relay.test:9443": false, "relay.test/x:9443": false, "user@relay.test:9443": false,
		" relay.test:9443": false, "relay.test:94 43": false, "relay.test:no-such-service": false, "relay.test:-1": false,
	} {
		_, err := agent.New(agent.Options{RelayAddresses: []string{address}, PushWait: 1})
		if err == nil || strings.Contains(err.Error(), "--relay.address") == taken {
			t.Errorf("--relay.address %q: error = %v, want it taken: %v", address, err, taken)
		}
	}
}

// Names of hosts are given as browsers write them, without what belongs to a URL.
func TestAllowedHosts(t *testing.T) {
	for host, taken := range map[string]bool{
		"agent.example.org": true, "pushgateway": true, "127.0.0.1": true, "Agent_1.": true,
		"http://agent.test": false, "agent.test:9091": false, "agent.test/": false, "": false, "*": false, "*.test": false, "a b": false, ".": false,
	} {
		missing := mtls.Files{CAFile: "/missing", CertFile: "/missing", KeyFile: "/missing"}
		_, err := agent.New(agent.Options{RelayAddresses: []string{"relay.test:9443"}, TLS: missing, PushWait: 1, AllowedHosts: []string{host}})
		if err == nil || strings.Contains(err.Error(), "--web.allowed-host") == taken {
			t.Errorf("--web.allowed-host %q: error = %v, want it taken: %v", host, err, taken)
		}
	}
}
