package httpserver_test

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"

	"pushrelay/internal/httpserver"
)

// asked is what a request says of itself.
type asked struct {
	method, host, origin, site string
}

// request writes it.
func (a asked) request(version string) string {
	text := a.method + " / HTTP/" + version + "\r\nConnection: close\r\n"
	for name, value := range map[string]string{"Host": a.host, "Origin": a.origin, "Sec-Fetch-Site": a.site} {
		if value != "" {
			text += name + ": " + value + "\r\n"
		}
	}
	return text + "\r\n"
}

// statusOf returns the status and the text of an answer.
func statusOf(t *testing.T, answer []byte) (status int, text string) {
	t.Helper()
	if _, err := fmt.Sscanf(string(answer), "HTTP/1.1 %d", &status); err != nil {
		if _, err := fmt.Sscanf(string(answer), "HTTP/1.0 %d", &status); err != nil {
			t.Fatalf("answer = %.200q", answer)
		}
	}
	_, text, _ = strings.Cut(string(answer), "\r\n\r\n")
	return status, text
}

func taken(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }

// TestOtherSites: what changes something is refused from pages of other sites, and from nobody else.
func TestOtherSites(t *testing.T) {
	t.Parallel()
	external := func(text string) *url.URL {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	for _, tt := range []struct {
		name string
		own  *url.URL
		asked
		want int
	}{
		{"a client", nil, asked{"PUT", "relay:9091", "", ""}, 200},
		{"a client that names its origin", nil, asked{"PUT", "relay:9091", "http://relay:9091", ""}, 200},
		{"the own page", nil, asked{"POST", "relay:9091", "http://relay:9091", "same-origin"}, 200},
		{"another site", nil, asked{"PUT", "relay:9091", "http://evil.test", "cross-site"}, 403},
		{"another site, in an old browser", nil, asked{"POST", "relay:9091", "http://evil.test", ""}, 403},
		{"another port", nil, asked{"POST", "relay:9091", "http://relay:3000", "same-site"}, 403},
		{"a page that hides where it is from", nil, asked{"POST", "relay:9091", "null", ""}, 403},
		{"another site deletes", nil, asked{"DELETE", "relay:9091", "http://evil.test", "cross-site"}, 403},
		{"another site, any method", nil, asked{"WIPE", "relay:9091", "http://evil.test", "cross-site"}, 403},
		{"another site reads", nil, asked{"GET", "relay:9091", "http://evil.test", "cross-site"}, 200},
		{"another site asks whether it may", nil, asked{"OPTIONS", "relay:9091", "http://evil.test", "cross-site"}, 200},
		{"the own page behind nginx", external("https://Relay.test:443/prefix/"), asked{"PUT", "127.0.0.1:9091", "https://relay.test", ""}, 200},
		{"the own page behind nginx, without TLS", external("http://relay.test"), asked{"PUT", "127.0.0.1:9091", "http://relay.test", ""}, 200},
		{"another site behind nginx", external("https://relay.test/"), asked{"PUT", "127.0.0.1:9091", "https://evil.test", ""}, 403},
		{"another port of it", external("https://relay.test/"), asked{"PUT", "127.0.0.1:9091", "https://relay.test:444", ""}, 403},
		{"a path alone is no origin", external("/prefix"), asked{"PUT", "127.0.0.1:9091", "https://relay.test", ""}, 403},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			handler := httpserver.RefuseOtherSites(tt.own, "do something else", http.HandlerFunc(taken))
			for socket, dial := range listeners(t, handler.ServeHTTP) {
				answer, err := exchange(t, dial, tt.request("1.1"))
				if err != nil {
					t.Fatal(err)
				}
				status, text := statusOf(t, answer)
				if status != tt.want || status == 403 && (!strings.Contains(text, fmt.Sprintf("%q", tt.origin)) || !strings.Contains(text, "do something else")) {
					t.Errorf("%s: answered %d %q, want %d", socket, status, text, tt.want)
				}
			}
		})
	}
}

// TestOtherHosts: on loopback, what a browser may ask in the name of another machine is refused with the flag that allows it; of programs
// nothing but what they read.
func TestOtherHosts(t *testing.T) {
	t.Parallel()
	machine, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	handler := httpserver.RefuseOtherHosts([]string{"agent.test"}, http.HandlerFunc(taken))
	dials := listeners(t, handler.ServeHTTP)
	for _, tt := range []struct {
		name string
		asked
		want int
	}{
		{"localhost", asked{"GET", "localhost:9091", "", ""}, 200},
		{"localhost, in capitals", asked{"GET", "LOCALHOST.", "", ""}, 200},
		{"an address", asked{"GET", "127.0.0.1:9091", "", ""}, 200},
		{"an IPv6 address", asked{"GET", "[::1]:9091", "", ""}, 200},
		{"an IPv6 address without a port", asked{"GET", "[::1]", "", ""}, 200},
		{"the machine", asked{"HEAD", machine + ":1", "", ""}, 200},
		{"an allowed host", asked{"GET", "agent.test:80", "", ""}, 200},
		{"another host", asked{"GET", "evil.test:9091", "", "same-origin"}, 421},
		{"another host, in an old browser", asked{"GET", "evil.test:9091", "", ""}, 421},
		{"a longer name", asked{"GET", "localhost.evil.test", "", ""}, 421},
		{"a shorter name", asked{"GET", "evil-localhost", "", ""}, 421},
		{"what looks like an address", asked{"GET", "127.0.0.1.evil.test", "", ""}, 421},
		{"a user", asked{"GET", "localhost@evil.test", "", ""}, 400},
		{"a program pushes under another name", asked{"PUT", "pushgateway:9091", "", ""}, 200},
		{"a page of this machine", asked{"POST", "localhost:9091", "http://localhost:3000", ""}, 200},
		{"a page of another host", asked{"POST", "evil.test:9091", "http://evil.test:9091", ""}, 421},
		{"a page of another host, with TLS", asked{"POST", "localhost:9091", "https://evil.test", "same-origin"}, 421},
		{"a page that hides where it is from", asked{"POST", "evil.test:9091", "null", ""}, 421},
		{"a browser that names no origin", asked{"POST", "evil.test:9091", "", "same-origin"}, 421},
		{"an allowed page", asked{"PUT", "127.0.0.1:9091", "https://agent.test", ""}, 200},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for socket, dial := range dials {
				answer, err := exchange(t, dial, tt.request("1.1"))
				if err != nil {
					t.Fatal(err)
				}
				status, text := statusOf(t, answer)
				want := tt.want
				if socket == "unix" && want == 421 {
					want = 200
				}
				if status != want || status == 421 && !strings.Contains(text, "--web.allowed-host=") {
					t.Errorf("%s: answered %d %q, want %d", socket, status, text, want)
				}
			}
		})
	}
	t.Run("no host at all", func(t *testing.T) {
		answer, err := exchange(t, dials["tcp"], asked{method: "GET"}.request("1.0"))
		if err != nil {
			t.Fatal(err)
		}
		if status, text := statusOf(t, answer); status != 200 {
			t.Errorf("answered %d %q, want 200", status, text)
		}
	})
}
