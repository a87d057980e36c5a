//go:build linux

package hostile_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	relayv1 "pushrelay/internal/gen/relay/v1"
)

// TestOddRequests: what a scraper's request says of its way, its credentials and its method does not reach a target, nor do trailers go either way;
// and a URL of another scheme is nobody's.
func TestOddRequests(t *testing.T) {
	r := startRelay(t)
	seen := make(chan http.Header, 1)
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header["Trailer"] = append(r.Header["Trailer"], r.Trailer.Get("X"))
		if r.Trailer == nil {
			delete(r.Header, "Trailer")
		}
		seen <- r.Header
		w.Header().Set("Trailer", "X-Evil, Set-Cookie")
		io.WriteString(w, "m 1\n")
		w.(http.Flusher).Flush()
		w.Header().Set("X-Evil", "1")
		w.Header().Set("Set-Cookie", "a=b")
	}))
	t.Cleanup(target.Close)
	address := strings.TrimPrefix(target.URL, "http://")
	startAgent(t, r.grpc, r.files("honest"), fmt.Sprintf("scrape_configs: [{job_name: j, static_configs: [{targets: [%q]}]}]", address)).attached()
	eventually(t, "the target is announced", func() bool {
		_, list := r.do(t.Context(), http.MethodGet, "/sd/targets", "")
		return strings.Contains(list, "honest")
	})
	ask := func(line, headers string) *http.Response {
		conn, err := net.Dial("tcp", r.web)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		conn.SetDeadline(time.Now().Add(patience))
		fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: r\r\n%s\r\n", line, headers)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Errorf("%s: %v", line, err)
		}
		return resp
	}
	odd := ""
	for _, header := range []string{
		"X-Forwarded-For: 127.0.0.1", "Forwarded: for=127.0.0.1", "X-Real-IP: 127.0.0.1", "X_Forwarded_For: 127.0.0.1", "X-Remote-User: root",
		"Authorization: Bearer x", "Cookie: a=b", "X-Api-Key: x", "X-Auth-Request-Access-Token: x", "Cf-Access-Jwt-Assertion: x",
		"X-HTTP-Method-Override: DELETE", "X-Original-URL: /admin", "Trailer: X", "TE: trailers", "Via: 1.1 x",
	} {
		odd += header + "\r\n"
	}
	for _, line := range []string{"GET /agents/honest/targets/j-" + address + "/metrics", "GET " + target.URL + "/metrics"} {
		for _, headers := range []string{"X-Foo: bar\r\n" + odd, "X-Foo: bar\r\n" + odd + "Transfer-Encoding: chunked\r\n\r\n0\r\nX: 1\r\n"} {
			resp := ask(line, headers)
			if resp.StatusCode != http.StatusOK || len(resp.Trailer) > 0 || resp.Header.Get("Trailer") != "" || resp.Header.Get("Set-Cookie") != "" {
				t.Errorf("%s is answered %d with %v, and the trailers %v", line, resp.StatusCode, resp.Header, resp.Trailer)
			}
			got := <-seen
			for name := range got {
				if name != "X-Foo" && name != "X-Prometheus-Scrape-Timeout-Seconds" {
					t.Errorf("%s: the target saw %s: %q", line, name, got[name])
				}
			}
		}
	}
	for _, scheme := range []string{"ftp", "ws", "gopher"} {
		if resp := ask("GET "+scheme+"://"+address+"/metrics", ""); resp.StatusCode != http.StatusBadRequest || len(seen) > 0 {
			t.Errorf("%s: is answered %d", scheme, resp.StatusCode)
		}
	}
}

// TestOddAges: an agent that gives its pushes any age has them at a time that there is.
func TestOddAges(t *testing.T) {
	r := startRelay(t)
	a := r.issue("evil").attached()
	go a.serve(nil)
	for i, age := range []*durationpb.Duration{{Seconds: 100 * 365 * 24 * 3600}, {Seconds: 1 << 62}, {Seconds: -1 << 62}, {Seconds: -1, Nanos: 1 << 30}} {
		begin := change(uint64(i+1), "m 1\n", &relayv1.Label{Name: "n", Value: fmt.Sprint(i)})
		begin.Age = age
		if v, err := a.push(begin, "m 1\n"); err != nil || v.GetApplied() == nil {
			t.Errorf("a push of the age %v: %v, %v", age, v, err)
		}
	}
	_, text := r.do(t.Context(), http.MethodGet, "/metrics", "")
	times := regexp.MustCompile(`(?m)^push_time_seconds\{.*\} (\S+)$`).FindAllStringSubmatch(text, -1)
	if len(times) != 4 {
		t.Errorf("there are %d times of pushes", len(times))
	}
	for _, found := range times {
		if at, err := strconv.ParseFloat(found[1], 64); err != nil || at < 1 || at > float64(time.Now().Add(time.Minute).Unix()) {
			t.Error(found[0])
		}
	}
}
