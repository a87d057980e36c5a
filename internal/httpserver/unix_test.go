package httpserver_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/common/promslog"

	"pushrelay/internal/httpserver"
)

// hello answers every request.
var hello = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") })

// ask sends a request to a Unix socket and returns the answer.
func ask(t *testing.T, path string) (string, error) {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://localhost/", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := transport.RoundTrip(r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

func wantHello(t *testing.T, path string) {
	t.Helper()
	if body, err := ask(t, path); err != nil || body != "hello" {
		t.Errorf("the answer at %s = %q, %v, want hello", path, body, err)
	}
}

// wantRefused checks that a server cannot listen, and says why.
func wantRefused(t *testing.T, reason string, addresses ...string) {
	t.Helper()
	s, err := httpserver.Listen(httpserver.Config{Flags: flags(addresses...), Logger: promslog.NewNopLogger()})
	if err == nil {
		s.Close()
		t.Fatalf("Listen(%q) succeeded, want an error with %q", addresses, reason)
	}
	if !strings.Contains(err.Error(), reason) {
		t.Errorf("Listen(%q) = %v, want %q in it", addresses, err, reason)
	}
}

// deadSocket leaves the socket of a process that was killed.
func deadSocket(t *testing.T, path string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
}

func TestUnixSocketBesideOthers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, second := filepath.Join(dir, "first"), filepath.Join(dir, "second")
	s, stop := serveOn(t, hello, "127.0.0.1:0", "unix:"+first, "unix:"+second)
	wantHello(t, first)
	wantHello(t, second)
	conn, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if found, err := os.Stat(first); err != nil || found.Mode().Perm() != 0o660 {
		t.Errorf("mode of the socket = %v, %v, want 0660", found.Mode(), err)
	}
	stop()
	for _, path := range []string{first, second} {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the socket %s was left behind: %v", path, err)
		}
	}
}

func TestUnixSocketOfADeadProcess(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	deadSocket(t, path)
	serveOn(t, hello, "unix:"+path)
	wantHello(t, path)
}

// TestUnixSocketOfALiveProcess: whoever comes second must neither get the socket nor take it from the first, also when it
// fails at another address of its own.
func TestUnixSocketOfALiveProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	serveOn(t, hello, "unix:"+path)
	wantRefused(t, "unix:"+path+": another process listens on this socket", "unix:"+path)
	wantRefused(t, "another process listens", "unix:"+filepath.Join(dir, "own"), "unix:"+path)
	wantRefused(t, "another process listens", "unix:"+filepath.Join(dir, "twice"), "unix:"+filepath.Join(dir, "twice"))
	wantHello(t, path)
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 {
		t.Errorf("what failed left %v, %v", left, err)
	}
}

func TestUnixSocketRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, link := filepath.Join(dir, "file"), filepath.Join(dir, "link")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	dead := filepath.Join(dir, "dead")
	deadSocket(t, dead)
	if err := os.Symlink(dead, link); err != nil {
		t.Fatal(err)
	}
	wantRefused(t, "no socket", "unix:"+file)
	wantRefused(t, "no socket", "unix:"+link)
	wantRefused(t, "want a path", "unix:")
	wantRefused(t, "no such file", "unix:"+filepath.Join(dir, "missing", "s"))
	wantRefused(t, "200 bytes", "unix:"+"/"+strings.Repeat("x", 199))
	if content, err := os.ReadFile(file); err != nil || string(content) != "precious" {
		t.Errorf("the file is now %q, %v", content, err)
	}
}

// TestPrivateSocket: nobody but its owner may connect, and what a dead process left makes way.
func TestPrivateSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control.sock")
	for range 2 {
		s, err := httpserver.ListenPrivate(path, promslog.NewNopLogger())
		if err != nil {
			t.Fatal(err)
		}
		if stat, err := os.Stat(path); err != nil || stat.Mode() != fs.ModeSocket|0o600 {
			t.Errorf("the socket is %v, %v", stat, err)
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- s.Run(ctx, hello, 0) }()
		if body, err := ask(t, path); err != nil || body != "hello" {
			t.Errorf("an answer of %q, %v", body, err)
		}
		if _, err := httpserver.ListenPrivate(path, promslog.NewNopLogger()); err == nil || !strings.Contains(err.Error(), "another process listens") {
			t.Errorf("a second server: %v", err)
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	if _, err := httpserver.ListenPrivate(filepath.Join(t.TempDir(), strings.Repeat("x", 120)), promslog.NewNopLogger()); err == nil || !strings.Contains(err.Error(), "bytes") {
		t.Errorf("a long path: %v", err)
	}
}
