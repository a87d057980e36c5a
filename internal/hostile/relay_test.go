//go:build linux

package hostile_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience bounds the wait for what must happen.
const patience = 20 * time.Second

// relay is a relay in a process of its own.
type relay struct {
	t              *testing.T
	url, web, grpc string
	dir            string
	pid            int
}

// startRelay starts a relay with further flags, and stops it when the test ends.
func startRelay(t *testing.T, flags ...string) *relay {
	t.Helper()
	r := &relay{t: t, dir: t.TempDir()}
	log, err := os.Create(r.log())
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	args := []string{"--web.listen-address=127.0.0.1:0", "--grpc.listen-address=127.0.0.1:0", "--grpc.tls.server-name=127.0.0.1", "--data.dir=" + r.data()}
	cmd := exec.Command(relayServer, append(args, flags...)...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = r.dir, log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r.pid = cmd.Process.Pid
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		hanging := time.AfterFunc(30*time.Second, func() { cmd.Process.Kill() })
		defer hanging.Stop()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the relay ended with %v:\n%s", err, tail(r.logged()))
		}
	})
	eventually(t, "relay is ready", func() bool {
		found := starts.FindStringSubmatch(r.logged())
		if found == nil {
			return false
		}
		r.web, r.grpc = found[1], found[2]
		r.url = "http://" + r.web
		if strings.Contains(strings.Join(flags, " "), "--web.config.file") {
			r.url = "http://right:right@" + r.web
		}
		if strings.Contains(strings.Join(flags, " "), tlsConfig) {
			r.url = "https://" + r.web
		}
		status, _ := r.do(t.Context(), http.MethodGet, "/-/ready", "")
		return status == http.StatusOK
	})
	return r
}

// starts is the line of the log that tells the addresses.
var starts = regexp.MustCompile(`relay starts.* addr=(\S+) .*grpc_addr=(\S+)`)

func (r *relay) data() string { return filepath.Join(r.dir, "data") }
func (r *relay) log() string  { return filepath.Join(r.dir, "log") }

func (r *relay) logged() string {
	text, err := os.ReadFile(r.log())
	if err != nil {
		r.t.Fatal(err)
	}
	return string(text)
}

func tail(text string) string { return text[max(0, len(text)-4<<10):] }

// do makes a request of a client and returns the status and the answer; 0 if there was no whole one.
func (r *relay) do(ctx context.Context, method, path, body string) (int, string) {
	req, err := http.NewRequestWithContext(ctx, method, r.url+path, strings.NewReader(body))
	if err != nil {
		return 0, err.Error()
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(text)
}

// client makes the requests of the honest.
var client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}, Timeout: time.Minute}

// elsewhere makes connections from another address than the honest have.
var elsewhere = &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 9)}}

// clientElsewhere makes requests from there.
var clientElsewhere = &http.Client{Transport: &http.Transport{DialContext: elsewhere.DialContext, MaxIdleConnsPerHost: 64}}

// vitals are what a relay takes.
type vitals struct {
	memory      int64 // bytes, resident
	goroutines  int
	descriptors int
	logged      int64 // bytes
}

// memory returns the resident memory.
func (r *relay) memory() int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.pid))
	if err != nil {
		r.t.Error(err)
		return 0
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	kilobytes, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	return kilobytes << 10
}

// vitals returns what the relay takes now.
func (r *relay) vitals() vitals {
	r.t.Helper()
	v := vitals{memory: r.memory()}
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", r.pid))
	if err != nil {
		r.t.Fatal(err)
	}
	v.descriptors = len(open)
	info, err := os.Stat(r.log())
	if err != nil {
		r.t.Fatal(err)
	}
	v.logged = info.Size()
	status, text := r.do(r.t.Context(), http.MethodGet, "/metrics", "")
	if status != http.StatusOK {
		r.t.Fatalf("/metrics: %d %s", status, text)
	}
	_, rest, _ := strings.Cut(text, "\ngo_goroutines ")
	v.goroutines, _ = strconv.Atoi(strings.Fields(rest)[0])
	return v
}

// eventually waits for what another process brings about.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("never happened: %s", what)
		}
		<-time.After(10 * time.Millisecond)
	}
}
