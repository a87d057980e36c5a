package relay_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"pushrelay/internal/relay"
	"pushrelay/internal/relaytest"
)

// TestRestartInPlace: whoever pushes and scrapes while a relay restarts in place waits and is answered, and what was pushed before is there.
func TestRestartInPlace(t *testing.T) {
	opts := relaytest.Options(t)
	ctx, cancel := context.WithCancel(context.Background())
	servers := make(chan *relay.Server, 10)
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := relay.Serve(ctx, opts, func(s *relay.Server) { servers <- s }); err != nil {
			t.Error(err)
		}
	})
	defer serving.Wait()
	defer cancel()
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
