package relay_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"

	"pushrelay/internal/relay"
	"pushrelay/internal/relaytest"
)

// serve has relays follow one another in this process until end is called, or the test ends.
func serve(t *testing.T) (servers <-chan *relay.Server, end func()) {
	t.Helper()
	opts := relaytest.Options(t)
	ctx, cancel := context.WithCancel(context.Background())
	all := make(chan *relay.Server, 10)
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := relay.Serve(ctx, opts, func(s *relay.Server) { all <- s }); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); serving.Wait() })
	return all, cancel
}

// TestRestartInPlace: whoever pushes and scrapes while a relay restarts in place waits and is answered, and what was pushed before is there.
func TestRestartInPlace(t *testing.T) {
	servers, _ := serve(t)
	s := <-servers
	url := "http://" + s.Addr().String()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	do := func(method, path, body string) (int, string) {
		r, err := http.NewRequestWithContext(t.Context(), method, url+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(r)
		if err != nil {
			t.Errorf("%s %s: %v", method, path, err)
			return 0, ""
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Errorf("%s %s: %v", method, path, err)
		}
		return resp.StatusCode, string(text)
	}
	for status := 0; status != http.StatusOK; {
		status, _ = do(http.MethodGet, "/-/ready", "")
	}
	for i := range 5 {
		if status, text := do(http.MethodPut, "/metrics/job/a", "x 1\n"); status != http.StatusOK {
			t.Fatalf("push %d: %d %s", i, status, text)
		}
		s.Restart()
		next := <-servers
		if next == s {
			t.Fatal("the same relay came again")
		}
		s = next
		status, text := do(http.MethodGet, "/metrics", "")
		if status != http.StatusOK || !strings.Contains(text, `x{instance="",job="a"} 1`) {
			t.Fatalf("scrape %d: %d %s", i, status, text)
		}
	}
}

// TestNobodyWaitsForTheEnd: what is in flight when a relay ends is answered, and who connects meanwhile is refused, and can ask another relay.
func TestNobodyWaitsForTheEnd(t *testing.T) {
	servers, end := serve(t)
	address := (<-servers).Addr().String()
	relaytest.Eventually(t, "relay is ready", func() bool {
		status, _ := relaytest.Get(t, "http://"+address+"/-/ready")
		return status == http.StatusOK
	})
	pushing, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer pushing.Close()
	io.WriteString(pushing, "PUT /metrics/job/a HTTP/1.1\r\nHost: relay\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
	answers := bufio.NewReader(pushing)
	if resp, err := http.ReadResponse(answers, nil); err != nil || resp.StatusCode != http.StatusContinue {
		t.Fatalf("a push is not read: %v, %v", resp, err)
	}
	end()
	relaytest.Eventually(t, "nobody can connect", func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
		}
		return errors.Is(err, syscall.ECONNREFUSED)
	})
	io.WriteString(pushing, "x 1\n")
	resp, err := http.ReadResponse(answers, nil)
	if err != nil {
		t.Fatalf("a push that was in flight: %v", err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("a push that was in flight: %s", resp.Status)
	}
}
