//go:build linux

package e2e_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"pushrelay/internal/need"
)

// requireProgram returns the path of a program of Debian's.
func requireProgram(t testing.TB, path, debianPackage string) string {
	t.Helper()
	if _, err := os.Stat(path); err != nil {
		need.Missing(t, "%s is not installed: `make deps` installs %s", path, debianPackage)
	}
	return path
}

func requireRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		need.Missing(t, "needs root")
	}
}

// ports hands out each port once. They lie below the range that the kernel takes for outgoing connections: one of those
// could otherwise hold the port of a program that is killed and started again.
var ports = struct {
	mu   sync.Mutex // guards next
	next int
}{next: 20000 + os.Getpid()%10000}

// freeAddress returns a loopback address that nothing listens on.
func freeAddress(t testing.TB) string {
	t.Helper()
	ports.mu.Lock()
	defer ports.mu.Unlock()
	for range 1000 {
		ports.next++
		address := fmt.Sprintf("127.0.0.1:%d", ports.next)
		l, err := net.Listen("tcp", address)
		if err != nil {
			continue
		}
		l.Close()
		return address
	}
	t.Fatal("no free port found")
	return ""
}

// eventually polls until check returns nil. Only other processes are waited for like this: they have no other way to say
// that they are ready.
func eventually(t testing.TB, within time.Duration, what string, check func() error) {
	t.Helper()
	deadline := time.After(within)
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("%s: not within %v: %v", what, within, err)
		case <-ticker.C:
		}
	}
}

// A response is an answer that was read whole.
type response struct {
	status int
	header http.Header
	body   string
}

var (
	errStatus         = errors.New("unexpected status")
	errNotConnected   = errors.New("the agent is not shown as connected")
	errStillConnected = errors.New("the relay still shows the agent as connected")
)

// fetch makes one request on a connection of its own, so that no test sees another's.
func fetch(method, url string, body io.Reader) (response, error) {
	req, err := http.NewRequest(method, url, body)
	if err != nil {
		return response{}, err
	}
	transport := &http.Transport{DisableKeepAlives: true}
	client := &http.Client{Timeout: 20 * time.Second, Transport: transport}
	resp, err := client.Do(req)
	if err != nil {
		return response{}, err
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	if err != nil {
		return response{}, fmt.Errorf("reading the answer of %s: %w", url, err)
	}
	return response{resp.StatusCode, resp.Header, string(content)}, nil
}

// wantOK is fetch for polls: any status but 200 is an error.
func wantOK(url string) (string, error) {
	r, err := fetch(http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	if r.status != http.StatusOK {
		return "", fmt.Errorf("%w: GET %s: %d %s", errStatus, url, r.status, r.body)
	}
	return r.body, nil
}

// mustGet fetches a page that has to be there.
func mustGet(t testing.TB, url string) string {
	t.Helper()
	body, err := wantOK(url)
	if err != nil {
		t.Fatal(err)
	}
	return body
}
